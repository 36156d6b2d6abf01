"""The channels that this worker hears from an engine: each followed without a gap, or reset aloud.

The same for every engine that tells what is published and forgets it, and has streams to read
what was missed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lastcall.broker.base import BrokerEvents, Publication, StreamPosition
from lastcall.broker.following import Following, Page
from lastcall.errors import BrokerUnavailable

ANSWER_SECONDS = 5.0
"""How long anybody waits for an engine's answer, through the loss of a connection."""
PAGE = 1000
"""Publications that are read at once."""
READS_AT_ONCE = 200
"""Channels that are read at the same time after a loss; publishing goes on between them."""
CHECKS_AT_ONCE = 250
"""Channels that are looked after in one tick, at most."""
CHECK_SECONDS = 30.0
"""Between two looks whether a channel is where we think; longer where there are very many."""

type Read = Callable[[str, StreamPosition | None, int], "asyncio.Future[Page]"]
"""Read a channel after a position that this worker has heard, so many publications at most.

Without a position, where the channel stands.
"""
type Want = Callable[[str, bool], object]
"""Have a channel told to this worker, or no more; `confirmed` says when it is."""


@dataclass(eq=False, slots=True)
class _Subscription:
    """A channel of this worker, and who waits to hear where it stands."""

    following: Following
    waiting: "set[asyncio.Future[StreamPosition]]" = field(default_factory=set)
    is_confirmed: bool = False
    """Whether the engine has said that it tells us what is published from here on."""
    is_reading: bool = False


class HeardChannels:
    """Follows the channels that are subscribed, by what is heard and what the streams have."""

    def __init__(self, engine: str, read: Read, want: Want) -> None:
        """Ask the engine of this name by *read* and *want*."""
        self._engine = engine
        self._ask_stream = read
        self._want = want
        self._events: BrokerEvents | None = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._to_read: deque[_Subscription] = deque()
        self._reading = 0
        self._failed: list[_Subscription] = []
        self._to_check: list[_Subscription] = []
        self._next_check = 0.0

    @property
    def wanted(self) -> list[str]:
        """What this worker has to be told."""
        return list(self._subscriptions)

    def open(self, events: BrokerEvents) -> None:
        """Deliver to *events* what is heard."""
        self._events = events

    def close(self, reason: str) -> None:
        """Forget all channels; nobody has to wait for them."""
        self._events = None
        for subscription in self._subscriptions.values():
            for waiting in subscription.waiting:
                fail(waiting, reason)
        self._subscriptions.clear()
        self._to_read.clear()

    async def subscribe(self, channel: str) -> StreamPosition:
        """See `Broker.subscribe`."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = self._subscriptions[channel] = _Subscription(Following(channel))
            self._want(channel, True)  # noqa: FBT003  (one fact, one argument)
        if subscription.following.position is not None:
            return subscription.following.position
        result: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
        subscription.waiting.add(result)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await result
        except TimeoutError:
            raise BrokerUnavailable(f"{self._engine} did not answer in time") from None
        finally:
            subscription.waiting.discard(result)
            if subscription.following.position is None and not subscription.waiting:
                self._drop(subscription)

    def unsubscribe(self, channel: str) -> None:
        """See `Broker.unsubscribe`."""
        subscription = self._subscriptions.get(channel)
        if subscription is not None:
            for waiting in subscription.waiting:
                fail(waiting, f"{channel!r} was unsubscribed meanwhile")
            self._drop(subscription)

    def heard(self, publication: Publication) -> None:
        """Take what was told of a channel; of those that are not wanted any more as well."""
        subscription = self._subscriptions.get(publication.channel)
        if subscription is None:
            return  # on its way while we unsubscribed
        following = subscription.following
        self._deliver(following.take(publication))
        if following.is_behind and subscription.is_confirmed:
            self._read(subscription)

    def confirmed(self, channel: str) -> None:
        """From here on what is told of *channel* comes; what came before is in the stream."""
        subscription = self._subscriptions.get(channel)
        if subscription is not None:
            subscription.is_confirmed = True
            subscription.following.suspect()
            self._read(subscription)

    def deaf(self, channels: Iterable[str]) -> None:
        """Nothing is heard of *channels* any more, until they are confirmed again."""
        for channel in channels:
            if subscription := self._subscriptions.get(channel):
                subscription.is_confirmed = False

    def tick(self, now: float) -> None:
        """Look again at what could not be read, and after a while at everything."""
        failed, self._failed = self._failed, []
        for subscription in failed:
            self._read(subscription)
        if not self._to_check and now >= self._next_check:
            self._to_check = list(self._subscriptions.values())
            self._next_check = now + CHECK_SECONDS
        for subscription in self._to_check[-CHECKS_AT_ONCE:]:
            if subscription.is_confirmed:
                # The last of many may be lost without a trace, or the whole stream with it.
                subscription.following.suspect()
                self._read(subscription)
        del self._to_check[-CHECKS_AT_ONCE:]

    def _read(self, subscription: _Subscription) -> None:
        if subscription.is_reading:
            return
        subscription.is_reading = True
        self._to_read.append(subscription)
        self._read_next()

    def _read_next(self) -> None:
        while self._to_read and self._reading < READS_AT_ONCE:
            subscription = self._to_read.popleft()
            following = subscription.following
            self._reading += 1
            position = following.position
            # Nothing of before is wanted by who has not heard anything yet.
            limit = PAGE if position is not None else 0
            answer = self._ask_stream(following.channel, position, limit)
            answer.add_done_callback(partial(self._was_read, subscription))

    def _was_read(self, subscription: _Subscription, answer: "asyncio.Future[Page]") -> None:
        self._reading -= 1
        subscription.is_reading = False
        failure = answer.exception()  # seen, also where nobody wants the channel any more
        if self._subscriptions.get(subscription.following.channel) is subscription:
            if failure is None:
                self._take(subscription, answer.result())
            elif isinstance(failure, BrokerUnavailable):
                # Asked again soon; until then this channel is silent, not wrong.
                self._failed.append(subscription)
            else:
                raise failure
        self._read_next()

    def _take(self, subscription: _Subscription, page: Page) -> None:
        following = subscription.following
        since = page.since if following.position is not None else page.top
        if following.position not in (None, since) and self._events is not None:
            self._events.reset(following.channel, since)
        self._deliver(following.read(since, page.publications, page.top))
        for waiting in subscription.waiting:
            if not waiting.done():
                waiting.set_result(since)
        if following.is_behind:
            self._read(subscription)

    def _deliver(self, publications: Sequence[Publication]) -> None:
        if self._events is not None:
            for publication in publications:
                self._events.deliver(publication)

    def _drop(self, subscription: _Subscription) -> None:
        channel = subscription.following.channel
        if self._subscriptions.get(channel) is subscription:
            del self._subscriptions[channel]
            self._want(channel, False)  # noqa: FBT003  (one fact, one argument)


def fail(answer: "asyncio.Future[Any]", reason: str) -> None:
    """Let *answer* raise BrokerUnavailable, if somebody still waits for it."""
    if not answer.done():
        answer.set_exception(BrokerUnavailable(reason))
