"""The client's side by hand: frames that no library would send, and reading them in pieces."""

from collections.abc import Iterable

import msgspec

from lastcall.websocket_codec import Event, FrameReader, ReaderState

LIMIT = 1000
FIN, RSV1 = 0x80, 0x40


def frame(first: int, payload: bytes = b"", *, mask: bytes = b"\x01\x80\x00\xfe") -> bytes:
    """What a client sends; *first* is the whole first byte."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def read(pieces: Iterable[bytes], limit: int = LIMIT, *, deflate: bool = False) -> list[Event]:
    """All events, moving the reader to another process after each piece."""
    reader = FrameReader(limit, deflate=deflate)
    events: list[Event] = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next_event()) is not None:
            events.append(event)
        moved = msgspec.msgpack.decode(msgspec.msgpack.encode(reader.dump()), type=ReaderState)
        reader = FrameReader.load(moved, limit, deflate=deflate)
    return events


def one_by_one(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]
