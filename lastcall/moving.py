"""A connection between two workers: frozen here, thawed there, or here again.

No socket of the hand-over is known here, only what has to be true before and after. A client that
moves notices nothing: no hook runs, nothing is announced, its positions go with it.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import anyio

from lastcall.broker.base import Publication, StreamPosition
from lastcall.catch_up import CatchUp, Remembered
from lastcall.connection import Connection, RemoteAddress
from lastcall.errors import (
    BrokerUnavailable,
    InsufficientState,
    ServerShutdown,
    UnrecoverablePosition,
)
from lastcall.forked_child import forget
from lastcall.handover_messages import ConnectionState, Late
from lastcall.host import Host
from lastcall.session import Session
from lastcall.socket_handover import close_all
from lastcall.transport.base import Transport
from lastcall.transport.parked import ParkedTransport
from lastcall.websocket_frames import close_frame
from lastcall.wire_format import wire_format
from lastcall.worker import Worker

FAREWELL_TIME = 1.0


@dataclass(eq=False, slots=True)
class Moving:
    """A connection that no transport has at the moment."""

    connection: Connection
    parked: ParkedTransport
    descriptor: int
    catch_ups: list[CatchUp]
    state: ConnectionState
    transport: Transport | None = None
    """What it goes on with; None while that may still be another worker's."""
    missed: dict[str, Sequence[Publication]] = field(default_factory=dict)
    """By channel: what it has to hear before what is held for it."""

    @property
    def lacks(self) -> list[CatchUp]:
        """Where it is behind, and what it missed is not here."""
        behind = (each for each in self.catch_ups if each.is_behind)
        return [each for each in behind if each.channel not in self.missed]

    @property
    def late(self) -> Late | None:
        """What was written to it since it was frozen, if anything."""
        frames = [frame for frame in self.parked.frames if isinstance(frame, bytes)]
        has_any = frames or self.parked.closed is not None
        return Late(frames, self.parked.closed) if has_any else None


class Mover:
    """Takes connections out of a worker and puts them in. Plain calls, but for the event loop's."""

    def __init__(self, worker: Worker, host: Host) -> None:
        """Move to and from *worker*, which *host* runs."""
        self._worker = worker
        self._host = host
        self._limits = {
            "max_backlog": worker.settings.max_backlog,
            "max_message_size": worker.settings.max_message_size,
        }

    # --- leaving

    def freeze(self, connections: Iterable[Connection]) -> list[Moving]:
        """Freeze those that can be frozen now, all at the same moment of every channel."""
        self._worker.hub.flush()
        frozen = (self._freeze(each) for each in connections)
        return [moving for moving in frozen if moving is not None]

    def _freeze(self, connection: Connection) -> Moving | None:
        hub, commands = self._worker.hub, self._worker.commands
        positions = self._positions(connection)
        if positions is None:
            return None
        is_ready = connection.movable and commands.has_done_all(connection)
        frozen = connection.freeze() if is_ready else None
        if frozen is None:
            return None
        wire_format = connection.wire_format
        parked = ParkedTransport(wire_format.framing, connection, self._limits["max_backlog"])
        connection.open(parked, wire_format)
        state = ConnectionState(
            host=connection.remote.host,
            port=connection.remote.port,
            user=connection.user,
            endpoint=connection.endpoint,
            channels=positions,
            protocol=wire_format.protocol.name,
            received=commands.used_rate(connection),
            session=connection.session.dump() if connection.session is not None else b"",
            transport=frozen.state,
            heard=self._worker.everyone.heard,
            beat=self._worker.heart.told_to(connection),
        )
        catch_ups = [hub.hold(connection, channel, since) for channel, since in positions]
        self._worker.offered(connection)
        return Moving(connection, parked, frozen.descriptor, catch_ups, state)

    def _positions(self, connection: Connection) -> list[tuple[str, StreamPosition]] | None:
        """How far it has come in each of its channels; None: in one that is not known."""
        positions: list[tuple[str, StreamPosition]] = []
        for channel in connection.channels:
            position = self._worker.hub.position(connection, channel)
            if position is None:
                return None
            positions.append((channel, position))
        return positions

    async def take_back(self, moving: Moving) -> None:
        """Go on here, as if nothing had been."""
        self._worker.kept(moving.connection)
        moving.transport = self._thaw(moving.state, moving.connection)
        await self._go_on(moving)
        if moving.connection in self._worker.connections:
            self._worker.arrived(moving.connection, moving.state.heard, moving.state.beat)

    def departed(self, moving: Moving) -> None:
        """Another worker serves it now."""
        close_all([moving.descriptor])
        self._worker.moved(moving.connection)

    async def lose(self, lost: Sequence[Moving]) -> None:
        """Close those that a worker took which died: nobody knows what they have read and heard."""
        why = ServerShutdown()
        clients = [socket.socket(fileno=moving.descriptor) for moving in lost]
        for moving, client in zip(lost, clients, strict=True):
            forget(moving.descriptor)
            client.settimeout(0)
            with suppress(OSError):
                client.send(close_frame(why.code, why.reason))
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            moving.connection.ended_by = why
            self._worker.kept(moving.connection)
            self._worker.ended(moving.connection, why.code)
        # A socket that is closed with something unread resets, and that may overtake our last word.
        with anyio.move_on_after(FAREWELL_TIME):
            for client in clients:
                await _until_end(client)
        for client in clients:
            client.close()

    # --- arriving

    @contextmanager
    def remembering(self, channels: Sequence[str]) -> Iterator[Mapping[str, Remembered]]:
        """Keep what is published in *channels*, which are listened to, for those who arrive."""
        remembered = {channel: Remembered() for channel in channels}
        for channel, each in remembered.items():
            self._worker.hub.tap(channel, each.take)
        try:
            yield remembered
        finally:
            for channel, each in remembered.items():
                self._worker.hub.untap(channel, each.take)

    def prepare(
        self, state: bytes, descriptor: int, remembered: Mapping[str, Remembered]
    ) -> Moving:
        """Make the connection that *state* is of; from here on nothing is lost that is published.

        Whoever calls this closes *descriptor* if it raises.

        Raises:
            ValueError: it cannot live here.
        """
        decoded = ConnectionState.decode(state)
        unheard = [name for name, _ in decoded.channels if name not in remembered]
        if unheard:
            raise ValueError(f"channel {unheard[0]!r} was not mentioned before")
        protocol = self._worker.protocols.get(decoded.protocol)
        if protocol is None:
            raise ValueError(f"there is no client protocol {decoded.protocol!r} here")
        connection = self._connection(decoded)
        transport = self._thaw(decoded, connection)
        framing = transport.framing
        parked = ParkedTransport(framing, connection, self._limits["max_backlog"])
        connection.open(parked, wire_format(protocol, framing))
        hub = self._worker.hub
        for channel in connection.channels:
            hub.retain(channel)
        catch_ups = [hub.hold(connection, *each) for each in decoded.channels]
        moving = Moving(connection, parked, descriptor, catch_ups, decoded, transport)
        self._recollect(moving, remembered)
        return moving

    def _connection(self, state: ConnectionState) -> Connection:
        if state.endpoint not in self._worker.endpoints:
            raise ValueError(f"there is no endpoint {state.endpoint!r} here")
        return Connection(
            self._worker,
            RemoteAddress(state.host, state.port),
            user=state.user,
            endpoint=state.endpoint,
            channels=tuple(name for name, _ in state.channels),
            session=Session.load(state.session) if state.session else None,
        )

    def _recollect(self, moving: Moving, remembered: Mapping[str, Remembered]) -> None:
        for catch_up in moving.lacks:
            channel, head = catch_up.channel, self._worker.hub.head(catch_up.channel)
            missed = remembered[channel].between(catch_up.position, head) if head else None
            if missed is not None:
                moving.missed[channel] = missed

    async def complete(self, arriving: Sequence[Moving], within: float) -> None:
        """Read what they have missed; where that cannot be had in time, they still lack it."""
        found: dict[tuple[str, StreamPosition], Sequence[Publication]] = {}
        lacking = {(each.channel, each.position) for moving in arriving for each in moving.lacks}
        with anyio.move_on_after(within):
            for channel, since in lacking:
                with suppress(BrokerUnavailable, UnrecoverablePosition):
                    history = await self._worker.broker.history(channel, since)
                    found[channel, since] = history.publications
        for moving in arriving:
            for each in moving.lacks:
                if (each.channel, each.position) in found:
                    moving.missed[each.channel] = found[each.channel, each.position]

    async def arrive(self, moving: Moving) -> int:
        """Serve the client from here on; return how many messages it had missed and gets now."""
        self._worker.adopted(moving.connection)
        replayed = await self._go_on(moving)
        if moving.connection in self._worker.connections:
            self._worker.arrived(moving.connection, moving.state.heard, moving.state.beat)
            self._worker.commands.adopt(moving.connection, moving.state.received)
        return replayed

    def add(self, connection: Connection, late: Late) -> None:
        """Let a client that has arrived have what its last worker wrote to it meanwhile."""
        if connection in self._worker.connections:
            self._worker.hub.flush()
            for frame in late.frames:
                connection.write(frame)
            if late.closed is not None:
                connection.transport.close(*late.closed)

    def forget(self, moving: Moving) -> None:
        """It stays where it was."""
        close_all([moving.descriptor])
        self._worker.hub.remove(moving.connection)
        self._worker.interest.stop_listening(moving.connection.channels)

    # --- both

    def _thaw(self, state: ConnectionState, connection: Connection) -> Transport:
        return self._host.thaw(state.transport, connection, **self._limits)

    async def _go_on(self, moving: Moving) -> int:
        connection, transport, hub = moving.connection, moving.transport, self._worker.hub
        assert transport is not None  # noqa: S101  (both callers have made it)
        try:
            await self._host.go_on(transport, moving.descriptor)
        except OSError:
            if connection in self._worker.connections:
                connection.ended(1006)
            return 0
        # What came between the socket's first byte and here was served already, and parked.
        if connection not in self._worker.connections:
            return 0
        connection.open(transport, connection.wire_format)
        moving.parked.replay(transport)
        before = hub.counts.replayed
        for catch_up in moving.catch_ups:
            if not hub.go_live(catch_up, moving.missed.get(catch_up.channel, ())):
                connection.disconnect(InsufficientState())
        return hub.counts.replayed - before


async def _until_end(client: socket.socket) -> None:
    with suppress(OSError):
        while True:
            await anyio.wait_readable(client)
            if not client.recv(65_536):
                return
