"""What a worker does once for many: one write for a window, one record for a storm of clients."""

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from lastcall import Settings
from lastcall.lifespan import RECORDS_AT_ONCE, RunningWorker, running
from lastcall.rulebook import Rulebook
from tests.fakes import FakeHost, RecordingTransport, connect

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("run_dir")]


async def join(now: RunningWorker) -> RecordingTransport:
    transport = RecordingTransport(ends_at_once=True)
    connection, _ = connect(now.worker, "news", transport=transport)
    await now.worker.interest.listen(connection.channels)
    now.worker.connected(connection)
    return transport


async def publish_in_two_turns(now: RunningWorker, first: bytes, second: bytes) -> None:
    for data in (first, second):
        await now.worker.broker.publish("news", data)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()


async def test_publications_of_a_window_leave_in_one_write() -> None:
    async with running(
        Rulebook.by(Settings(join_window=0.1, broker_url="memory:")), FakeHost()
    ) as now:
        transport = await join(now)
        await publish_in_two_turns(now, b"one", b"two")
        assert transport.frames == []

        with anyio.fail_after(5):
            while not transport.frames:  # noqa: ASYNC110  (a transport has no event for it)
                await anyio.sleep(0.01)

    assert [message.data for message in transport.frames[0]] == [b"one", b"two"]


async def test_without_a_window_a_turn_is_written_at_its_end() -> None:
    async with running(Rulebook.by(Settings(broker_url="memory:")), FakeHost()) as now:
        transport = await join(now)
        await publish_in_two_turns(now, b"one", b"two")

        assert [len(frame) for frame in transport.frames] == [1, 1]


async def test_a_storm_of_clients_is_recorded_when_it_is_over(run_dir: Path) -> None:
    """Each in a turn of its own: the first are recorded at once, the others all together."""

    def recorded() -> str:
        (file,) = run_dir.rglob("*.ALIVE")
        return file.read_text()

    async with running(Rulebook.by(Settings(broker_url="memory:")), FakeHost()) as now:
        for _ in range(3 * RECORDS_AT_ONCE):
            await join(now)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        with anyio.fail_after(5):
            while f'"connections": {3 * RECORDS_AT_ONCE},' not in recorded():  # noqa: ASYNC110  (nor a file)
                await anyio.sleep(0.01)
