"""RFC 7692 by example: messages that are compressed, each for itself."""

import os
import zlib

import pytest

from lastcall.protocol.base import Message
from lastcall.websocket_codec import Failed
from lastcall.websocket_deflate import MAX_WINDOW_BITS, deflate, longest_compressed, negotiate
from lastcall.websocket_frames import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    deflated_frame,
    message_frame,
)
from tests.websocket_bytes import FIN, RSV1, frame, one_by_one, read

TOO_BIG = Failed(1009, "message too big")
NOT_UTF8 = Failed(1007, "text is not valid UTF-8")


@pytest.mark.parametrize(
    "payload",
    [
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    ],
    ids=["one block", "no compression", "final block", "only that", "two blocks"],
)
def test_examples_of_rfc_7692(payload: bytes) -> None:
    """RFC 7692, 7.2.3."""
    sent = frame(FIN | RSV1 | TEXT, payload)
    fragments = frame(RSV1 | TEXT, payload[:3]) + frame(FIN | CONTINUATION, payload[3:])

    assert read([sent], deflate=True) == [Message(b"Hello")]
    assert read(one_by_one(fragments), deflate=True) == [Message(b"Hello")]


def test_only_the_first_frame_of_a_message_says_that_it_is_compressed() -> None:
    sent = frame(RSV1 | TEXT, b"\xf2\x48") + frame(FIN | RSV1 | CONTINUATION, b"\xcd")

    assert read([sent], deflate=True) == [Failed(1002, "reserved bit is set")]
    assert read([frame(FIN | RSV1 | PING)], deflate=True) == [Failed(1002, "reserved bit is set")]
    assert read([frame(FIN | TEXT, b"plain")], deflate=True) == [Message(b"plain")]


def test_compressed_message_over_the_limit_is_not_inflated_further() -> None:
    bomb = deflate(bytes(100_000_000), MAX_WINDOW_BITS)
    limit = len(bomb)

    assert read([frame(FIN | RSV1 | BINARY, bomb)], limit, deflate=True) == [TOO_BIG]
    assert read([frame(FIN | RSV1 | BINARY, bomb)[:14]], limit // 2, deflate=True) == [TOO_BIG]


def test_incompressible_message_of_exactly_the_limit_is_read() -> None:
    for limit in (1, 1000, 1_000_000):
        data = os.urandom(limit)
        assert len(deflate(data, MAX_WINDOW_BITS)) <= longest_compressed(limit)
        sent = frame(FIN | RSV1 | BINARY, deflate(data, MAX_WINDOW_BITS))
        assert read([sent], limit, deflate=True) == [Message(data, binary=True)]


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x03\x00" * 400])
def test_data_that_is_not_deflate(payload: bytes) -> None:
    sent = frame(FIN | RSV1 | BINARY, payload)

    assert read([sent], deflate=True) == [Failed(1007, "compressed data is not valid")]


def test_compressed_text_is_utf8_too() -> None:
    sent = frame(FIN | RSV1 | TEXT, deflate(b"\xff" * 100, MAX_WINDOW_BITS))

    assert read([sent], deflate=True) == [NOT_UTF8]


def test_final_block_may_be_followed_by_blocks_that_refer_to_it() -> None:
    first, text = zlib.compressobj(wbits=-15), b"the same words again "
    sent = first.compress(text * 3) + first.flush(zlib.Z_FINISH)
    second = zlib.compressobj(wbits=-15, zdict=text * 3)
    sent += (second.compress(text * 2) + second.flush(zlib.Z_SYNC_FLUSH))[:-4]

    assert read([frame(FIN | RSV1 | TEXT, sent)], deflate=True) == [Message(text * 5)]


def test_small_or_incompressible_messages_are_left_alone() -> None:
    for data in (b"a" * 63, os.urandom(500)):
        message = Message(data, binary=True)
        assert deflated_frame(message, MAX_WINDOW_BITS) == message_frame(message)


ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        (["permessage-deflate"], (15, ANSWER)),
        (["permessage-deflate; client_max_window_bits"], (15, ANSWER)),
        (["permessage-deflate;client_max_window_bits=10"], (15, ANSWER)),
        (["other", "permessage-deflate; client_no_context_takeover"], (15, ANSWER)),
        (
            ['permessage-deflate; server_max_window_bits="9"; server_no_context_takeover'],
            (9, ANSWER + "; server_max_window_bits=9"),
        ),
        (["permessage-deflate; server_max_window_bits=8"], None),
        (["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], (15, ANSWER)),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; client_max_window_bits=7"], None),
        (["permessage-deflate; client_no_context_takeover=1"], None),
        (["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (["permessage-deflate; unknown"], None),
        (["x-webkit-deflate-frame"], None),
        ([""], None),
    ],
)
def test_offers_of_compression(offers: list[str], agreed: tuple[int, str] | None) -> None:
    """RFC 7692, 5.1 and 7.1."""
    assert negotiate(iter(offers)) == agreed
