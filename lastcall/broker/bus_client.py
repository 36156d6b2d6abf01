"""A worker's side of the host bus: what it published, subscribed and asked, through every loss.

It holds no socket: whoever connects it to a sequencer gives it a function that sends. So the
sequencer's own worker and all others run the same code.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from lastcall.broker.base import BrokerEvents, History, Publication, StreamPosition
from lastcall.broker.bus_messages import (
    Clear,
    Delivery,
    FromSequencer,
    FromWorker,
    Outcomes,
    Page,
    Pong,
    Publish,
    Read,
    Subscribe,
    Unsubscribe,
)
from lastcall.broker.unacknowledged import ANSWER_SECONDS, Unacknowledged, fail
from lastcall.errors import BrokerUnavailable, UnrecoverablePosition
from lastcall.stream_log import Append

NOT_RUNNING = "the broker is not running"


@dataclass(eq=False, slots=True)
class _Subscription:
    """A channel of this worker; without a position until the sequencer has named one."""

    channel: str
    position: StreamPosition | None = None
    waiting: "set[asyncio.Future[StreamPosition]]" = field(default_factory=set)
    asking: bool = False


@dataclass(eq=False, slots=True)
class _Reading:
    """A read of history, page by page."""

    channel: str
    since: StreamPosition | None
    limit: int | None
    result: "asyncio.Future[History]"
    found: list[Publication] = field(default_factory=list)

    def question(self, request: int) -> Read:
        """What to ask for next."""
        if not self.found:
            return Read(request, self.channel, self.since, self.limit)
        last = self.found[-1]
        left = None if self.limit is None else self.limit - len(self.found)
        return Read(request, self.channel, StreamPosition(last.offset, last.epoch), left)

    def take(self, page: Page) -> bool:
        """Add *page*; whether that was the last."""
        if page.unrecoverable and self.since is None:
            # Trimmed behind our back: from the beginning means from where it begins now.
            self.found.clear()
        self.found += page.publications
        return page.end == page.top or (self.limit is not None and len(self.found) >= self.limit)


@dataclass(eq=False, slots=True)
class _Clearing:
    """A channel whose publications shall be forgotten."""

    channel: str
    result: "asyncio.Future[None]"


class BusClient:
    """Publishes, subscribes and reads through whatever sequencer there is."""

    def __init__(self) -> None:
        """Begin closed; see `open`."""
        self._events: BrokerEvents | None = None
        self._send: Callable[[FromWorker], None] | None = None
        self._available = False
        self._unacknowledged = Unacknowledged()
        self._subscriptions: dict[str, _Subscription] = {}
        self._request = 0
        self._asked: dict[int, _Subscription | _Reading | _Clearing] = {}
        self._readings: set[_Reading] = set()
        self._clearings: set[_Clearing] = set()
        self._failed: set[_Subscription] = set()

    def open(self, events: BrokerEvents) -> None:
        """Take publications from now on; they wait until there is a sequencer."""
        self._events = events

    def close(self) -> None:
        """Fail all that waits."""
        self.disconnected()
        self._events = None
        self._unacknowledged.fail_all(NOT_RUNNING)
        for subscription in self._subscriptions.values():
            for waiting in subscription.waiting:
                fail(waiting, NOT_RUNNING)
        for reading in self._readings:
            fail(reading.result, NOT_RUNNING)
        for clearing in self._clearings:
            fail(clearing.result, NOT_RUNNING)
        self._subscriptions.clear()

    def connected(self, send: Callable[[FromWorker], None]) -> None:
        """Go on by *send*: subscribe from where we are, send again what is not acknowledged."""
        self._send = send
        for subscription in list(self._subscriptions.values()):
            self._ask_for(subscription)
        for append in self._unacknowledged:
            send(Publish(append))
        for reading in list(self._readings):
            self._ask(reading)
        for clearing in list(self._clearings):
            self._ask_to_clear(clearing)

    def disconnected(self) -> None:
        """Wait for another sequencer."""
        self._send = None
        self._asked.clear()
        self._tell_available(yes=False)

    def publish(self, append: Append) -> "asyncio.Future[StreamPosition]":
        """See `Broker.publish`."""
        result: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
        if self._events is None:
            fail(result, NOT_RUNNING)
            return result
        numbered = self._unacknowledged.add(append, result)
        if numbered is not None and self._send is not None:
            self._send(Publish(numbered))
        return result

    async def subscribe(self, channel: str) -> StreamPosition:
        """See `Broker.subscribe`."""
        self._require_open()
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = self._subscriptions[channel] = _Subscription(channel)
            self._ask_for(subscription)
        if subscription.position is not None:
            return subscription.position
        result: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
        subscription.waiting.add(result)
        try:
            return await self._answer(result)
        finally:
            subscription.waiting.discard(result)
            if subscription.position is None and not subscription.waiting:
                self._drop(subscription)

    def unsubscribe(self, channel: str) -> None:
        """See `Broker.unsubscribe`."""
        if (subscription := self._subscriptions.get(channel)) is not None:
            for waiting in subscription.waiting:
                fail(waiting, f"{channel!r} was unsubscribed meanwhile")
            self._drop(subscription)

    async def history(
        self, channel: str, since: StreamPosition | None, limit: int | None
    ) -> History:
        """See `Broker.history`."""
        self._require_open()
        result: asyncio.Future[History] = asyncio.get_running_loop().create_future()
        reading = _Reading(channel, since, None if limit is None else max(limit, 0), result)
        self._readings.add(reading)
        self._ask(reading)
        try:
            return await self._answer(result)
        finally:
            self._readings.discard(reading)

    async def clear(self, channel: str) -> None:
        """See `Broker.clear`."""
        self._require_open()
        result: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        clearing = _Clearing(channel, result)
        self._clearings.add(clearing)
        self._ask_to_clear(clearing)
        try:
            await self._answer(result)
        finally:
            self._clearings.discard(clearing)

    def expire(self, now: float) -> None:
        """Fail what was not acknowledged in time; call it about every second."""
        self._unacknowledged.expire(now)
        again, self._failed = self._failed, set()
        for subscription in again:
            if self._subscriptions.get(subscription.channel) is subscription:
                self._ask_for(subscription)

    def receive(self, message: FromSequencer) -> None:
        """Take what the sequencer says."""
        match message:
            case Delivery(publication):
                self._deliver(publication)
            case Outcomes(outcomes):
                for outcome in outcomes:
                    self._unacknowledged.take(outcome)
            case Page():
                self._take_page(message)
            case Pong(writable):
                self._tell_available(yes=writable)

    def _deliver(self, publication: Publication) -> None:
        subscription = self._subscriptions.get(publication.channel)
        if subscription is None and self._send is not None:
            # On its way while we unsubscribed; or the sequencer took that before the subscribing,
            # for which it had to read the file.
            self._send(Unsubscribe(publication.channel))
        # Without a position these are the last ones of a subscription that was given up.
        if subscription is None or subscription.position is None or self._events is None:
            return
        position = subscription.position
        if publication.epoch == position.epoch and publication.offset <= position.offset:
            return
        if publication.epoch != position.epoch or publication.offset != position.offset + 1:
            # The channel was forgotten and begun again: let the sequencer say where it stands.
            if not subscription.asking:
                self._ask_for(subscription)
            return
        subscription.position = StreamPosition(publication.offset, publication.epoch)
        self._events.deliver(publication)

    def _take_page(self, page: Page) -> None:
        asker = self._asked.pop(page.request, None)
        if isinstance(asker, _Reading):
            self._take_read(asker, page)
        elif isinstance(asker, _Clearing):
            self._take_cleared(asker, page)
        elif asker is not None and self._subscriptions.get(asker.channel) is asker:
            self._take_subscribed(asker, page)

    def _take_subscribed(self, subscription: _Subscription, page: Page) -> None:
        subscription.asking = False
        if page.failure:
            # Asked again soon; until then this channel is silent, not wrong.
            self._failed.add(subscription)
            for waiting in subscription.waiting:
                fail(waiting, page.failure)
            return
        before, subscription.position = subscription.position, page.since
        if before not in (None, page.since) and self._events is not None:
            self._events.reset(subscription.channel, page.since)
        for publication in page.publications:
            self._deliver(publication)
        for waiting in subscription.waiting:
            if not waiting.done():
                waiting.set_result(page.since)
        if page.end != page.top and self._subscriptions.get(subscription.channel) is subscription:
            self._ask_for(subscription)

    def _take_read(self, reading: _Reading, page: Page) -> None:
        if reading.result.done():
            return
        if page.failure:
            fail(reading.result, page.failure)
        elif page.unrecoverable and reading.since is not None:
            since = reading.since
            reading.result.set_exception(
                UnrecoverablePosition(
                    f"{reading.channel!r} does not reach back to {since.offset}"
                    f" of epoch {since.epoch!r}"
                )
            )
        elif reading.take(page):
            reading.result.set_result(History(reading.found, page.top))
        else:
            self._ask(reading)

    def _take_cleared(self, clearing: _Clearing, page: Page) -> None:
        if page.failure:
            fail(clearing.result, page.failure)
        elif not clearing.result.done():
            clearing.result.set_result(None)

    def _ask_to_clear(self, clearing: _Clearing) -> None:
        if self._send is not None:
            self._send(Clear(self._next_request(clearing), clearing.channel))

    def _ask_for(self, subscription: _Subscription) -> None:
        if self._send is not None:
            subscription.asking = True
            request = self._next_request(subscription)
            self._send(Subscribe(request, subscription.channel, subscription.position))

    def _ask(self, reading: _Reading) -> None:
        if self._send is not None:
            self._send(reading.question(self._next_request(reading)))

    def _next_request(self, asker: _Subscription | _Reading | _Clearing) -> int:
        self._request += 1
        self._asked[self._request] = asker
        return self._request

    async def _answer[Answer](self, result: "asyncio.Future[Answer]") -> Answer:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await result
        except TimeoutError:
            raise BrokerUnavailable("the workers of this host did not answer in time") from None

    def _drop(self, subscription: _Subscription) -> None:
        if self._subscriptions.get(subscription.channel) is subscription:
            del self._subscriptions[subscription.channel]
            if self._send is not None:
                self._send(Unsubscribe(subscription.channel))

    def _require_open(self) -> None:
        if self._events is None:
            raise BrokerUnavailable(NOT_RUNNING)

    def _tell_available(self, *, yes: bool) -> None:
        if yes != self._available and self._events is not None:
            self._available = yes
            self._events.available(yes)
