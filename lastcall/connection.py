"""One client on this worker. Plain functions: no task, no queue, no coroutine of its own."""

from dataclasses import dataclass
from enum import Flag, auto
from typing import TYPE_CHECKING, Protocol

from lastcall.errors import Disconnect, SlowConsumer
from lastcall.protocol.base import Command, Message
from lastcall.session import Session
from lastcall.transport.base import Frame, Frozen, Transport, TransportEvents
from lastcall.wire_format import WireFormat


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """Where a client connects from, as far as the server and its proxies know."""

    host: str | None
    port: int | None

    def __str__(self) -> str:
        """`[IP]:port`, the brackets literal; what is unknown is left out."""
        if self.host is None:
            return "[unix]"
        return f"[{self.host}]:{self.port}" if self.port else f"[{self.host}]"


class Paused(Flag):
    """Why a client is not read from at the moment."""

    NOTHING = 0
    RATE = auto()
    COMMANDS = auto()
    MOVE = auto()


class ConnectionOwner(Protocol):
    """Whom a connection tells what happens to it. Plain calls that never raise."""

    def commanded(self, connection: "Connection", command: Command, /) -> None:
        """The client asks for something."""
        ...

    def ended(self, connection: "Connection", code: int, /) -> None:
        """The client is gone; called exactly once."""
        ...

    def lost(self, connection: "Connection", channel: str, /) -> None:
        """Publications of *channel* that the client should have heard are gone."""
        ...

    def flush(self) -> None:
        """Write what was published already: what the server says next must not overtake it."""
        ...


class Connection:
    """One client: who it is, how to write to it, what it listens to.

    Attributes:
        remote: where it connects from.
        user: who it is, as the application said in `attach`; None if it did not.
        endpoint: the name under which the application's handlers are found.
        channels: what it is subscribed to.
        session: what a client of a protocol with sessions is and may; None for the others.
        is_gone: whether its end has been told.
        transport: how it is written to.
        ended_by: why the server let it go; None while it did not.
    """

    __slots__ = (
        "_paused",
        "channels",
        "ended_by",
        "endpoint",
        "is_gone",
        "owner",
        "remote",
        "session",
        "transport",
        "user",
        "wire_format",
    )

    def __init__(
        self,
        owner: ConnectionOwner,
        remote: RemoteAddress,
        *,
        user: str | None = None,
        endpoint: str = "",
        channels: tuple[str, ...] = (),
        session: Session | None = None,
    ) -> None:
        """Describe a client that is about to be connected; `open` gives it its transport."""
        self.owner = owner
        self.remote = remote
        self.user = user
        self.endpoint = endpoint
        self.channels = channels
        self.session = session
        self.is_gone = False
        self.ended_by: Disconnect | None = None
        self._paused = Paused.NOTHING

    def open(self, transport: Transport, wire_format: WireFormat) -> None:
        """Write through *transport*, in *wire_format*, from now on."""
        self.transport = transport
        self.wire_format = wire_format
        if self._paused:
            transport.pause()

    def applies_deltas(self, channel: str) -> bool:
        """Whether publications of *channel* are deltas for it."""
        if self.session is None:
            return False
        subscription = self.session.subscriptions.get(channel)
        return subscription is not None and subscription.delta

    def write(self, frame: Frame) -> None:
        """Send a frame of this connection's wire format; never waits, never raises."""
        self.transport.write(frame)

    @property
    def movable(self) -> bool:
        """Whether another worker can take the client over, if perhaps not at this moment."""
        return self.ended_by is None and self.transport.movable

    @property
    def backlog(self) -> int:
        """Bytes that were written and that the client has not read."""
        return self.transport.backlog

    def freeze(self) -> Frozen | None:
        """Take the client out of its transport, which is dead then: `open` another.

        Nobody may deliver a channel to it meanwhile: the hub knows its transport (`Hub.hold`).
        """
        return self.transport.freeze()

    def send(self, message: str | bytes) -> None:
        """Send *message* to this client only, behind what was published to its channels before.

        Text for `str`, binary for `bytes`.
        """
        binary = isinstance(message, bytes)
        data = message if isinstance(message, bytes) else message.encode()
        self.say(Message(data, binary))

    def say(self, message: Message) -> None:
        """Send what the client's protocol has made, behind what was published before."""
        self.owner.flush()
        self.write(self.wire_format.framing.frame([message]))

    def notify(self, text: str) -> None:
        """Tell this client something about the server, in the words of its protocol."""
        self.owner.flush()
        self.write(self.wire_format.notice(text))

    def disconnect(self, why: Disconnect) -> None:
        """Close with the code and reason of *why*, after what was sent; the first reason counts."""
        if self.ended_by is not None:
            return
        self.ended_by = why
        # A reader that is too slow would have to read its whole backlog to learn why it is closed.
        discard = isinstance(why, SlowConsumer)
        if not discard:
            self.owner.flush()
        code, reason = self.wire_format.protocol.farewell(why)
        self.transport.close(code, reason, discard=discard)

    def abort(self) -> None:
        """Cut the connection without a word, where a close was not answered."""
        self.transport.abort()

    def pause(self, why: Paused) -> None:
        """Stop reading from the client until every reason is resumed."""
        if not self._paused:
            self.transport.pause()
        self._paused |= why

    def resume(self, why: Paused) -> None:
        """Take one reason back, and read on if it was the last."""
        if why not in self._paused:
            return
        self._paused &= ~why
        if not self._paused:
            self.transport.resume()

    def received(self, message: Message) -> None:
        """Decode what the client sent, and pass on what it asks for."""
        if self.ended_by is not None:
            return
        try:
            commands = self.wire_format.protocol.decode(message)
        except Disconnect as why:
            self.disconnect(why)
            return
        for command in commands:
            self.owner.commanded(self, command)

    def overflowed(self) -> None:
        """Let go of a client that reads too slowly; nobody else waits for it."""
        self.disconnect(SlowConsumer())

    def ended(self, code: int) -> None:
        """Tell the owner that this client is gone."""
        self.is_gone = True
        self.owner.ended(self, code)


if TYPE_CHECKING:
    _: type[TransportEvents] = Connection
