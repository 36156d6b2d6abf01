"""A WebSocket between two processes: all that its next owner has to know, as plain data."""

from typing import TYPE_CHECKING

import msgspec

from lastcall.transport.framing import framing_named
from lastcall.websocket_codec import ReaderState

if TYPE_CHECKING:
    from lastcall.transport.base import Framing


class FrozenWebSocket(msgspec.Struct, frozen=True):
    """What `UvicornWebSocket.freeze` writes and `thaw` reads, perhaps of another release.

    Fields have names on the wire: a newer release may add one that has a default.
    """

    framing: str
    reader: ReaderState
    unsent: list[bytes]
    """The rest of a write that was begun, then whole frames."""
    pinged: bool = False
    """Whether a sign of life was asked for and has not come."""
    owes_answers: bool = False
    """Whether the client is not read from until it has read what is unsent."""

    def encode(self) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, state: bytes) -> "tuple[FrozenWebSocket, Framing]":
        """Take what `encode` made, and find the framing that it names.

        Raises:
            ValueError: it is something else, or of a framing that does not exist here.
        """
        try:
            frozen = msgspec.msgpack.decode(state, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no frozen WebSocket: {error}") from error
        if not frozen.unsent:
            raise ValueError("no frozen WebSocket: it says nothing of what is unsent")
        return frozen, framing_named(frozen.framing)
