"""Who listens to what on this worker, and fan-out: one frame per wire format, one write per client.

`deliver` only collects; `flush`, once a turn of the event loop, writes. Nothing here awaits:
a subscriber set that changed in the middle of a fan-out would be a race.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lastcall.broker.base import BrokerEvents, Publication, StreamPosition
from lastcall.connection import Connection
from lastcall.wire_format import WireFormat

type Later = Callable[[Callable[[], None]], object]
"""Calls what it is given at the end of this turn of the event loop."""


class Hub:
    """The subscriptions of this worker's connections, and the head of each channel."""

    def __init__(self, later: Later) -> None:
        """Flush through *later*."""
        self._later = later
        self._subscribers: dict[str, dict[WireFormat, set[Connection]]] = {}
        self._interest: dict[str, int] = {}
        self._turn: dict[str, list[Publication]] = {}
        self._is_flushing = False
        self._heads: dict[str, StreamPosition] = {}
        self._is_available = True

    @property
    def is_available(self) -> bool:
        """Whether the broker carries publications at the moment."""
        return self._is_available

    def head(self, channel: str) -> StreamPosition | None:
        """The position at which every subscriber of *channel* on this worker stands."""
        return self._heads.get(channel)

    def retain(self, channel: str) -> bool:
        """Note that somebody wants *channel*; True for the first, who has to subscribe it.

        Counted apart from the subscribers: who waits for the broker's answer wants it already,
        and one who leaves meanwhile must not unsubscribe it for the other.
        """
        count = self._interest.get(channel, 0)
        self._interest[channel] = count + 1
        return count == 0

    def release(self, channel: str) -> bool:
        """Take a `retain` back; True for the last, who has to unsubscribe it."""
        count = self._interest[channel] - 1
        if count:
            self._interest[channel] = count
            return False
        del self._interest[channel]
        self._heads.pop(channel, None)
        self._turn.pop(channel, None)
        return True

    def add(self, connection: Connection) -> None:
        """Deliver the connection's channels to it from now on."""
        for channel in connection.channels:
            by_format = self._subscribers.setdefault(channel, {})
            by_format.setdefault(connection.wire_format, set()).add(connection)

    def remove(self, connection: Connection) -> None:
        """Deliver nothing to it any more; unknown connections are ignored."""
        for channel in connection.channels:
            by_format = self._subscribers.get(channel, {})
            connections = by_format.get(connection.wire_format, set())
            connections.discard(connection)
            if not connections:
                by_format.pop(connection.wire_format, None)
            if not by_format:
                self._subscribers.pop(channel, None)

    def deliver(self, publication: Publication) -> None:
        """Take the next publication of a channel; written with all others of this turn."""
        if not self._turn:
            self._later(self.flush)
        self._turn.setdefault(publication.channel, []).append(publication)

    def flush(self) -> None:
        """Write what was delivered. Also called before replies and notices, which follow it."""
        if self._is_flushing:
            # Asked for by the end of a client that we write to: what was published since then
            # must not overtake what is being written.
            return
        turn, self._turn = self._turn, {}
        self._is_flushing = True
        try:
            for channel, publications in turn.items():
                self._fan_out(channel, publications)
        finally:
            self._is_flushing = False

    def _fan_out(self, channel: str, publications: list[Publication]) -> None:
        if channel in self._interest:
            last = publications[-1]
            self._heads[channel] = StreamPosition(last.offset, last.epoch)
        # Copies: a client that overflows may be gone before we have written to the next.
        for wire_format, connections in tuple(self._subscribers.get(channel, {}).items()):
            frame = wire_format.publications(publications)
            for connection in tuple(connections):
                connection.write(frame)

    def reset(self, channel: str, position: StreamPosition) -> None:
        """Go on at *position*; what lay between is lost to clients that hold no position."""
        self.flush()
        if channel in self._interest:
            self._heads[channel] = position

    def available(self, yes: bool) -> None:  # noqa: FBT001  (the broker's word)
        """Remember whether publications are carried; readiness asks for it."""
        self._is_available = yes


if TYPE_CHECKING:
    _: type[BrokerEvents] = Hub
