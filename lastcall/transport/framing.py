"""Framings of the WebSocket transports: messages in, ready bytes out, once for all clients."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lastcall.protocol.base import Message
from lastcall.websocket_deflate import MAX_WINDOW_BITS
from lastcall.websocket_frames import deflated_frame, message_frame


class WebSocketFraming:
    """One WebSocket frame for each message (RFC 6455)."""

    name = "websocket"

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The frames of *messages*, joined."""
        if len(messages) == 1:
            return message_frame(messages[0])
        return b"".join([message_frame(message) for message in messages])


class DeflateFraming:
    """The same, compressed where that helps (RFC 7692), for clients that agreed on a window."""

    def __init__(self, window_bits: int) -> None:
        """Use `deflate_framing`, which gives clients of one window the same object."""
        self.name = "websocket-deflate"
        if window_bits != MAX_WINDOW_BITS:
            self.name += f"-{window_bits}"
        self._window_bits = window_bits

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The frames of *messages*, joined; each is compressed for itself."""
        return b"".join([deflated_frame(message, self._window_bits) for message in messages])


WEBSOCKET: Final = WebSocketFraming()

_DEFLATE: Final = {bits: DeflateFraming(bits) for bits in range(9, MAX_WINDOW_BITS + 1)}


def deflate_framing(window_bits: int) -> DeflateFraming:
    """The one framing of all clients that read compressed frames of this window."""
    return _DEFLATE[window_bits]


def framing_named(name: str) -> "Framing":
    """Give the framing that calls itself *name*.

    Raises:
        ValueError: there is none.
    """
    known: list[Framing] = [WEBSOCKET, *_DEFLATE.values()]
    for framing in known:
        if framing.name == name:
            return framing
    raise ValueError(f"there is no framing {name!r}")


if TYPE_CHECKING:
    from lastcall.transport.base import Framing

    _: tuple[type[Framing], type[Framing]] = (WebSocketFraming, DeflateFraming)
