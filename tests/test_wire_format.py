"""One encoding for all who read alike."""

from lastcall.protocol.base import Message
from lastcall.protocol.plain_text import PlainText
from lastcall.wire_format import wire_format
from tests.fakes import CountingFraming, publication


def test_a_pair_has_one_wire_format() -> None:
    protocol, framing = PlainText(), CountingFraming()

    assert wire_format(protocol, framing) is wire_format(protocol, framing)
    assert wire_format(protocol, framing) != wire_format(protocol, CountingFraming())


def test_it_encodes_in_the_words_of_its_protocol() -> None:
    it = wire_format(PlainText(), CountingFraming())

    assert it.notice("hello") == (Message(b"hello"),)
    assert it.publications([publication("news", "1"), publication("news", "2")]) == (
        Message(b"1"),
        Message(b"2"),
    )
