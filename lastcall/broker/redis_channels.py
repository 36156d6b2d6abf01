"""The channels that this worker hears from Redis: each followed without a gap, or reset aloud."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from lastcall.broker.base import BrokerEvents, Publication, StreamPosition
from lastcall.broker.following import Following
from lastcall.broker.redis_ear import RedisEar
from lastcall.broker.redis_line import ANSWER_SECONDS, fail
from lastcall.broker.redis_names import Names, Page, heard
from lastcall.broker.redis_streams import PAGE, RedisStreams
from lastcall.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

READS_AT_ONCE = 200
"""Channels that are read at the same time after a loss; publishing goes on between them."""
CHECKS_AT_ONCE = 250
"""Channels that are looked after in one tick, at most."""
CHECK_SECONDS = 30.0
"""Between two looks whether a channel is where we think; longer where there are very many."""


@dataclass(eq=False, slots=True)
class _Subscription:
    """A channel of this worker, and who waits to hear where it stands."""

    following: Following
    name: bytes
    waiting: "set[asyncio.Future[StreamPosition]]" = field(default_factory=set)
    is_confirmed: bool = False
    """Whether Redis has said that it tells us what is published from here on."""
    is_reading: bool = False


class RedisChannels:
    """Follows the channels that are subscribed, by what the ear hears and the streams have."""

    def __init__(self, streams: RedisStreams, names: Names) -> None:
        """Read *streams*; told by an ear that `listen_by` names."""
        self._streams = streams
        self._names = names
        self._events: BrokerEvents | None = None
        self._ear: RedisEar | None = None
        self._by_name: dict[bytes, _Subscription] = {}
        self._to_read: deque[_Subscription] = deque()
        self._reading = 0
        self._failed: list[_Subscription] = []
        self._to_check: list[_Subscription] = []
        self._next_check = 0.0

    @property
    def names(self) -> list[bytes]:
        """Under which names this worker has to be told."""
        return list(self._by_name)

    def open(self, events: BrokerEvents, ear: RedisEar) -> None:
        """Deliver to *events* what *ear* hears."""
        self._events, self._ear = events, ear

    def close(self, reason: str) -> None:
        """Forget all channels; nobody has to wait for them."""
        self._events = None
        for subscription in self._by_name.values():
            for waiting in subscription.waiting:
                fail(waiting, reason)
        self._by_name.clear()
        self._to_read.clear()

    async def subscribe(self, channel: str) -> StreamPosition:
        """See `Broker.subscribe`."""
        name = self._names.told(channel)
        subscription = self._by_name.get(name)
        if subscription is None:
            subscription = self._by_name[name] = _Subscription(Following(channel), name)
            self._want(subscription, yes=True)
        if subscription.following.position is not None:
            return subscription.following.position
        result: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
        subscription.waiting.add(result)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await result
        except TimeoutError:
            raise BrokerUnavailable("Redis did not answer in time") from None
        finally:
            subscription.waiting.discard(result)
            if subscription.following.position is None and not subscription.waiting:
                self._drop(subscription)

    def unsubscribe(self, channel: str) -> None:
        """See `Broker.unsubscribe`."""
        subscription = self._by_name.get(self._names.told(channel))
        if subscription is not None:
            for waiting in subscription.waiting:
                fail(waiting, f"{channel!r} was unsubscribed meanwhile")
            self._drop(subscription)

    def heard(self, name: bytes, told: bytes) -> None:
        """Take what was told under *name*."""
        subscription = self._by_name.get(name)
        if subscription is None:
            return  # on its way while we unsubscribed
        following = subscription.following
        try:
            publication = heard(following.channel, told)
        except ValueError as error:
            logger.warning("somebody else publishes to %r in Redis: %s", name, error)
            return
        self._deliver(following.take(publication))
        if following.is_behind and subscription.is_confirmed:
            self._read(subscription)

    def confirmed(self, name: bytes) -> None:
        """From here on what is told under *name* comes; what came before is in the stream."""
        subscription = self._by_name.get(name)
        if subscription is not None:
            subscription.is_confirmed = True
            subscription.following.suspect()
            self._read(subscription)

    def deaf(self) -> None:
        """Nothing is heard any more, until names are confirmed again."""
        for subscription in self._by_name.values():
            subscription.is_confirmed = False

    def tick(self, now: float) -> None:
        """Look again at what could not be read, and after a while at everything."""
        failed, self._failed = self._failed, []
        for subscription in failed:
            self._read(subscription)
        if not self._to_check and now >= self._next_check:
            self._to_check = list(self._by_name.values())
            self._next_check = now + CHECK_SECONDS
        for subscription in self._to_check[-CHECKS_AT_ONCE:]:
            if subscription.is_confirmed:
                # The last of many may be lost without a trace, or everything in Redis with it.
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
            answer = self._streams.read(following.channel, position, limit, was_there=True)
            answer.add_done_callback(partial(self._was_read, subscription))

    def _was_read(self, subscription: _Subscription, answer: "asyncio.Future[Page]") -> None:
        self._reading -= 1
        subscription.is_reading = False
        if self._by_name.get(subscription.name) is subscription:
            failure = answer.exception()
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

    def _want(self, subscription: _Subscription, *, yes: bool) -> None:
        if self._ear is not None:
            self._ear.want(subscription.name, yes=yes)

    def _drop(self, subscription: _Subscription) -> None:
        if self._by_name.get(subscription.name) is subscription:
            del self._by_name[subscription.name]
            self._want(subscription, yes=False)
