"""A connection between two workers: frozen here, thawed there, or here again.

No socket of the hand-over is known here, only what has to be true before and after. A client that
moves notices nothing: no hook runs, nothing is announced, its positions go with it.
"""

import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import anyio

from lastcall.broker.base import Publication, StreamPosition
from lastcall.catch_up import CatchUp
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
    is_incomplete: bool = False
    """Whether the history does not reach back to where the client is."""

    @property
    def has_late(self) -> bool:
        """Whether `late` has anything in it."""
        return bool(self.parked.frames) or self.parked.closed is not None

    @property
    def late(self) -> Late:
        """What was written to it since it was frozen."""
        frames = [frame for frame in self.parked.frames if isinstance(frame, bytes)]
        return Late(frames, self.parked.closed)


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
        positions: list[tuple[str, StreamPosition]] = []
        for channel in connection.channels:
            position = hub.position(connection, channel)
            if position is None:
                return None
            positions.append((channel, position))
        if not connection.movable or not commands.has_done_all(connection):
            return None
        frozen = connection.freeze()
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
        )
        catch_ups = [hub.hold(connection, channel, since) for channel, since in positions]
        self._worker.offered(connection)
        return Moving(connection, parked, frozen.descriptor, catch_ups, state)

    async def take_back(self, moving: Moving) -> None:
        """Go on here, as if nothing had been."""
        self._worker.kept(moving.connection)
        moving.transport = self._thaw(moving.state, moving.connection)
        await self._go_on(moving)

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

    def prepare(self, state: bytes, descriptor: int) -> Moving:
        """Make the connection that *state* is of; from here on nothing is lost that is published.

        Whoever calls this closes *descriptor* if it raises.

        Raises:
            ValueError: it cannot live here.
        """
        decoded = ConnectionState.decode(state)
        worker = self._worker
        if decoded.endpoint not in worker.endpoints:
            raise ValueError(f"there is no endpoint {decoded.endpoint!r} here")
        protocol = worker.protocols.get(decoded.protocol)
        if protocol is None:
            raise ValueError(f"there is no client protocol {decoded.protocol!r} here")
        unheard = [name for name, _ in decoded.channels if worker.hub.head(name) is None]
        if unheard:
            raise ValueError(f"channel {unheard[0]!r} was not mentioned before")
        channels = tuple(name for name, _ in decoded.channels)
        connection = Connection(
            worker,
            RemoteAddress(decoded.host, decoded.port),
            user=decoded.user,
            endpoint=decoded.endpoint,
            channels=channels,
            session=Session.load(decoded.session) if decoded.session else None,
        )
        transport = self._thaw(decoded, connection)
        framing = transport.framing
        parked = ParkedTransport(framing, connection, self._limits["max_backlog"])
        connection.open(parked, wire_format(protocol, framing))
        for channel in channels:
            worker.hub.retain(channel)
        catch_ups = [worker.hub.hold(connection, *each) for each in decoded.channels]
        return Moving(connection, parked, descriptor, catch_ups, decoded, transport)

    async def complete(self, arriving: Sequence[Moving], within: float) -> None:
        """Read what they have missed; where that cannot be had in time, they are incomplete."""
        found: dict[tuple[str, StreamPosition], Sequence[Publication] | None] = {}
        behind = {(c.channel, c.position) for m in arriving for c in m.catch_ups if c.is_behind}
        with anyio.move_on_after(within):
            for channel, since in behind:
                with suppress(BrokerUnavailable, UnrecoverablePosition):
                    history = await self._worker.broker.history(channel, since)
                    found[channel, since] = history.publications
        for moving in arriving:
            for catch_up in moving.catch_ups:
                if catch_up.is_behind:
                    missed = found.get((catch_up.channel, catch_up.position))
                    moving.missed[catch_up.channel] = missed or ()
                    moving.is_incomplete |= missed is None

    async def arrive(self, moving: Moving, late: Late) -> int:
        """Serve the client from here on; return how many messages it had missed and gets now."""
        for frame in late.frames:
            moving.parked.write(frame)
        if late.closed is not None:
            moving.parked.close(*late.closed)
        self._worker.adopted(moving.connection)
        replayed = await self._go_on(moving)
        if moving.connection in self._worker.connections:
            self._worker.commands.adopt(moving.connection, moving.state.received)
        return replayed

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
