"""Small things that satisfy the seams and write down what happens to them."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lastcall.broker.base import Publication
from lastcall.connection import Connection, ConnectionOwner, RemoteAddress
from lastcall.connection_manager import Guest
from lastcall.drain_report import DrainReport
from lastcall.errors import Disconnect
from lastcall.host import Host, OnServerStop, OnSignal
from lastcall.process_identity import ProcessIdentity
from lastcall.protocol.base import ClientProtocol, Command, Message
from lastcall.protocol.plain_text import PlainText
from lastcall.sole_worker import SoleWorker
from lastcall.stop_limit import StopLimit
from lastcall.transport.base import Frame, Framing, Frozen, Transport, TransportEvents
from lastcall.wire_format import WireFormat, wire_format
from lastcall.worker_coordinator import Coordinator
from lastcall.worker_record import State, WorkerRecord


class CountingFraming:
    """Frames that tests can read, and how many were made."""

    name = "counting"

    def __init__(self) -> None:
        self.made = 0

    def frame(self, messages: Sequence[Message]) -> Frame:
        self.made += 1
        return tuple(messages)


class RecordingTransport:
    """Writes to nobody. With *ends_at_once*, a close or an overflow is the end in the same call."""

    movable = False

    def __init__(
        self,
        framing: Framing | None = None,
        *,
        room: int | None = None,
        ends_at_once: bool = False,
    ) -> None:
        self.framing: Framing = framing or CountingFraming()
        self.events: TransportEvents | None = None
        self.frames: list[tuple[Message, ...]] = []
        self.closed: tuple[int, str, bool] | None = None
        self.aborted = False
        self.paused = False
        self.pauses = 0
        self._room = room
        self._ends_at_once = ends_at_once
        self._overflowed = False

    @property
    def backlog(self) -> int:
        return 0

    @property
    def messages(self) -> list[bytes]:
        """Everything that was written, a frame's messages one by one."""
        return [message.data for frame in self.frames for message in frame]

    def write(self, frame: Frame, /) -> None:
        if self.closed is not None or self._overflowed:
            return
        if self._room is not None and len(self.frames) >= self._room:
            self._overflowed = True
            assert self.events is not None
            self.events.overflowed()
            return
        assert isinstance(frame, tuple)
        self.frames.append(frame)

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        if self.closed is None:
            self.closed = code, reason, discard
            if self._ends_at_once and self.events is not None:
                self.events.ended(code)

    def abort(self) -> None:
        self.aborted = True

    def pause(self) -> None:
        assert not self.paused
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        assert self.paused
        self.paused = False

    def freeze(self) -> Frozen | None:
        return None


@dataclass
class RecordingOwner:
    """An owner of connections that writes down what it is told, and does something at an end."""

    commands: list[Command] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    at_end: list[Callable[[Connection], object]] = field(default_factory=list)
    at_flush: list[Callable[[], object]] = field(default_factory=list)

    def commanded(self, connection: Connection, command: Command, /) -> None:
        assert connection.owner is self
        self.commands.append(command)

    def ended(self, connection: Connection, code: int, /) -> None:
        self.ends.append(code)
        for each in self.at_end:
            each(connection)

    def lost(self, connection: Connection, channel: str, /) -> None:
        assert connection.owner is self
        self.losses.append(channel)

    def flush(self) -> None:
        for each in self.at_flush:
            each()


PLAIN_TEXT = PlainText()


def connect(
    owner: ConnectionOwner,
    *channels: str,
    transport: RecordingTransport | None = None,
    protocol: ClientProtocol = PLAIN_TEXT,
    endpoint: str = "",
    port: int = 54321,
) -> tuple[Connection, RecordingTransport]:
    """A connection that is open, and its transport."""
    transport = transport or RecordingTransport(FRAMING)
    connection = Connection(
        owner, RemoteAddress("127.0.0.1", port), endpoint=endpoint, channels=channels
    )
    transport.events = connection
    connection.open(transport, wire_format_of(transport, protocol))
    return connection, transport


FRAMING = CountingFraming()


def wire_format_of(
    transport: RecordingTransport, protocol: ClientProtocol = PLAIN_TEXT
) -> WireFormat:
    """The wire format that *transport* is written in."""
    return wire_format(protocol, transport.framing)


def publication(channel: str, data: str, offset: int = 1) -> Publication:
    """Something published in *channel*."""
    return Publication(channel, data.encode(), offset, "epoch")


@dataclass(eq=False)
class RecordingGuest:
    """A long response that hears what the drain does to it."""

    heard: list[str | Disconnect] = field(default_factory=list)
    aborted: bool = False
    at_end: Callable[[], object] = lambda: None

    def notify(self, text: str) -> None:
        self.heard.append(text)

    def disconnect(self, why: Disconnect) -> None:
        self.heard.append(why)
        self.at_end()

    def abort(self) -> None:
        self.aborted = True


class FakeHost:
    """A server that does as it is told and writes it down."""

    name = "fake"
    workers = 2
    master: ProcessIdentity | None = None
    obeys_last_worker = True
    takes_connections = False
    is_listening = True

    def __init__(self, *, drains: bool = True, can_stop_listening: bool = True) -> None:
        self.drains = drains
        self.listens = True
        self.stopped: list[bool] = []
        self.within = 0.0
        self.changes: list[str] = []
        self.on_signal: OnSignal | None = None
        self.on_stop: Callable[[], bool] | None = None
        self.at_change: Callable[[], object] = lambda: None
        self._can_stop_listening = can_stop_listening

    def stop_limits(self) -> list[StopLimit]:
        return []

    @contextmanager
    def stops(self, on_signal: OnSignal, on_server_stop: OnServerStop) -> Iterator[None]:
        self.on_signal, self.on_stop = on_signal, on_server_stop
        try:
            yield
        finally:
            self.on_signal = self.on_stop = None

    def stop_listening(self) -> bool:
        self._note("stop listening")
        self.listens = not self._can_stop_listening
        return self._can_stop_listening

    async def listen_again(self) -> None:
        self._note("listen again")
        self.listens = True

    def refuse_to_start(self) -> bool:
        self._note("refuse to start")
        return True

    def stop(self, *, now: bool, within: float = 0) -> None:
        self.stopped.append(now)
        self.within = within
        self._note("stop")

    def cutter(self, send: Callable[..., object]) -> Callable[[], object] | None:
        raise OSError(f"no connection here for {send}")

    def wait_at_most(self, seconds: float) -> None:
        self.waits = seconds

    def thaw(
        self, state: bytes, events: TransportEvents, *, max_backlog: int, max_message_size: int
    ) -> Transport:
        raise ValueError(f"no sockets for {state!r}, {events}, {max_backlog}, {max_message_size}")

    async def go_on(self, transport: Transport, descriptor: int) -> None:
        raise OSError(f"no sockets here for {transport} and {descriptor}")

    def send(self, number: signal.Signals) -> None:
        """What the process would get."""
        assert self.on_signal is not None
        self.on_signal(number)

    def _note(self, change: str) -> None:
        self.changes.append(change)
        self.at_change()


class FakeCoordinator(SoleWorker):
    """Siblings as the test wants them, and what this worker said of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ready: list[WorkerRecord] = []
        self.others: list[WorkerRecord] = []
        self.dead: list[WorkerRecord] = []
        self.states: list[State] = []
        self.finished: list[bool] = []
        self.announced: dict[str, int] = {}
        self.successor = False
        self.looks = 0
        self.at_look: Callable[[], object] = lambda: None

    def update(
        self,
        *,
        state: State | None = None,
        connections: int | None = None,
        announced: Mapping[str, int] | None = None,
        drain: DrainReport | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> None:
        super().update(
            state=state, connections=connections, announced=announced, drain=drain, counts=counts
        )
        if state is not None:
            self.states.append(state)
        if announced is not None:
            self.announced = dict(announced)

    def siblings(self) -> list[WorkerRecord]:
        return self.others

    def ready_siblings(self) -> list[WorkerRecord]:
        self.looks += 1
        self.at_look()
        return self.ready

    def expects_successor(self) -> bool:
        return self.successor

    def claim_dead(self) -> list[WorkerRecord]:
        dead, self.dead = self.dead, []
        return dead

    def finish(self, *, stopping: bool) -> bool:
        self.finished.append(stopping)
        return True


if TYPE_CHECKING:
    _: tuple[
        type[Transport],
        type[ConnectionOwner],
        type[Guest],
        type[Host],
        type[Coordinator],
    ] = (RecordingTransport, RecordingOwner, RecordingGuest, FakeHost, FakeCoordinator)
