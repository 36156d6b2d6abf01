"""The order in which a worker leaves, in a server that is played by the test."""

import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import msgspec
import pytest

from lastcall.connection import Connection
from lastcall.connection_manager import ConnectionManager
from lastcall.graceful_shutdown import SAME_CTRL_C, GracefulShutdown, Why
from lastcall.hub import Hub
from lastcall.moving_out import HOPE_TIME, HandOver, NoHandOver
from lastcall.peers import Peers
from lastcall.protocol.base import ClientProtocol
from lastcall.roster import Sign
from lastcall.settings import SHUTDOWN_NOTICE, Settings
from lastcall.stop_limit import StopLimit
from lastcall.worker_record import WorkerRecord
from tests.fakes import (
    PLAIN_TEXT,
    FakeCoordinator,
    FakeHost,
    RecordingGuest,
    RecordingOwner,
    RecordingTransport,
    connect,
)
from tests.returning_text import RETURNING_TEXT

pytestmark = pytest.mark.anyio

NOTICE = SHUTDOWN_NOTICE.encode()
SHUTTING_DOWN = (1012, "server is shutting down", False)


async def turns() -> None:
    """Let every task go on until it waits for something that only the test can bring about."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


@dataclass
class Scene:
    """A worker that can leave, its clients, and a clock that the test may put forward."""

    settings: dict[str, float] = field(default_factory=dict)
    host: FakeHost = field(default_factory=FakeHost)
    ahead: float = 0
    settling_time: float = 0.001
    hand_over: HandOver | None = None

    def __post_init__(self) -> None:
        """Put the worker together."""
        self.owner = RecordingOwner()
        self.coordinator = FakeCoordinator()
        self.peers = Peers(self.coordinator, "here")
        self.connections = ConnectionManager(Hub(lambda _flush: None), self._changed)
        self.owner.at_end += [self.connections.disconnect]
        settings = Settings(**{"shutdown_timeout": 60.0, **self.settings})  # type: ignore[arg-type]
        self.shutdown = GracefulShutdown(
            settings,
            self.host,
            self.connections,
            self.peers,
            StopLimit(settings.shutdown_timeout, "LASTCALL_SHUTDOWN_TIMEOUT"),
            hand_over=self.hand_over,
            settling_time=self.settling_time,
            clock=lambda: anyio.current_time() + self.ahead,
        )

    def join(
        self, *, answers: bool = True, protocol: ClientProtocol = PLAIN_TEXT
    ) -> tuple[Connection, RecordingTransport]:
        transport = RecordingTransport(ends_at_once=answers)
        connection, _ = connect(self.owner, transport=transport, protocol=protocol)
        self.connections.connect(connection)
        return connection, transport

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the shutdown, which has to be over when the block is left."""
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.shutdown.run)
                await turns()
                yield

    async def put_forward(self, seconds: float) -> None:
        """Let *seconds* pass in a moment."""
        await turns()
        self.ahead += seconds
        self._changed()
        await turns()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until the look at the siblings has led to what the test wants."""
        done = anyio.Event()

        def look() -> None:
            if reached():
                done.set()

        self.coordinator.at_look = look
        await done.wait()

    def _changed(self) -> None:
        self.shutdown.connections_changed()


async def test_without_clients_the_end_comes_at_once() -> None:
    scene = Scene()
    async with scene.running():
        assert scene.coordinator.states == []
        scene.shutdown.on_signal(signal.SIGTERM)

    assert scene.coordinator.states == ["draining"]
    assert scene.coordinator.finished == [True]
    assert scene.host.stopped == [False]
    assert 59 < scene.host.within <= 60, "requests that the drain does not know of have the rest"
    assert scene.shutdown.finished.is_set()


async def test_who_leaves_alone_closes_its_listener_before_it_goes() -> None:
    """A client whose handshake is under way by then is let in, and served like the others."""
    scene = Scene()
    scene.coordinator.ready = [WorkerRecord(7, state="ready")]
    late: list[tuple[Connection, RecordingTransport]] = []
    scene.host.at_change = lambda: late.append(scene.join()) if not late else None
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await scene.until(lambda: bool(late))
        await scene.put_forward(1)
        assert not scene.shutdown.finished.is_set()
        assert late[0][1].messages == [NOTICE]
        late[0][0].ended(1000)

    assert scene.host.changes == ["stop listening", "stop"]


async def test_clients_are_told_at_once_and_the_last_one_out_ends_it() -> None:
    scene = Scene()
    first, told = scene.join()
    second, _ = scene.join()
    async with scene.running():
        assert not scene.shutdown.is_requested
        scene.shutdown.on_signal(signal.SIGTERM)
        await turns()
        assert scene.shutdown.is_requested
        assert told.messages == [NOTICE]

        first.ended(1000)
        await turns()
        assert not scene.shutdown.finished.is_set()
        second.ended(1006)

    assert scene.host.stopped == [False]


async def test_notices_are_repeated_until_the_deadline_closes_whoever_stayed() -> None:
    scene = Scene({"shutdown_timeout": 0.6, "shutdown_notice_interval": 0.02})
    _, transport = scene.join()
    guest = RecordingGuest()
    scene.connections.welcome(guest)
    guest.at_end = lambda: scene.connections.goodbye(guest)
    async with scene.running():
        scene.shutdown.request(Why.STOP)

    assert len(transport.messages) >= 2
    assert set(transport.messages) == {NOTICE}
    assert transport.closed == SHUTTING_DOWN
    assert str(guest.heard[-1]) == "1012 server is shutting down"


async def test_who_does_not_answer_the_close_is_cut_after_a_while() -> None:
    scene = Scene({"shutdown_timeout": 10.0})
    _, transport = scene.join(answers=False)
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await scene.put_forward(10)
        assert transport.closed == SHUTTING_DOWN
        assert not transport.aborted
        await scene.put_forward(3)

    assert transport.aborted
    assert scene.host.stopped == [True], "the server must not wait for it either"


async def test_who_comes_back_by_itself_is_released_after_a_look_at_the_siblings() -> None:
    """Until then it might come back to a worker that has just been signalled, too."""
    scene = Scene({"shutdown_timeout": 600.0, "release_rate": 10.0}, settling_time=0.2)
    returning = [scene.join(protocol=RETURNING_TEXT)[1] for _ in range(3)]
    staying, plain = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await turns()
        assert [each.messages for each in (*returning, plain)] == [[NOTICE]] * 4
        assert not any(each.closed for each in returning)
        while not all(each.closed for each in returning):  # noqa: ASYNC110  (a pace, not an event)
            await anyio.sleep(0.01)
        assert plain.closed is None
        staying.ended(1000)

    assert {each.closed for each in returning} == {
        (3001, "server is shutting down, come back", False)
    }


async def test_a_drain_ends_in_one_report(caplog: pytest.LogCaptureFixture) -> None:
    """In the worker, for its siblings and master, and as one line of the log."""
    scene = Scene({"release_rate": 1000.0, "shutdown_timeout": 60.0})
    leaving, _ = scene.join()
    scene.join(protocol=RETURNING_TEXT)
    scene.join(answers=False)
    with caplog.at_level(logging.INFO):
        async with scene.running():
            scene.shutdown.on_signal(signal.SIGTERM)
            await scene.until(lambda: scene.connections.returning == 0)
            await scene.until(lambda: True)
            during = scene.shutdown.report
            scene.join()
            leaving.ended(1000)
            await scene.put_forward(60)
            await scene.put_forward(3)

    assert during is not None
    assert (during.finished, during.at_start, during.released) == (False, 3, 1)
    report = scene.shutdown.report
    assert report is not None
    assert (report.why, report.finished, report.at_start, report.arrived) == ("stop", True, 3, 1)
    assert (report.left, report.released, report.closed, report.cut) == (1, 1, 2, 1)
    assert (report.told, report.peak_reconnects) == (3, 2)
    assert report.duration >= 63
    assert scene.coordinator.known()[0].drain == report
    [event] = [each for each in caplog.records if getattr(each, "event", "") == "drain_finished"]
    assert report.sentence() in event.getMessage()
    assert vars(event)["fields"]["report"] == msgspec.to_builtins(report)


async def test_who_may_be_handed_over_is_not_released_while_there_is_hope() -> None:
    scene = Scene({"release_rate": 1000.0, "shutdown_timeout": 600.0}, hand_over=NoHandOver())
    returning, transport = scene.join(protocol=RETURNING_TEXT)
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await scene.put_forward(HOPE_TIME / 2)
        assert transport.closed is None
        assert not scene.shutdown.turns_away
        await scene.put_forward(HOPE_TIME)
        assert scene.shutdown.turns_away
        assert transport.closed == (3001, "server is shutting down, come back", False)
    assert returning not in scene.connections


@pytest.mark.parametrize("where", ["of this host", "of another host"])
async def test_workers_that_leave_together_release_together(where: str) -> None:
    """Two at a rate of two are one a second each: whoever serves then feels no more than two."""
    scene = Scene({"release_rate": 2.0, "shutdown_timeout": 600.0})
    if where == "of this host":
        scene.coordinator.others = [
            WorkerRecord(1, state="draining"),
            WorkerRecord(2, state="ready"),
        ]
    else:
        scene.peers.heard(Sign("there/1", "node", "draining"))
        scene.peers.heard(Sign("there/2", "node", "ready"))
    clients = [scene.join(protocol=RETURNING_TEXT) for _ in range(4)]
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await scene.until(lambda: scene.coordinator.looks > 2)
        for _ in range(13):
            await scene.put_forward(0.1)
        # The first at once, the second perhaps appointed before the others were seen.
        assert scene.connections.count == 2
        for connection, _ in clients[2:]:
            connection.ended(1000)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_signals_of_one_moment_are_one_stop(first: signal.Signals) -> None:
    """A terminal's Ctrl-C reaches the worker by itself and through the master."""
    scene = Scene()
    connection, transport = scene.join()
    async with scene.running():
        for number in (first, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            scene.shutdown.on_signal(number)
        await turns()
        assert transport.closed is None
        connection.ended(1000)

    assert scene.host.stopped == [False]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_ctrl_c_ends_it_now(first: signal.Signals) -> None:
    scene = Scene()
    _, transport = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(first)
        await scene.put_forward(SAME_CTRL_C + 0.01)
        scene.shutdown.on_signal(signal.SIGTERM)
        await turns()
        assert transport.closed is None
        scene.shutdown.on_signal(signal.SIGINT)

    assert transport.closed == SHUTTING_DOWN
    assert scene.host.stopped == [True]


async def test_an_impatient_thumb_is_a_second_ctrl_c_too() -> None:
    """Each press is near the one before it; together they are longer than one."""
    scene = Scene()
    _, transport = scene.join()
    async with scene.running():
        for _ in range(3):
            scene.shutdown.on_signal(signal.SIGINT)
            await scene.put_forward(SAME_CTRL_C * 0.6)

    assert transport.closed == SHUTTING_DOWN


async def test_a_ctrl_c_after_the_last_client_reaches_the_server() -> None:
    """It may be waiting for something of its own, and only Ctrl-C ends that."""
    scene = Scene()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGINT)
    await scene.put_forward(1)
    scene.shutdown.on_signal(signal.SIGINT)

    assert scene.host.stopped == [False, True]


async def test_a_recycled_worker_tells_nobody_and_lets_the_server_go_on() -> None:
    scene = Scene()
    connection, transport = scene.join()
    async with scene.running():
        assert scene.shutdown.server_stops()
        await turns()
        assert transport.messages == [NOTICE]
        connection.ended(1000)

    assert scene.coordinator.finished == [False]
    assert scene.host.stopped == []
    assert not scene.shutdown.server_stops()


async def test_a_stop_outweighs_a_recycling_and_its_ctrl_c_is_the_first() -> None:
    scene = Scene()
    connection, transport = scene.join()
    async with scene.running():
        scene.shutdown.request(Why.RECYCLED)
        await scene.put_forward(5)
        scene.shutdown.on_signal(signal.SIGINT)
        scene.shutdown.request(Why.RECYCLED)
        await turns()
        assert transport.closed is None
        connection.ended(1000)

    assert scene.coordinator.finished == [True]
    assert scene.host.stopped == [False]


async def test_a_stop_after_a_recycling_is_over_tells_the_master_too() -> None:
    """By then it may be the last one, and nobody else is left to say so."""
    scene = Scene()
    async with scene.running():
        scene.shutdown.request(Why.RECYCLED)
        await scene.shutdown.finished.wait()
        assert scene.coordinator.finished == [False]
        scene.shutdown.on_signal(signal.SIGTERM)
        scene.shutdown.on_signal(signal.SIGTERM)

    assert scene.coordinator.finished == [False, True]
    assert scene.host.stopped == []


async def test_who_leaves_serves_newcomers_while_a_successor_starts() -> None:
    """A stock master replaces one worker after the other, whoever is ready."""
    scene = Scene(hand_over=NoHandOver())
    scene.coordinator.successor = True
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await scene.until(lambda: scene.coordinator.looks > 5)
        connection, transport = scene.join()
        transport.movable = True
        for _ in range(10):
            looks = scene.coordinator.looks
            await scene.put_forward(0.5)
            await scene.until(lambda: scene.coordinator.looks > looks + 2)  # noqa: B023  (waited for)
        assert not scene.shutdown.refuses
        assert not scene.shutdown.finished.is_set()
        assert transport.messages == []
        assert scene.host.changes == []
        connection.ended(1000)
        scene.coordinator.ready = [WorkerRecord(7, state="ready")]
        scene.coordinator.successor = False

    assert scene.host.changes == ["stop listening", "stop"]


async def test_whether_it_is_the_last_is_seen_when_who_is_starting_has_come_or_gone() -> None:
    scene = Scene()
    scene.coordinator.successor = True
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await turns()
        assert scene.coordinator.finished == []
        scene.coordinator.successor = False

    assert scene.coordinator.finished == [True]


async def test_somebody_in_a_hurry_waits_for_nobody_who_is_starting() -> None:
    scene = Scene()
    scene.coordinator.successor = True
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await turns()
        scene.shutdown.force()

    assert scene.coordinator.finished == [True]


async def test_a_failed_worker_lets_everybody_go_now_and_wants_a_successor() -> None:
    scene = Scene({"shutdown_delay": 60})
    _, transport = scene.join()
    async with scene.running():
        scene.shutdown.request(Why.FAILED)

    assert transport.messages == []
    assert transport.closed == (1012, "worker failed", False)
    assert scene.coordinator.finished == [False]
    assert scene.host.stopped == [True]


async def test_a_failure_in_the_middle_of_a_drain_ends_it() -> None:
    scene = Scene()
    _, transport = scene.join()
    async with scene.running():
        scene.shutdown.request(Why.STOP)
        await turns()
        assert not scene.shutdown.has_failed
        scene.shutdown.request(Why.FAILED)

    assert scene.shutdown.has_failed
    assert transport.closed == SHUTTING_DOWN
    assert scene.coordinator.finished == [True]
    assert scene.host.stopped == [True]


async def test_a_reload_waits_for_nobody() -> None:
    scene = Scene({"shutdown_delay": 60}, host=FakeHost(drains=False))
    _, transport = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)

    assert transport.messages == []
    assert transport.closed == SHUTTING_DOWN


async def test_during_the_delay_the_service_is_ordinary_and_a_second_ctrl_c_ends_it() -> None:
    scene = Scene({"shutdown_delay": 30})
    _, transport = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGINT)
        await scene.put_forward(1)
        assert scene.shutdown.is_requested
        assert (transport.messages, scene.coordinator.looks) == ([], 0)
        scene.shutdown.on_signal(signal.SIGINT)

    assert transport.closed == SHUTTING_DOWN


async def test_the_delay_is_part_of_the_time_to_leave() -> None:
    """Whoever kills us at the limit counts from the signal."""
    scene = Scene({"shutdown_delay": 0.02, "shutdown_timeout": 60})
    _, transport = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await turns()
        scene.ahead += 50
        await scene.until(lambda: True)
        assert transport.messages == [NOTICE]
        await scene.put_forward(10)

    assert transport.closed == SHUTTING_DOWN


async def test_a_delay_that_is_longer_than_the_limit_is_cut() -> None:
    scene = Scene({"shutdown_delay": 60, "shutdown_timeout": 0.02})
    _, transport = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)

    assert transport.closed == SHUTTING_DOWN


async def test_while_another_worker_is_ready_new_clients_are_its() -> None:
    scene = Scene()
    scene.coordinator.ready = [WorkerRecord(1)]
    connection, _ = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await scene.until(lambda: not scene.host.listens)
        assert not scene.shutdown.refuses

        scene.coordinator.ready = []
        await scene.until(lambda: scene.host.listens and scene.shutdown.refuses)
        scene.coordinator.ready = [WorkerRecord(1)]
        await scene.until(lambda: not scene.host.listens)
        assert not scene.shutdown.refuses
        connection.ended(1000)

    assert scene.host.changes == ["stop listening", "listen again", "stop listening", "stop"]


async def test_with_nobody_else_new_clients_are_refused() -> None:
    scene = Scene()
    connection, _ = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        assert not scene.shutdown.refuses
        await scene.until(lambda: scene.shutdown.refuses)
        assert scene.shutdown.retry_after > 0
        connection.ended(1000)

    assert scene.host.changes == ["stop"]


async def test_a_server_that_cannot_stop_listening_serves_on_while_another_is_ready() -> None:
    scene = Scene(host=FakeHost(can_stop_listening=False))
    scene.coordinator.ready = [WorkerRecord(1)]
    connection, _ = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await scene.until(lambda: len(scene.host.changes) > 1)
        assert not scene.shutdown.refuses
        connection.ended(1000)

    assert set(scene.host.changes) == {"stop listening", "stop"}


async def test_a_client_that_comes_during_the_drain_is_told_and_waited_for() -> None:
    scene = Scene({"shutdown_notice_interval": 5})
    first, _ = scene.join()
    async with scene.running():
        scene.shutdown.on_signal(signal.SIGTERM)
        await turns()
        late, transport = scene.join()
        first.ended(1000)
        await scene.put_forward(5)
        assert transport.messages == [NOTICE]
        assert not scene.shutdown.finished.is_set()
        late.ended(1000)
