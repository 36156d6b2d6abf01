"""One client: what it is told, when it is read from, how it ends."""

import pytest

from lastcall.connection import Paused, RemoteAddress
from lastcall.errors import Disconnect, InvalidUtf8, ServerShutdown, SlowConsumer
from lastcall.protocol.base import Message, Send
from lastcall.protocol.plain_text import PlainText
from tests.fakes import FRAMING, RecordingOwner, RecordingTransport, connect


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("127.0.0.1", 54321, "[127.0.0.1]:54321"),
        ("2001:db8::1", 80, "[2001:db8::1]:80"),
        ("192.0.2.1", 0, "[192.0.2.1]"),
        ("192.0.2.1", None, "[192.0.2.1]"),
        (None, None, "[unix]"),
    ],
)
def test_an_address_has_one_shape(host: str | None, port: int | None, text: str) -> None:
    assert str(RemoteAddress(host, port)) == text


def test_it_sends_text_as_text_and_bytes_as_binary() -> None:
    connection, written = connect(RecordingOwner())

    connection.send("grüß dich")
    connection.send(b"\x00")
    connection.notify("notice")

    assert [frame[0] for frame in written.frames] == [
        Message("grüß dich".encode()),
        Message(b"\x00", binary=True),
        Message(b"notice"),
    ]


def test_what_was_published_before_is_written_before() -> None:
    """Publish, then send; publish, then disconnect: the client reads it in this order."""
    owner = RecordingOwner()
    connection, written = connect(owner)
    owner.at_flush += [lambda: written.write((Message(b"published"),))]

    connection.send("sent")
    connection.notify("notified")
    connection.disconnect(ServerShutdown())

    assert written.messages == [b"published", b"sent", b"published", b"notified", b"published"]


def test_the_first_reason_to_disconnect_counts() -> None:
    connection, written = connect(RecordingOwner())

    connection.disconnect(ServerShutdown())
    connection.disconnect(SlowConsumer())

    assert written.closed == (1012, "server is shutting down", False)
    assert isinstance(connection.ended_by, ServerShutdown)


def test_a_slow_reader_need_not_read_its_backlog_to_learn_why() -> None:
    connection, written = connect(RecordingOwner(), transport=RecordingTransport(FRAMING, room=1))

    connection.send("1")
    connection.send("2")

    assert written.closed == (3008, "slow", True)


def test_commands_reach_the_owner_until_the_connection_is_being_closed() -> None:
    owner = RecordingOwner()
    connection, _ = connect(owner)

    connection.received(Message(b"one"))
    connection.disconnect(ServerShutdown())
    connection.received(Message(b"two"))

    assert owner.commands == [Send(Message(b"one"))]


def test_a_message_that_its_protocol_does_not_know_ends_it() -> None:
    class Strict(PlainText):
        def decode(self, message: Message) -> tuple[Send, ...]:  # noqa: ARG002  (as all are)
            raise InvalidUtf8

    connection, written = connect(RecordingOwner(), protocol=Strict())
    connection.received(Message(b"?"))

    assert written.closed == (1007, "text is not valid UTF-8", False)


def test_it_is_read_from_when_every_reason_to_pause_is_gone() -> None:
    connection, transport = connect(RecordingOwner())

    connection.resume(Paused.RATE)
    connection.pause(Paused.RATE)
    connection.pause(Paused.COMMANDS)
    connection.pause(Paused.COMMANDS)
    connection.resume(Paused.RATE)
    assert transport.paused
    connection.resume(Paused.COMMANDS)

    assert not transport.paused
    assert transport.pauses == 1


def test_its_end_is_told_to_its_owner() -> None:
    owner = RecordingOwner()
    connection, transport = connect(owner)

    connection.abort()
    connection.ended(1006)

    assert transport.aborted
    assert owner.ends == [1006]


def test_every_reason_to_disconnect_has_words() -> None:
    kinds = Disconnect.__subclasses__()
    assert len(kinds) > 5
    for kind in kinds:
        why = kind()
        assert str(why) == f"{kind.code} {kind.reason}"
        assert PlainText().farewell(why) == (kind.code, kind.reason)
        assert 0 < len(kind.reason.encode()) <= 123
