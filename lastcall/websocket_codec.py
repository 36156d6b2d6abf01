"""What a WebSocket client says (RFC 6455, the server's side), without any input or output.

`FrameReader` takes the client's bytes and gives events. All that it knows in the middle of a
frame is plain data (`dump`, `load`): a connection can move to another process between any two
bytes. `websocket_frames` makes the frames of the other direction.
"""

from codecs import utf_8_decode

import msgspec

from lastcall.close_words import may_close_with
from lastcall.protocol.base import Message
from lastcall.websocket_deflate import (
    InflatedTooBigError,
    InflateError,
    inflate,
    longest_compressed,
)
from lastcall.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    INVALID_DATA,
    MASKED,
    MAX_CONTROL,
    NO_CODE,
    PING,
    TEXT,
    TOO_BIG,
    Header,
    ViolationError,
    read_header,
    unmask,
)

_WHOLE = frozenset({FIN | TEXT, FIN | BINARY})


class Ping(msgspec.Struct, frozen=True, gc=False):
    """The client wants *data* back in a pong."""

    data: bytes


class Pong(msgspec.Struct, frozen=True, gc=False):
    """The client answered a ping, or lets us know that it lives."""

    data: bytes


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The client closed; 1005 if it gave no code. Nothing follows."""

    code: int
    reason: str


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The client broke the protocol: close with this code and reason. Nothing follows."""

    code: int
    reason: str


type Event = Message | Ping | Pong | Closed | Failed


class HalfMessage(msgspec.Struct, array_like=True):
    """A message whose end has not come yet, and the frame of it that is being read."""

    binary: bool
    deflated: bool
    data: bytearray = msgspec.field(default_factory=bytearray)
    """Not a list of pieces: fragments of one byte would take forty times their size."""
    utf8_tail: bytes = b""
    """The bytes of a character that the next frame or read has to complete."""
    final: bool = False
    missing: int = 0
    """Payload bytes of the current frame that are still to come."""
    mask: bytes = b""
    """Turned so that it starts at the next payload byte."""


class ReaderState(msgspec.Struct, frozen=True, array_like=True):
    """All that a `FrameReader` knows of its client, to be sent to another process."""

    unread: bytes
    half: HalfMessage | None
    ended: bool


class FrameReader:
    """Turns the bytes of one client into events, as they are asked for.

    Give bytes with `feed`, then call `next_event` until it returns None. *limit* bounds a
    message over all its frames and is checked as soon as a header announces too much; so no more
    than a message is ever held. Compression is understood where *deflate* was negotiated.
    """

    __slots__ = ("_buffer", "_ended", "_half", "_start", "deflate", "limit")

    def __init__(self, limit: int, *, deflate: bool = False) -> None:
        """Start at the first byte after the handshake."""
        self.limit = limit
        self.deflate = deflate
        self._buffer = b""
        self._start = 0
        self._half: HalfMessage | None = None
        self._ended = False

    @property
    def unread(self) -> int:
        """How many bytes wait to be asked for."""
        return len(self._buffer) - self._start

    def dump(self) -> ReaderState:
        """What `load` needs to go on from here in another process."""
        return ReaderState(self._buffer[self._start :], self._half, self._ended)

    @classmethod
    def load(cls, state: ReaderState, limit: int, *, deflate: bool = False) -> "FrameReader":
        """Go on where `dump` was taken."""
        reader = cls(limit, deflate=deflate)
        reader._buffer, reader._half, reader._ended = state.unread, state.half, state.ended
        return reader

    def feed(self, data: bytes) -> None:
        """Take what the client sent; after the end it is thrown away."""
        if not self._ended:
            self._buffer = self._buffer[self._start :] + data if self._buffer else data
            self._start = 0

    def next_event(self) -> Event | None:
        """What the client sent next, or None while that is not complete."""
        buffer, start = self._buffer, self._start
        have = len(buffer) - start
        if have > 7 and self._half is None:  # noqa: PLR2004  (enough for a length of two bytes)
            # Nearly all that clients send is this: one whole, unfragmented, not too large frame.
            first, length, payload = buffer[start], buffer[start + 1] - MASKED, start + 6
            if length > MAX_CONTROL:
                length = -1 if length > 126 else int.from_bytes(buffer[start + 2 : start + 4])  # noqa: PLR2004  (RFC 6455, 5.2)
                payload = start + 8
            end = payload + length
            if 0 <= length <= self.limit and end <= len(buffer) and first in _WHOLE:
                data = unmask(buffer[payload:end], buffer[payload - 4 : payload])
                # An idle connection holds no buffer, not even one that has been read.
                self._buffer, self._start = (buffer, end) if end < len(buffer) else (b"", 0)
                if first == FIN | BINARY:
                    return Message(data, binary=True)
                if data.isascii() or _is_utf8(data):
                    return Message(data)
                return self._fail(INVALID_DATA, "text is not valid UTF-8")
        elif not have:
            return None
        return self._next_of_any_kind()

    def _next_of_any_kind(self) -> Event | None:
        try:
            while True:
                half = self._half
                if half is None or not half.missing:
                    header = read_header(self._buffer, self._start, deflate=self.deflate)
                    if header is None:
                        return None
                    if header.opcode >= CLOSE:
                        return self._read_control(header)
                    half = self._half = self._begin_frame(header)
                if not self._read_payload(half):
                    return None
                if half.final:
                    return self._finish(half)
        except ViolationError as violation:
            return self._fail(violation.code, violation.reason)

    def _read_control(self, header: Header) -> Event | None:
        end = header.payload + header.length
        if end > len(self._buffer):
            return None
        data = unmask(self._buffer[header.payload : end], header.mask)
        self._advance(end)
        if header.opcode == CLOSE:
            closed = _read_close(data)
            self._end()
            return closed
        return Ping(data) if header.opcode == PING else Pong(data)

    def _begin_frame(self, header: Header) -> HalfMessage:
        """Open a message or go on with the open one; refuse what would grow too big."""
        half = self._half
        if header.opcode == CONTINUATION:
            if half is None:
                raise ViolationError("continuation of nothing")
        elif half is not None:
            raise ViolationError("message inside a message")
        else:
            half = HalfMessage(header.opcode == BINARY, header.deflated)
        limit = longest_compressed(self.limit) if half.deflated else self.limit
        if len(half.data) + header.length > limit:
            raise ViolationError("message too big", TOO_BIG)
        half.final, half.missing, half.mask = header.final, header.length, header.mask
        self._advance(header.payload)
        return half

    def _read_payload(self, half: HalfMessage) -> bool:
        """Take what is there of the current frame; whether that completes it."""
        data = self._buffer[self._start : self._start + half.missing]
        plain = unmask(data, half.mask)
        turn = len(data) % 4
        half.mask = half.mask[turn:] + half.mask[:turn]
        half.missing -= len(data)
        self._advance(self._start + len(data))
        half.data += plain
        if not half.binary and not half.deflated:
            last = half.final and not half.missing
            half.utf8_tail = _check_utf8(half.utf8_tail + plain, final=last)
        return not half.missing

    def _finish(self, half: HalfMessage) -> Message:
        self._half = None
        data = bytes(half.data)
        if half.deflated:
            try:
                data = inflate(data, self.limit)
            except InflatedTooBigError as error:
                raise ViolationError("message too big", TOO_BIG) from error
            except InflateError as error:
                raise ViolationError("compressed data is not valid", INVALID_DATA) from error
            if not half.binary:
                _check_utf8(data, final=True)
        elif len(data) > self.limit:  # lowered since the header came
            raise ViolationError("message too big", TOO_BIG)
        return Message(data, half.binary)

    def _advance(self, end: int) -> None:
        # An idle connection holds no buffer, not even one that has been read.
        self._buffer, self._start = (self._buffer, end) if end < len(self._buffer) else (b"", 0)

    def _end(self) -> None:
        self._buffer, self._start, self._half, self._ended = b"", 0, None, True

    def _fail(self, code: int, reason: str) -> Failed:
        self._end()
        return Failed(code, reason)


def _read_close(data: bytes) -> Closed:
    if not data:
        return Closed(NO_CODE, "")
    code = int.from_bytes(data[:2])
    if len(data) == 1 or not may_close_with(code):
        raise ViolationError("close code is not valid")
    if not _is_utf8(data[2:]):
        raise ViolationError("close reason is not valid UTF-8", INVALID_DATA)
    return Closed(code, data[2:].decode())


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_utf8(data: bytes, *, final: bool) -> bytes:
    """What is left over of an unfinished character, at the first moment that it can be known."""
    if data.isascii():
        return b""
    try:
        _, used = utf_8_decode(data, "strict", final)
    except UnicodeDecodeError:
        raise ViolationError("text is not valid UTF-8", INVALID_DATA) from None
    return data[used:]
