"""One WebSocket frame (RFC 6455, 5): reading its header, masking, and making ours."""

from typing import NamedTuple

from lastcall.close_words import may_close_with
from lastcall.protocol.base import Message
from lastcall.websocket_deflate import deflate

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

PROTOCOL_ERROR, NO_CODE, INVALID_DATA, TOO_BIG = 1002, 1005, 1007, 1009

FIN, MASKED = 0x80, 0x80
MAX_CONTROL = 125  # RFC 6455, 5.5

_RSV1, _RSV, _OPCODE, _LENGTH = 0x40, 0x70, 0x0F, 0x7F
_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_WORTH_DEFLATING = 64  # below, DEFLATE saves nothing that its own cost would not eat


class ViolationError(Exception):
    """The client broke a rule: the close code and the reason that it will be told."""

    def __init__(self, reason: str, code: int = PROTOCOL_ERROR) -> None:
        """Most violations are protocol errors."""
        super().__init__(reason)
        self.reason, self.code = reason, code


class Header(NamedTuple):
    """A frame's header, already found to be one that a client may send."""

    opcode: int
    length: int
    mask: bytes
    payload: int
    """Where in the buffer the payload starts."""
    final: bool
    deflated: bool


def read_header(buffer: bytes, start: int, *, deflate: bool) -> Header | None:
    """The header at *start*, or None while it is not whole.

    Raises:
        ViolationError: as soon as the bytes that are there cannot become a legal header.
    """
    if len(buffer) - start < 2:  # noqa: PLR2004  (both bytes say what kind of header it is)
        return None
    first, second = buffer[start], buffer[start + 1]
    opcode, length = first & _OPCODE, second & _LENGTH
    if not second & MASKED:
        raise ViolationError("frame is not masked")
    if first & _RSV and not (first & _RSV == _RSV1 and deflate and opcode in {TEXT, BINARY}):
        raise ViolationError("reserved bit is set")
    if opcode not in _OPCODES:
        raise ViolationError("unknown opcode")
    if opcode >= CLOSE and (length > MAX_CONTROL or not first & FIN):
        raise ViolationError("control frame is too long or fragmented")
    extended = {126: 2, 127: 8}.get(length, 0)
    payload = start + 6 + extended
    if payload > len(buffer):
        return None
    if extended:
        length = int.from_bytes(buffer[start + 2 : start + 2 + extended])
    if length >> 63:
        raise ViolationError("length has its highest bit set")
    mask = buffer[payload - 4 : payload]
    return Header(opcode, length, mask, payload, bool(first & FIN), bool(first & _RSV1))


_BY_STRIDES = 16_384
_XOR = [bytes(byte ^ key for byte in range(256)) for key in range(256)]


def unmask(data: bytes, mask: bytes) -> bytes:
    """Undo (or do) the masking of *data* with the four bytes of *mask* (RFC 6455, 5.3)."""
    size = len(data)
    if size > _BY_STRIDES:
        # One table per mask byte beats arithmetic on integers of many thousand digits.
        result = bytearray(size)
        for place, key in enumerate(mask):
            result[place::4] = data[place::4].translate(_XOR[key])
        return bytes(result)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return (int.from_bytes(data) ^ key).to_bytes(size)


def message_frame(message: Message) -> bytes:
    """One whole frame for *message*, uncompressed."""
    return _frame(BINARY if message.binary else TEXT, message.data)


def deflated_frame(message: Message, window_bits: int) -> bytes:
    """One whole frame for *message*, compressed if that makes it shorter."""
    if len(message.data) >= _WORTH_DEFLATING:
        payload = deflate(message.data, window_bits)
        if len(payload) < len(message.data):
            return _frame((BINARY if message.binary else TEXT) | _RSV1, payload)
    return message_frame(message)


PING_FRAME = bytes((FIN | PING, 0))


def pong_frame(data: bytes) -> bytes:
    """The answer to a ping that carried *data*."""
    return _frame(PONG, data)


def close_frame(code: int, reason: str = "") -> bytes:
    """The close frame; a reason that is too long is cut between two characters (5.5.1).

    1005 stands for "no code" and makes the frame without one.

    Raises:
        ValueError: *code* must not be sent.
    """
    if code == NO_CODE:
        return _frame(CLOSE, b"")
    if not may_close_with(code):
        raise ValueError(f"close code {code} must not be sent")
    words = reason.encode("utf-8", "replace")[: MAX_CONTROL - 2].decode("utf-8", "ignore")
    return _frame(CLOSE, code.to_bytes(2) + words.encode())


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= MAX_CONTROL:
        return bytes((FIN | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((FIN | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((FIN | opcode, 127)) + size.to_bytes(8) + payload
