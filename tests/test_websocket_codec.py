"""RFC 6455 by example: what a server makes of a client's bytes."""

import os

import pytest

from lastcall.protocol.base import Message
from lastcall.websocket_codec import Closed, Event, Failed, FrameReader, Ping, Pong
from lastcall.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_frame,
)
from tests.websocket_bytes import FIN, LIMIT, frame, one_by_one, read

TOO_BIG = Failed(1009, "message too big")
NOT_UTF8 = Failed(1007, "text is not valid UTF-8")


@pytest.mark.parametrize("size", [0, 1, 2, 125, 126, 127, 999, 1000])
@pytest.mark.parametrize("first", [TEXT, BINARY])
def test_message_of_every_length_form(size: int, first: int) -> None:
    """RFC 6455, 5.2."""
    sent = frame(FIN | first, b"x" * size)
    message = Message(b"x" * size, binary=first == BINARY)

    assert read([sent]) == [message]
    assert read(one_by_one(sent)) == [message]
    assert read([sent + sent + sent[:-1]]) == [message, message][: 2 if size else 3]


def test_length_may_be_longer_than_needed() -> None:
    assert read([bytes((0x81, 0xFE, 0, 1)) + b"\0\0\0\0a"]) == [Message(b"a")]
    assert read([bytes((0x81, 0xFF, *bytes(7), 1)) + b"\0\0\0\0a"]) == [Message(b"a")]


def test_large_message_in_one_frame_and_in_many_reads() -> None:
    payload = os.urandom(100_000)
    sent = frame(FIN | BINARY, payload)
    pieces = [sent[i : i + 7001] for i in range(0, len(sent), 7001)]

    assert read(pieces, limit=100_000) == [Message(payload, binary=True)]
    assert read([sent], limit=100_000) == [Message(payload, binary=True)]


def test_control_frames_between_fragments() -> None:
    """RFC 6455, 5.4."""
    sent = frame(TEXT, b"he") + frame(FIN | PING, b"?") + frame(CONTINUATION, b"ll")
    sent += frame(FIN | PONG, b"!") + frame(CONTINUATION) + frame(FIN | CONTINUATION, b"o")
    events = [Ping(b"?"), Pong(b"!"), Message(b"hello")]

    assert read([sent]) == events
    assert read(one_by_one(sent)) == events


def test_close_inside_a_fragmented_message_is_an_ordinary_close() -> None:
    """RFC 6455, 5.4 and 5.5.1."""
    sent = frame(TEXT, b"he") + frame(FIN | CLOSE, b"\x03\xe8bye") + frame(FIN | TEXT, b"late")

    assert read([sent]) == [Closed(1000, "bye")]
    assert read(one_by_one(sent)) == [Closed(1000, "bye")]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x81\x01a", "frame is not masked"),
        (b"\x81\x7e\x01\x00", "frame is not masked"),
        (frame(FIN | 0x40 | TEXT, b"a"), "reserved bit is set"),
        (frame(FIN | 0x20 | TEXT, b"a"), "reserved bit is set"),
        (frame(FIN | 0x10 | PING, b"a"), "reserved bit is set"),
        (frame(FIN | 0x3, b"a"), "unknown opcode"),
        (frame(FIN | 0xB, b"a"), "unknown opcode"),
        (frame(PING, b"a"), "control frame is too long or fragmented"),
        (frame(CLOSE), "control frame is too long or fragmented"),
        (frame(FIN | PING, b"a" * 126), "control frame is too long or fragmented"),
        (frame(FIN | CONTINUATION, b"a"), "continuation of nothing"),
        (frame(TEXT, b"a") + frame(FIN | TEXT, b"b"), "message inside a message"),
        (frame(TEXT) + frame(FIN | BINARY), "message inside a message"),
        (b"\x82\xff\x80" + bytes(11), "length has its highest bit set"),
    ],
)
def test_broken_frames_are_protocol_errors(sent: bytes, reason: str) -> None:
    later = frame(FIN | TEXT, b"never read")

    assert read([sent + later]) == [Failed(1002, reason)]
    assert read(one_by_one(sent + later)) == [Failed(1002, reason)]


def test_too_big_is_known_from_the_header_on() -> None:
    assert read([frame(FIN | BINARY, b"a" * 1001)[:8]]) == [TOO_BIG]
    assert read([b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4)]) == [TOO_BIG]


def test_too_big_counts_over_all_fragments() -> None:
    parts = [frame(BINARY, b"a" * 500), frame(CONTINUATION, b"a" * 500)]

    assert read([*parts, frame(FIN | CONTINUATION)]) == [Message(b"a" * 1000, binary=True)]
    assert read([*parts, frame(FIN | CONTINUATION, b"a")[:6]]) == [TOO_BIG]


def test_limit_that_was_lowered_holds_for_a_message_under_way() -> None:
    reader = FrameReader(LIMIT)
    sent = frame(FIN | BINARY, b"a" * 200)
    reader.feed(sent[:100])
    assert reader.next_event() is None

    reader.limit = 199
    reader.feed(sent[100:])

    assert reader.next_event() == TOO_BIG


def test_text_that_is_not_utf8() -> None:
    """RFC 6455, 8.1: whole, cut inside a character, and at the first byte that shows it."""
    assert read([frame(FIN | TEXT, b"\xce\xba\xe1\xbd")]) == [NOT_UTF8]
    assert read([frame(FIN | TEXT, "aé€😀".encode())]) == [Message("aé€😀".encode())]
    assert read([frame(TEXT, b"\xf4") + frame(CONTINUATION, b"\x90")]) == [NOT_UTF8]
    assert read([frame(FIN | TEXT, b"ab\xed\xa0")[:10], b""]) == [NOT_UTF8]
    assert read([frame(TEXT, b"\xc3") + frame(FIN | CONTINUATION)]) == [NOT_UTF8]
    assert read([frame(FIN | TEXT, b"a" * 200 + b"\xff" * 200)[:210]]) == [NOT_UTF8]


def test_character_split_over_frames_and_reads() -> None:
    text = "aé€😀".encode()
    sent = b"".join(frame(TEXT if not i else CONTINUATION, text[i : i + 1]) for i in range(10))
    sent += frame(FIN | CONTINUATION)

    assert read([sent]) == [Message(text)]
    assert read(one_by_one(sent)) == [Message(text)]


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b"", Closed(1005, "")),
        (b"\x03\xe8", Closed(1000, "")),
        (b"\x0f\xa0later", Closed(4000, "later")),
        (b"\x03", Failed(1002, "close code is not valid")),
        (b"\x03\xe8\xff", Failed(1007, "close reason is not valid UTF-8")),
        *(
            (code.to_bytes(2), Failed(1002, "close code is not valid"))
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ),
        *((code.to_bytes(2), Closed(code, "")) for code in (1001, 1003, 1007, 1014, 3000, 4999)),
    ],
)
def test_close_codes_and_reasons(payload: bytes, event: Event) -> None:
    """RFC 6455, 7.4."""
    assert read([frame(FIN | CLOSE, payload)]) == [event]


def test_reason_is_cut_between_characters() -> None:
    assert close_frame(1000, "€" * 50) == b"\x88\x7d\x03\xe8" + "€".encode() * 41
    assert close_frame(1005, "ignored") == b"\x88\x00"
    with pytest.raises(ValueError, match="1006 must not be sent"):
        close_frame(1006)
