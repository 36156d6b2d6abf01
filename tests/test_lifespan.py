"""Everything that the lifespan starts ends with it, whatever happens in between."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from lastcall import Connection, Settings, create_app, neighbourhood
from lastcall.broker.base import BrokerEvents
from lastcall.broker.memory import MemoryBroker
from lastcall.draining import Draining
from lastcall.errors import PartDied
from lastcall.lifespan import RunningWorker, running
from lastcall.protocol.base import Message
from lastcall.rulebook import Rulebook
from tests.fakes import FakeHost, RecordingTransport, connect

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("run_dir")]


class SoleHost(FakeHost):
    """A server of one worker."""

    workers = 1
    obeys_last_worker = False


def join(
    now: RunningWorker, *, answers: bool = True, endpoint: str = ""
) -> tuple[Connection, RecordingTransport]:
    transport = RecordingTransport(ends_at_once=answers)
    connection, _ = connect(now.worker, "news", transport=transport, endpoint=endpoint)
    now.worker.hub.retain("news")
    now.worker.connected(connection)
    return connection, transport


def open_files() -> set[str]:
    """What this process's descriptors are; sockets and files of the loop included."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that we list with
            found.add(f"{path.name} {path.readlink()}")
    return found


def files(run_dir: Path, pattern: str = "*") -> list[Path]:
    """What lies in the run directory."""
    return list(run_dir.rglob(pattern))


async def test_no_task_file_or_socket_survives_it(run_dir: Path) -> None:
    tasks, descriptors = asyncio.all_tasks(), open_files()
    for _ in range(2):
        async with running(Rulebook.by(Settings(heartbeat_interval=10)), SoleHost()) as now:
            _, transport = join(now)
            assert len(asyncio.all_tasks()) > len(tasks)
            assert files(run_dir, "*.ALIVE")
        assert transport.closed == (1012, "server is shutting down", False)

    await anyio.lowlevel.checkpoint()
    assert asyncio.all_tasks() == tasks
    assert open_files() == descriptors
    assert files(run_dir) == []


async def test_nothing_is_left_though_the_application_fails(run_dir: Path) -> None:
    """Its clients are told, as at any other end."""
    tasks, transports = asyncio.all_tasks(), list[RecordingTransport]()
    with pytest.RaisesGroup(ValueError):
        async with running(Rulebook.by(Settings()), SoleHost()) as now:
            transports.append(join(now)[1])
            raise ValueError("the application's own")

    assert transports[0].closed == (1012, "server is shutting down", False)
    assert asyncio.all_tasks() == tasks
    assert files(run_dir) == []


async def test_a_server_that_stops_without_a_signal_ends_the_applications_own_requests() -> None:
    async with anyio.create_task_group() as tasks:
        async with running(Rulebook.by(Settings()), SoleHost()) as now:
            ended = anyio.Event()

            async def stream() -> None:
                async with Draining(now.worker.connections, Request({"type": "http"})):
                    await anyio.sleep_forever()
                ended.set()

            tasks.start_soon(stream)
            await anyio.wait_all_tasks_blocked()
        assert ended.is_set()


async def test_handlers_under_way_are_waited_for_and_cut_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lastcall.lifespan.FAREWELL_TIME", 0.05)
    rules = Rulebook.by(Settings())
    endpoints, story = rules.endpoints, list[str]()

    async def say(_connection: Connection, code: int) -> None:
        await anyio.sleep(0.01)
        story.append(f"gone with {code}")

    async def hang(_connection: Connection, _code: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            story.append("cut")

    endpoints["talks"].on_disconnect = say
    endpoints["hangs"].on_disconnect = hang
    async with running(rules, SoleHost()) as now:
        join(now, endpoint="talks")
        join(now, endpoint="hangs")

    assert story == ["gone with 1012", "cut"]


async def test_a_handler_that_awaits_something_cancelled_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its cancellation is no order to the worker; the client's next message is served."""
    caplog.set_level("ERROR", "lastcall")
    rules = Rulebook.by(Settings())
    endpoints, heard = rules.endpoints, anyio.Event()

    async def listen(_connection: Connection, message: str | bytes) -> None:
        if message == "give up":
            job = asyncio.get_running_loop().create_future()
            job.cancel()
            await job
        heard.set()

    endpoints[""].on_message = listen
    async with running(rules, SoleHost()) as now:
        connection, transport = join(now)
        connection.received(Message(b"give up"))
        connection.received(Message(b"go on"))
        with anyio.fail_after(5):
            await heard.wait()
        assert transport.closed is None

    assert [record.getMessage() for record in caplog.records] == ["a hook of endpoint '' failed"]


async def test_who_does_not_answer_is_cut_and_told_to_the_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lastcall.lifespan.FAREWELL_TIME", 0.05)
    rules = Rulebook.by(Settings())
    endpoints, story = rules.endpoints, list[int]()

    async def say(_connection: Connection, code: int) -> None:
        await anyio.lowlevel.checkpoint()
        story.append(code)

    endpoints[""].on_disconnect = say

    class Deaf(RecordingTransport):
        def abort(self) -> None:
            super().abort()
            assert self.events is not None
            asyncio.get_running_loop().call_soon(self.events.ended, 1006)

    async with running(rules, SoleHost()) as now:
        connection, _ = connect(now.worker, transport=Deaf())
        now.worker.connected(connection)

    assert story == [1006]


async def test_a_signal_makes_it_drain_and_the_coordinator_hears_of_every_step(
    run_dir: Path,
) -> None:
    host = SoleHost()
    async with running(Rulebook.by(Settings()), host) as now:
        connection, transport = join(now)
        with anyio.fail_after(5):
            await until(lambda: '"ready"' in alive(run_dir))
            host.send(signal.SIGTERM)
            await until(lambda: '"draining"' in alive(run_dir))
            assert transport.messages
            connection.ended(1000)
            await now.shutdown.finished.wait()
            await until(lambda: host.stopped == [False])
        assert files(run_dir, "*.DONE")
        assert host.on_stop is not None
        assert not host.on_stop()

    assert host.on_signal is None


def alive(run_dir: Path) -> str:
    (path,) = run_dir.rglob("*.ALIVE")
    return path.read_text()


async def until(reached: Callable[[], object]) -> None:
    """Wait for what has no event, inside a limit of the caller's."""
    while not reached():
        await anyio.lowlevel.checkpoint()


class Mortal(MemoryBroker):
    """A broker whose end is up to the test: by an error, or as if it had nothing more to do."""

    dies_by: Exception | None = None
    now: "Mortal"

    async def run(self, events: BrokerEvents, *, task_status: "TaskStatus[None]") -> None:
        Mortal.now, self.death = self, asyncio.Event()
        self.loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as tasks:
            await tasks.start(super().run, events)
            task_status.started()
            await self.death.wait()
            tasks.cancel_scope.cancel()
        if self.dies_by is not None:
            raise self.dies_by


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhood, "MemoryBroker", Mortal)


@pytest.mark.usefixtures("mortal")
@pytest.mark.parametrize("error", [ValueError("broken"), None])
async def test_a_part_that_dies_takes_the_worker_along(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    host = SoleHost()
    transports = list[RecordingTransport]()
    with pytest.raises(PartDied):  # noqa: PT012  (it is the end of the block that raises)
        async with running(Rulebook.by(Settings(shutdown_delay=60)), host) as now:
            transports.append(join(now)[1])
            Mortal.now.dies_by = error
            Mortal.now.death.set()
            with anyio.fail_after(5):
                await until(lambda: host.stopped)

    assert transports[0].closed == (1012, "worker failed", False)
    assert host.stopped == [True]
    assert [r.message for r in caplog.records if r.levelname == "CRITICAL"] == [
        "the broker died, this worker leaves"
    ]


@pytest.mark.usefixtures("mortal")
def test_in_a_test_client_a_part_that_dies_does_not_kill_the_test_run() -> None:
    """There the server is a thread."""
    with (  # noqa: PT012  (the same)
        pytest.raises(PartDied),
        TestClient(create_app()) as client,
        client.websocket_connect("/ws") as websocket,
    ):
        websocket.receive_text()
        Mortal.now.dies_by = ValueError("broken")
        Mortal.now.loop.call_soon_threadsafe(Mortal.now.death.set)

        assert websocket.receive() == {
            "type": "websocket.close",
            "code": 1012,
            "reason": "worker failed",
        }
        assert client.get("/health/ready").json()["reason"] == "draining"


@asynccontextmanager
async def broken_drain() -> AsyncIterator[FakeHost]:
    host = SoleHost()
    async with running(Rulebook.by(Settings()), host) as now:
        now.worker.coordinator.finish = None  # type: ignore[assignment, method-assign]
        yield host
        with anyio.fail_after(5):
            await until(lambda: host.stopped)


async def test_a_drain_that_dies_stops_the_server_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with broken_drain() as host:
        host.send(signal.SIGTERM)

    assert host.stopped == [True]
    assert "the drain died" in caplog.text
