"""Between two transports: kept, in order, up to a limit."""

from lastcall.protocol.base import Message
from lastcall.transport.parked import ParkedTransport
from tests.fakes import FRAMING, RecordingOwner, RecordingTransport, connect


def parked(limit: int = 100) -> tuple[ParkedTransport, RecordingTransport]:
    """A transport of a connection that is about to get another."""
    connection, written = connect(RecordingOwner())
    transport = ParkedTransport(FRAMING, connection, limit)
    connection.open(transport, connection.wire_format)
    return transport, written


def test_what_is_asked_for_meanwhile_is_done_by_the_next() -> None:
    transport, _ = parked()
    transport.write((Message(b"one"),))
    transport.write((Message(b"two"),))
    transport.pause()
    transport.resume()
    assert transport.backlog == 2
    assert transport.freeze() is None
    transport.close(1001, "bye")
    transport.close(1000, "too late")
    transport.write((Message(b"three"),))
    transport.abort()

    successor = RecordingTransport(FRAMING)
    transport.replay(successor)

    assert successor.messages == [b"one", b"two"]
    assert successor.closed == (1001, "bye", False)
    assert successor.aborted


def test_nothing_asked_for_is_nothing_done() -> None:
    successor = RecordingTransport(FRAMING)
    parked()[0].replay(successor)
    assert successor.frames == []
    assert successor.closed is None
    assert not successor.aborted


def test_more_than_a_client_may_have_unread_closes_it() -> None:
    transport, _ = parked(limit=5)
    transport.write(b"12345")
    transport.write(b"6")
    transport.write(b"7")
    assert transport.closed == (3008, "slow")
    assert transport.frames == []
