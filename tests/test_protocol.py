"""What every client protocol promises, and what plain text makes of it."""

import pytest

from lastcall.broker.base import Kind, Publication
from lastcall.errors import Disconnect, ServerShutdown, SlowConsumer
from lastcall.protocol.base import ClientProtocol, Message, Send
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.protocol.plain_text import PlainText
from tests.returning_text import RETURNING_TEXT

PROTOCOL = PlainText()
EVERY = pytest.mark.parametrize(
    "protocol",
    [PROTOCOL, CentrifugeJson(), CentrifugeProtobuf(), RETURNING_TEXT],
    ids=lambda protocol: protocol.name,
)


def test_plain_text_passes_messages_on_as_they_are() -> None:
    text, binary = Message(b"hello"), Message(b"\x00\xff", binary=True)

    assert PROTOCOL.decode(text) == (Send(text),)
    assert PROTOCOL.decode(binary) == (Send(binary),)


def test_plain_text_publication_keeps_its_kind() -> None:
    assert PROTOCOL.publication(Publication("ws", b"hello", 1, "e")) == Message(b"hello")
    assert PROTOCOL.publication(Publication("ws", b"\xff", 1, "e", Kind.BINARY)) == Message(
        b"\xff", binary=True
    )


@EVERY
def test_every_disconnect_has_a_code_and_plain_words(protocol: ClientProtocol) -> None:
    kinds: list[type[Disconnect]] = Disconnect.__subclasses__()

    assert {ServerShutdown, SlowConsumer} <= set(kinds)
    for kind in kinds:
        code, reason = protocol.farewell(kind())
        assert 1000 <= code < 5000
        assert 0 < len(reason.encode()) <= 123


@EVERY
def test_who_comes_back_by_itself_is_told_so_when_the_server_stops(
    protocol: ClientProtocol,
) -> None:
    code, _ = protocol.farewell(ServerShutdown())

    assert code == (3001 if protocol.reconnects else 1012)
