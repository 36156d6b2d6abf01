"""The seam between a connection and the bytes of its client."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lastcall.protocol.base import Message

type Frame = bytes | tuple[Message, ...]
"""What a framing makes and its transports write: ready bytes, or messages for a server to frame.

Opaque to everybody between the two.
"""


DETACH = "lastcall.detach"
"""The ASGI extension by which our own WebSocket class takes a connection out of its endpoint."""
CUT = "lastcall.cut"
"""The ASGI extension that cuts a connection whose client does not read its response."""
DRAINING = "lastcall.draining"
"""Mark among a scope's extensions: somebody tells this endpoint when to end."""


class Framing(Hashable, Protocol):
    """How messages become one frame; shared by all transports that write alike."""

    name: str

    def frame(self, messages: Sequence[Message]) -> Frame:
        """One frame that holds *messages* in order; made once, written to many clients."""
        ...


@dataclass(frozen=True, slots=True)
class Frozen:
    """A client between two transports: nobody reads from it, nobody writes to it."""

    state: bytes
    """What its next transport has to know, in this process or another."""
    descriptor: int
    """Its socket. Whoever has this value closes it, or makes a transport of it."""


class TransportEvents(Protocol):
    """The connection's side of its transport. Plain calls that never raise."""

    def received(self, message: Message, /) -> None:
        """The client sent *message*: complete, at most `MAX_MESSAGE_SIZE`, and UTF-8 if text."""
        ...

    def overflowed(self) -> None:
        """The client's backlog passed its limit. Called once; frames after it are dropped."""
        ...

    def ended(self, code: int) -> None:
        """Nothing more can be received. Called exactly once, last.

        *code* is the client's close code if it sent one, ours if we closed, 1005 for a close
        without a code, 1006 for a cut.
        """
        ...


class Transport(Protocol):
    """Writes to one client. Never waits, never raises; after the end it does nothing."""

    framing: Framing
    movable: bool
    """Whether another worker can take the client over, if perhaps not at this moment."""

    @property
    def backlog(self) -> int:
        """Bytes that were written here and have not been taken by the kernel or the server."""
        ...

    def write(self, frame: Frame, /) -> None:
        """Send *frame* whole and in order, now or when the client has read what is before it."""
        ...

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        """Close with *code* and *reason* after what has been written, within a bounded time.

        With *discard*, what no byte was sent of yet is dropped first. A second call is ignored.
        """
        ...

    def abort(self) -> None:
        """Cut the connection now, without a code; for clients that do not answer."""
        ...

    def pause(self) -> None:
        """Stop reading from the client; it then waits in its own kernel."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    def freeze(self) -> Frozen | None:
        """Let go of the client without a word to it, so that another transport can go on.

        Everything that was read but not received, and written but not sent, is in the state. This
        transport tells nothing any more, not even its end. None: not now, or never.
        """
        ...
