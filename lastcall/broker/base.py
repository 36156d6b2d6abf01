"""The seam between workers: what a broker promises to the hub and to whoever publishes."""

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import asyncio

    from anyio.abc import TaskStatus


class StreamPosition(msgspec.Struct, frozen=True, array_like=True):
    """A place in a channel's stream: the last offset that was seen, and of which epoch.

    Offsets count 1, 2, 3… within an epoch; 0 is before the first. An epoch is an opaque string
    that changes when the channel's bookkeeping was lost, so that offsets can be compared at all.
    """

    offset: int
    epoch: str


class Kind(IntEnum):
    """What the bytes of a publication are; each client protocol has its own way to say them."""

    TEXT = 0
    """UTF-8."""
    BINARY = 1
    JSON = 2
    """One JSON value without a line break, UTF-8."""


class Publication(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message in a channel, at its place in the channel's one order."""

    channel: str
    data: bytes
    offset: int
    epoch: str
    kind: Kind = Kind.TEXT
    about: bytes = b""
    """Members of a JSON object, without its braces, that go with the data: `"info":…,"tags":…`."""


class History(msgspec.Struct, frozen=True):
    """What a channel remembers: *publications* in ascending order, and the top of the stream."""

    publications: Sequence[Publication]
    top: StreamPosition


class HistoryLimits(msgspec.Struct, frozen=True):
    """How much a channel remembers: *size* publications at most, for *ttl* seconds at most."""

    size: int
    ttl: float

    def of(self, channel: str) -> "HistoryLimits":  # noqa: ARG002  (the same for all)
        """See `Retention.of`."""
        return self


class Retention(Protocol):
    """How much each channel remembers."""

    @property
    def size(self) -> int:
        """The largest of all."""
        ...

    @property
    def ttl(self) -> float:
        """The longest of all."""
        ...

    def of(self, channel: str, /) -> HistoryLimits:
        """What holds for *channel*."""
        ...


class BrokerEvents(Protocol):
    """The worker's side of a broker; the hub is it. All three are plain calls and never raise."""

    def deliver(self, publication: Publication, /) -> None:
        """Take the next publication of a subscribed channel.

        Called once for each, in the order of offsets, without a gap within an epoch, from the
        position that `Broker.subscribe` returned.
        """
        ...

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        """The channel goes on at *position*; what lay between is unknown: a gap, or a new epoch."""
        ...

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (one fact, one argument)
        """Whether publications are carried now; the worker is not ready while they are not."""
        ...


class Broker(Protocol):
    """Carries publications between workers and remembers the recent ones of each channel.

    One order for each channel: all subscribers on all workers get the same publications in the
    same order. Nothing is promised between channels.
    """

    async def run(self, events: BrokerEvents, *, task_status: "TaskStatus[None]") -> None:
        """Carry publications until cancelled.

        Calls ``task_status.started()`` once publications can be carried. Every task, socket and
        file it made is gone when it returns. Returns only by cancellation; raising means that
        this worker can no longer be served and has to leave.
        """
        ...

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        kind: Kind = Kind.TEXT,
        about: bytes = b"",
        idempotency_key: str = "",
    ) -> "asyncio.Future[StreamPosition]":
        """Append to the channel's stream and deliver to all its subscribers.

        A plain call, so that the order of calls of one worker is the order in the channel. The
        future's result is the publication's position: it has been stored, and will be delivered
        once to every subscriber, through the death of any worker. The same *idempotency_key* on
        the same channel within five minutes publishes nothing and gives the first one's position.

        Raises (through the future):
            BrokerUnavailable: it was not accepted, or this cannot be known in bounded time.
        """
        ...

    async def subscribe(self, channel: str) -> StreamPosition:
        """Start delivering *channel* to this worker; all that follows the returned position comes.

        Subscribing twice is once. What follows the position may come before this returns.

        Raises:
            BrokerUnavailable: the channel is not subscribed.
        """
        ...

    def unsubscribe(self, channel: str) -> None:
        """Stop delivering *channel*; unknown channels are ignored."""
        ...

    async def history(
        self, channel: str, since: StreamPosition | None = None, limit: int | None = None
    ) -> History:
        """Read at most *limit* publications after *since*, or from the beginning without one.

        Raises:
            UnrecoverablePosition: *since* is of another epoch, or publications after it are gone.
            BrokerUnavailable: it cannot be read now.
        """
        ...

    async def clear(self, channel: str) -> None:
        """Forget what was stored in *channel* before this call; its position and epoch stay.

        What is published meanwhile may be forgotten too. Nobody who hears the channel notices.

        Raises:
            BrokerUnavailable: it may not have been forgotten.
        """
        ...


def not_owed(publication: "asyncio.Future[StreamPosition]") -> None:
    """See the end of a publication that nobody is owed: that it failed is then nobody's error."""
    if not publication.cancelled():
        publication.exception()
