"""The client protocol of NATS, as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker import nats_wire
from lastcall.broker.nats_wire import MAX_LINE, Message, Parser, Word

SAID = (
    b'INFO {"version":"2.9.10"}\r\n'
    b"MSG a.b 7 5\r\nhe\r\no\r\n"
    b"MSG a 7 _INBOX.1 0\r\n\r\n"
    b"PING\r\n"
    b"HMSG a 8 26 28\r\nNATS/1.0\r\nName:  value\r\n\r\nhi\r\n"
    b"HMSG a 8 _INBOX.2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"-ERR 'Authorization Violation'\r\n"
)
HEARD = [
    Word(b"INFO", b'{"version":"2.9.10"}'),
    Message(7, b"a.b", b"", b"he\r\no"),
    Message(7, b"a", b"", b""),
    Word(b"PING", b""),
    Message(8, b"a", b"NATS/1.0\r\nName:  value\r\n\r\n", b"hi"),
    Message(8, b"a", b"NATS/1.0 503\r\n\r\n", b""),
    Word(b"-ERR", b"'Authorization Violation'"),
]


@given(cuts=st.lists(st.integers(0, len(SAID))))
def test_what_is_said_is_heard_however_it_is_cut(cuts: list[int]) -> None:
    parser, heard, start = Parser(), [], 0
    for end in [*sorted(cuts), len(SAID)]:
        heard += parser.feed(SAID[start:end])
        start = end

    assert heard == HEARD


def test_headers_are_found() -> None:
    plain, _, with_header, nobody = (each for each in HEARD if isinstance(each, Message))

    assert with_header.header(b"Name") == b"value"
    assert with_header.header(b"Nam") == plain.header(b"Name") == b""
    assert nobody.has_no_answer
    assert not with_header.has_no_answer


@pytest.mark.parametrize(
    "said",
    [
        b"MSG a 7\r\n",
        b"MSG a b c d e f\r\n",
        b"MSG a seven 0\r\n\r\n",
        b"MSG a 7 -1\r\n",
        b"MSG a 7 999999999999\r\n",
        b"HMSG a 7 9 8\r\n",
        b"x" * (MAX_LINE + 1),
    ],
)
def test_what_is_no_nats_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (whatever it says)
        Parser().feed(said)


def test_a_long_message_is_no_line_without_an_end() -> None:
    parser = Parser()
    assert parser.feed(b"MSG a 7 %d\r\n" % (2 * MAX_LINE)) == []
    assert parser.feed(bytes(2 * MAX_LINE)) == []
    assert len(parser.feed(b"\r\n")) == 1


def test_what_we_say() -> None:
    headers = nats_wire.headers([("Nats-Msg-Id", "x"), ("Two", "2")])

    assert headers == b"NATS/1.0\r\nNats-Msg-Id: x\r\nTwo: 2\r\n\r\n"
    assert nats_wire.publish("a", "r", b"hi") == b"PUB a r 2\r\nhi\r\n"
    assert (
        nats_wire.publish("a", "r", b"hi", headers) == b"HPUB a r 36 38\r\n" + headers + b"hi\r\n"
    )
    assert nats_wire.subscribe("a.*", 1) == b"SUB a.* 1\r\n"
    assert nats_wire.unsubscribe(1) == b"UNSUB 1\r\n"
