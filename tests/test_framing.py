"""One frame for all clients that read alike."""

import zlib

from lastcall.protocol.base import Message
from lastcall.transport.framing import WEBSOCKET, deflate_framing

SMALL, LARGE = Message(b"hello"), Message(b"the same words again " * 20, binary=True)


def test_messages_become_one_run_of_frames() -> None:
    one, two = WEBSOCKET.frame([SMALL]), WEBSOCKET.frame([LARGE])

    assert one == b"\x81\x05hello"
    assert WEBSOCKET.frame([SMALL, LARGE]) == one + two


def test_only_what_is_large_enough_is_compressed() -> None:
    framing = deflate_framing(15)
    frame = framing.frame([SMALL, LARGE])

    assert frame.startswith(WEBSOCKET.frame([SMALL]) + b"\xc2")
    assert len(frame) < len(WEBSOCKET.frame([LARGE])) / 4
    inflater = zlib.decompressobj(-15)
    assert inflater.decompress(frame[9:] + b"\0\0\xff\xff") == LARGE.data


def test_clients_of_one_window_share_a_framing_and_its_name() -> None:
    assert deflate_framing(15) is deflate_framing(15)
    assert deflate_framing(15).name == "websocket-deflate"
    assert deflate_framing(9).name == "websocket-deflate-9"
    assert WEBSOCKET.name == "websocket"
