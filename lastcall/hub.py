"""Who listens to what on this worker, and fan-out: one frame per wire format, one write per client.

`deliver` only collects; `flush`, once a turn of the event loop, writes. Nothing here awaits:
a subscriber set that changed in the middle of a fan-out would be a race.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastcall.broker.base import BrokerEvents, Publication, StreamPosition
from lastcall.catch_up import CatchUp
from lastcall.connection import Connection
from lastcall.transport.base import Transport
from lastcall.wire_format import FirstFormat, WireFormat, delta_format, first_format, formats

type _Audience = dict[Connection, Transport]
"""With the transports at hand: each object that fan-out looks at is memory that the processor waits
for, and with a thousand clients that is most of what we add to the kernel's work."""

type Hear = Callable[[Sequence[Publication]], object]
"""Takes what a connection hears before it is live."""

type Tap = Callable[[Publication], object]
"""Takes the publications of a channel of ours; never raises."""

type Later = Callable[[Callable[[], None]], object]
"""Calls what it is given at the end of this turn of the event loop."""


@dataclass(slots=True)
class HubCounts:
    """What has gone through a hub, for the metrics: counted once a turn, never once a client."""

    publications: int = 0
    """Publications of the channels that somebody here listens to."""
    deliveries: int = 0
    """The same, once for each client they were written to."""
    replayed: int = 0
    """Publications written to clients that caught up."""


class Hub:
    """The subscriptions of this worker's connections, and the head of each channel."""

    def __init__(self, later: Later) -> None:
        """Flush through *later*."""
        self._later = later
        self._subscribers: dict[str, dict[WireFormat, _Audience]] = {}
        self._interest: dict[str, int] = {}
        self._turn: dict[str, list[Publication]] = {}
        self._is_flushing = False
        self._heads: dict[str, StreamPosition] = {}
        self._bases: dict[str, Publication] = {}
        self._catching_up: dict[str, dict[Connection, CatchUp]] = {}
        self._taps: dict[str, list[Tap]] = {}
        self._is_available = False
        self.counts = HubCounts()

    @property
    def is_available(self) -> bool:
        """Whether the broker carries publications at the moment."""
        return self._is_available

    def head(self, channel: str) -> StreamPosition | None:
        """The position at which every subscriber of *channel* on this worker stands."""
        return self._heads.get(channel)

    def position(self, connection: Connection, channel: str) -> StreamPosition | None:
        """How far *connection* has come in *channel*; None while it is held."""
        catch_up = self._catching_up.get(channel, {}).get(connection)
        if catch_up is None:
            return self._heads.get(channel)
        return None if catch_up.is_held else catch_up.position

    def subscribed(self, channel: str, position: StreamPosition) -> None:
        """Take the broker's word that all that follows *position* in *channel* is delivered."""
        if channel in self._interest:
            # Later ones may have come before it, and then the head is theirs.
            self._heads.setdefault(channel, position)

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
        self._bases.pop(channel, None)
        self._turn.pop(channel, None)
        return True

    def tap(self, channel: str, take: Tap) -> None:
        """Give what is published in *channel* from here on to *take* as well."""
        self.flush()
        self._taps.setdefault(channel, []).append(take)

    def untap(self, channel: str, take: Tap) -> None:
        """Take a `tap` back."""
        self._taps[channel].remove(take)
        if not self._taps[channel]:
            del self._taps[channel]

    def subscribers(self, channel: str) -> list[Connection]:
        """Who hears *channel* on this worker, or is about to."""
        audiences = self._subscribers.get(channel, {}).values()
        live = [connection for audience in audiences for connection in audience]
        return live + list(self._catching_up.get(channel, ()))

    def audience_sizes(self) -> dict[str, int]:
        """How many hear each channel on this worker, or are about to."""
        sizes = {name: sum(map(len, all_.values())) for name, all_ in self._subscribers.items()}
        for channel, catching_up in self._catching_up.items():
            sizes[channel] = sizes.get(channel, 0) + len(catching_up)
        return sizes

    def add(self, connection: Connection) -> None:
        """Deliver the connection's channels to it from now on."""
        for channel in connection.channels:
            self._join(connection, channel)

    def remove(self, connection: Connection) -> None:
        """Deliver nothing to it any more; unknown connections are ignored."""
        for channel in connection.channels:
            self._part(connection, channel)

    def leave(self, connection: Connection, channel: str) -> None:
        """Deliver *channel* to *connection* no more, after what was published before."""
        self.flush()
        self._part(connection, channel)

    def hold(self, connection: Connection, channel: str, since: StreamPosition) -> CatchUp:
        """Keep back what is published in *channel* for *connection*, which has come to *since*.

        From here on nothing is lost. Where `is_behind` is true, ask the broker's history for what
        follows *since*; in any case call `go_live` then, or `remove`.
        """
        self.flush()
        self._part(connection, channel)
        catch_up = CatchUp(connection, channel, since, self._heads.get(channel))
        self._catching_up.setdefault(channel, {})[connection] = catch_up
        return catch_up

    def go_live(
        self, catch_up: CatchUp, missed: Sequence[Publication] = (), hear: Hear | None = None
    ) -> bool:
        """Write *missed* and then what was held; from here on the connection hears all that comes.

        Publications that it has heard already are left out. Who gives *hear* writes them itself,
        before anything else of this tick. False: there is a gap that cannot be filled; nothing was
        written, and nothing will be.
        """
        self.flush()
        heard = catch_up.go_live(missed)
        self.counts.replayed += len(heard)
        if hear is not None:
            hear(heard)
            catch_up.told = heard[-1] if heard else None
        else:
            self._write(catch_up, heard)
        if catch_up.is_lost:
            self._part(catch_up.connection, catch_up.channel)
            return False
        self._join_if_there(catch_up)
        return True

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
        counts, count = self.counts, len(publications)
        counts.publications += count
        base = self._bases.get(channel)
        by_format = tuple(self._subscribers.get(channel, {}).items())
        # Copies: a client that overflows may be gone before we have written to the next.
        for wire_format, audience in by_format:
            frame = wire_format.publications(publications, base)
            counts.deliveries += count * len(audience)
            for transport in tuple(audience.values()):
                transport.write(frame)
        if any(wire_format.applies_deltas for wire_format, _ in by_format):
            self._all_have_heard(channel, publications[-1])
        for tap in tuple(self._taps.get(channel, ())):
            for publication in publications:
                tap(publication)
        if channel in self._catching_up:
            for catch_up in tuple(self._catching_up[channel].values()):
                self._write(catch_up, catch_up.take(publications))
                self._join_if_there(catch_up)

    def _all_have_heard(self, channel: str, last: Publication) -> None:
        """What comes next in *channel* can be a delta to *last*, also for who heard it first."""
        self._bases[channel] = last
        by_format = self._subscribers.get(channel, {})
        for wire_format in tuple(by_format):
            if isinstance(wire_format, FirstFormat):
                by_format.setdefault(wire_format.then, {}).update(by_format.pop(wire_format))

    def _write(self, catch_up: CatchUp, publications: Sequence[Publication]) -> None:
        if publications:
            connection = catch_up.connection
            wire_format = connection.wire_format
            if connection.applies_deltas(catch_up.channel):
                wire_format = delta_format(wire_format)
            connection.write(wire_format.publications(publications, catch_up.told))
            catch_up.told = publications[-1]

    def _join_if_there(self, catch_up: CatchUp) -> None:
        connection, channel = catch_up.connection, catch_up.channel
        if self._catching_up.get(channel, {}).get(connection) is not catch_up:
            return  # what we wrote was its end
        head = self._heads.get(channel)
        if not catch_up.is_held and (head is None or catch_up.has_reached(head)):
            self._part(connection, channel)
            self._join(connection, channel, catch_up.told)

    def _join(self, connection: Connection, channel: str, told: Publication | None = None) -> None:
        wire_format = connection.wire_format
        if connection.applies_deltas(channel):
            wire_format = self._delta_format(wire_format, channel, told)
        by_format = self._subscribers.setdefault(channel, {})
        by_format.setdefault(wire_format, {})[connection] = connection.transport

    def _delta_format(
        self, plain: WireFormat, channel: str, told: Publication | None
    ) -> WireFormat:
        """By what a client that was *told* this last can be told what comes next."""
        if told is None:
            return first_format(plain)
        base = self._bases.setdefault(channel, told)
        has_heard_it = (told.offset, told.epoch) == (base.offset, base.epoch)
        return delta_format(plain) if has_heard_it else first_format(plain)

    def _part(self, connection: Connection, channel: str) -> None:
        by_format = self._subscribers.get(channel, {})
        # Whichever it is: whether it applies deltas is not for sure when it leaves.
        for wire_format in formats(connection.wire_format):
            audience = by_format.get(wire_format)
            if audience is not None and connection in audience:
                del audience[connection]
                if not audience:
                    del by_format[wire_format]
        if not by_format:
            self._subscribers.pop(channel, None)
        if channel in self._catching_up:
            self._catching_up[channel].pop(connection, None)
            if not self._catching_up[channel]:
                del self._catching_up[channel]

    def reset(self, channel: str, position: StreamPosition) -> None:
        """Go on at *position*; what lay between is lost, and whoever hears the channel is told."""
        self.flush()
        if channel in self._interest:
            self._heads[channel] = position
        for audience in tuple(self._subscribers.get(channel, {}).values()):
            for connection in tuple(audience):
                connection.owner.lost(connection, channel)
        for catch_up in tuple(self._catching_up.get(channel, {}).values()):
            if catch_up.is_held:
                catch_up.lose()
            else:
                # Ahead of a stream that has ended: it goes on like everybody who was live.
                self._part(catch_up.connection, channel)
                self._join(catch_up.connection, channel)

    def available(self, yes: bool) -> None:  # noqa: FBT001  (the broker's word)
        """Remember whether publications are carried; readiness asks for it."""
        self._is_available = yes


if TYPE_CHECKING:
    _: type[BrokerEvents] = Hub
