"""What every client protocol promises, and what plain text makes of it."""

from lastcall.broker.base import Kind, Publication
from lastcall.errors import Disconnect, ServerShutdown, SlowConsumer
from lastcall.protocol.base import Message, Send
from lastcall.protocol.plain_text import PlainText

PROTOCOL = PlainText()


def test_plain_text_passes_messages_on_as_they_are() -> None:
    text, binary = Message(b"hello"), Message(b"\x00\xff", binary=True)

    assert PROTOCOL.decode(text) == (Send(text),)
    assert PROTOCOL.decode(binary) == (Send(binary),)


def test_plain_text_publication_keeps_its_kind() -> None:
    assert PROTOCOL.publication(Publication("ws", b"hello", 1, "e")) == Message(b"hello")
    assert PROTOCOL.publication(Publication("ws", b"\xff", 1, "e", Kind.BINARY)) == Message(
        b"\xff", binary=True
    )


def test_every_disconnect_has_a_code_and_plain_words() -> None:
    kinds: list[type[Disconnect]] = Disconnect.__subclasses__()

    assert {ServerShutdown, SlowConsumer} <= set(kinds)
    for kind in kinds:
        code, reason = PROTOCOL.farewell(kind())
        assert 1000 <= code < 5000
        assert 0 < len(reason.encode()) <= 123
