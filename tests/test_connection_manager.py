"""Who is connected: counted right, told once, closed longest first."""

from lastcall.connection import Connection
from lastcall.connection_manager import ConnectionManager, connection_limit
from lastcall.errors import ServerShutdown
from lastcall.hub import Hub
from lastcall.protocol.base import ClientProtocol
from tests.fakes import (
    PLAIN_TEXT,
    CountingFraming,
    RecordingGuest,
    RecordingOwner,
    RecordingTransport,
    connect,
    publication,
)
from tests.returning_text import RETURNING_TEXT


class Worker(RecordingOwner):
    """As much of a worker as a connection and its manager need, and how often something changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.hub = Hub(lambda _flush: None)
        self.connections = ConnectionManager(self.hub, self._changed)
        self.framing = CountingFraming()
        self.at_flush += [self.hub.flush]
        self.at_end += [self.connections.disconnect]

    def join(
        self, *, ends_at_once: bool = False, protocol: ClientProtocol = PLAIN_TEXT
    ) -> tuple[Connection, RecordingTransport]:
        transport = RecordingTransport(self.framing, ends_at_once=ends_at_once)
        connection, _ = connect(self, "news", transport=transport, protocol=protocol)
        self.connections.connect(connection)
        return connection, transport

    def _changed(self) -> None:
        self.changes += 1


def test_it_counts_connections_and_guests_and_says_so_once_each() -> None:
    worker = Worker()
    connections = worker.connections
    connection, _ = worker.join()
    guest = RecordingGuest()
    connections.welcome(guest)
    assert (connections.count, connections.not_closed, worker.changes) == (2, 2, 2)

    for _ in range(2):
        connections.disconnect(connection)
        connections.goodbye(guest)

    assert (connections.count, connections.not_closed, worker.changes) == (0, 0, 4)


def test_a_connection_that_left_hears_nothing_more() -> None:
    worker = Worker()
    connection, transport = worker.join()
    worker.connections.disconnect(connection)

    worker.hub.deliver(publication("news", "1"))
    worker.hub.flush()

    assert worker.connections.notify_all("notice") == 0
    assert transport.frames == []


def test_a_notice_comes_after_what_was_published_in_the_same_turn_in_one_frame_for_all() -> None:
    worker = Worker()
    transports = [worker.join()[1] for _ in range(3)]
    guest = RecordingGuest()
    worker.connections.welcome(guest)
    worker.hub.deliver(publication("news", "1"))

    assert worker.connections.notify_all("notice") == 4

    assert [each.messages for each in transports] == [[b"1", b"notice"]] * 3
    assert worker.framing.made == 2
    assert guest.heard == ["notice"]


def test_who_is_being_closed_is_not_told_any_more() -> None:
    worker = Worker()
    worker.join()
    guest, why = RecordingGuest(), ServerShutdown()
    worker.connections.welcome(guest)
    worker.connections.close(2, why)
    _, late = worker.join()

    assert worker.connections.notify_all("notice") == 1
    assert late.messages == [b"notice"]
    assert guest.heard == [why]


def test_the_longest_connected_are_closed_first_and_each_once() -> None:
    worker = Worker()
    first, second, third = (worker.join()[1] for _ in range(3))
    worker.hub.deliver(publication("news", "last words"))

    assert worker.connections.close(2, ServerShutdown()) == 2

    assert first.closed == second.closed == (1012, "server is shutting down", False)
    assert first.messages == [b"last words"]
    assert third.closed is None
    assert (worker.connections.count, worker.connections.not_closed) == (3, 1)
    assert worker.connections.close(9, ServerShutdown()) == 1
    assert worker.connections.close(9, ServerShutdown()) == 0


def test_those_who_come_back_by_themselves_are_released_apart_from_the_others() -> None:
    worker = Worker()
    connections = worker.connections
    back, gone, later = (worker.join(protocol=RETURNING_TEXT) for _ in range(3))
    _, plain = worker.join()
    guest = RecordingGuest()
    connections.welcome(guest)
    connections.disconnect(gone[0])
    assert (connections.not_closed, connections.returning) == (4, 2)
    assert connections.not_closed_guests == 1

    assert connections.release(1, ServerShutdown()) == 1

    assert back[1].closed == (3001, "server is shutting down, come back", False)
    assert connections.close(1, ServerShutdown()) == 1
    assert plain.closed == (1012, "server is shutting down", False)
    assert later[1].closed is None
    assert (connections.not_closed, connections.returning) == (2, 1)

    assert connections.close(9, ServerShutdown()) == 2
    assert (connections.not_closed, connections.returning) == (0, 0)
    assert connections.not_closed_guests == 0
    assert connections.release(1, ServerShutdown()) == 0
    assert later[1].closed is not None
    assert gone[1].closed is None


def test_the_end_of_one_may_be_the_end_of_another() -> None:
    """A game that ends for both: `on_disconnect` lets the other player go."""
    worker = Worker()
    players = [worker.join(ends_at_once=True)[0] for _ in range(2)]
    worker.at_end += [lambda _gone: players[1].disconnect(ServerShutdown())]

    worker.connections.close(2, ServerShutdown())

    assert (worker.connections.count, worker.connections.not_closed) == (0, 0)
    assert worker.ends == [1012, 1012]


def test_whoever_does_not_answer_is_cut() -> None:
    worker = Worker()
    _, transport = worker.join()
    guest = RecordingGuest()
    worker.connections.welcome(guest)

    assert worker.connections.abort_all() == 2
    assert transport.aborted
    assert guest.aborted


def test_the_descriptors_of_this_process_allow_some() -> None:
    assert connection_limit() >= 1
