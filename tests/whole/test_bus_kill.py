"""What was acknowledged reaches every subscriber once and in order, whoever is killed."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory

import anyio
import anyio.abc
import pytest
from anyio.streams.text import TextReceiveStream

from lastcall.broker.election_lock import ElectionLock

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

WORKER = Path(__file__).with_name("bus_worker.py")
ROOT = WORKER.parents[2]


@dataclass
class BusWorker:
    """A worker process, and all that it said."""

    process: anyio.abc.Process
    said: list[list[str]] = field(default_factory=list)
    warned: str = ""
    news: anyio.Event = field(default_factory=anyio.Event)

    @property
    def pid(self) -> int:
        return self.process.pid

    def words(self, verb: str) -> list[list[str]]:
        return [line[1:] for line in self.said if line[0] == verb]

    async def listen(self) -> None:
        assert self.process.stdout
        rest = ""
        async for text in TextReceiveStream(self.process.stdout):
            *lines, rest = (rest + text).split("\n")
            self.said += [line.split(" ") for line in lines]
            self.news.set()

    async def listen_to_warnings(self) -> None:
        assert self.process.stderr
        async for text in TextReceiveStream(self.process.stderr):
            self.warned += text

    async def until(self, reached: Callable[["BusWorker"], bool]) -> None:
        with anyio.fail_after(30):
            while not reached(self):
                self.news = anyio.Event()
                await self.news.wait()

    async def count(self, verb: str, number: int) -> None:
        await self.until(lambda worker: len(worker.words(verb)) >= number)

    async def tell(self, *words: object) -> None:
        assert self.process.stdin
        await self.process.stdin.send((" ".join(map(str, words)) + "\n").encode())

    async def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        with anyio.fail_after(10):
            await self.process.wait()


@dataclass
class Host:
    """The processes of one test; all are gone after it."""

    directory: Path
    loop: str
    tasks: anyio.abc.TaskGroup
    workers: list[BusWorker] = field(default_factory=list)

    async def start(self, run: str = "run", *, boot: str = "") -> BusWorker:
        (self.directory / run).mkdir(exist_ok=True)
        paths = [str(self.directory / run), str(self.directory / "state"), boot]
        command = [sys.executable, str(WORKER), self.loop, *paths]
        env = {"PYTHONPATH": str(ROOT)}
        process = await anyio.open_process(command, stdin=PIPE, env=env, cwd=ROOT)
        worker = BusWorker(process)
        self.workers.append(worker)
        self.tasks.start_soon(worker.listen)
        self.tasks.start_soon(worker.listen_to_warnings)
        await worker.count("ready", 1)
        return worker

    async def start_three(self) -> tuple[BusWorker, list[BusWorker]]:
        """Three workers, the sequencer first."""
        async with anyio.create_task_group() as starting:
            for _ in range(3):
                starting.start_soon(self.start)
        workers = self.workers
        leads = self.sequencer()
        (sequencer,) = (w for w in workers if w.pid == leads)
        return sequencer, [w for w in workers if w.pid != leads]

    def sequencer(self, run: str = "run") -> int | None:
        lock = ElectionLock(self.directory / run / "bus.lock")
        try:
            return lock.owner()
        finally:
            lock.release()


@pytest.fixture
async def host(loop: str) -> AsyncIterator[Host]:
    async with running_host(loop) as host:
        yield host


@asynccontextmanager
async def running_host(loop: str) -> AsyncIterator[Host]:
    with TemporaryDirectory(prefix="lc") as directory:
        tasks = anyio.create_task_group()
        host = Host(Path(directory), loop, tasks)
        async with tasks:
            try:
                yield host
            finally:
                with anyio.CancelScope(shield=True):
                    await stop_all(host, signal.SIGKILL)
                tasks.cancel_scope.cancel()
        for worker in host.workers:
            await worker.process.aclose()


def check_streams(workers: list[BusWorker], publishers: list[BusWorker], total: int) -> None:
    """All *workers* got the same stream without gap or double; all acknowledged is in it."""
    streams = [worker.words("delivered") for worker in workers]
    longest = max(streams, key=len)
    for worker, stream in zip(workers, streams, strict=True):
        assert worker.words("reset") == []
        assert stream == longest
    assert [int(offset) for offset, _, _ in longest] == list(range(1, len(longest) + 1))
    assert len({data for _, _, data in longest}) == len(longest)
    by_offset = {offset: data for offset, _, data in longest}
    accepted = [pair for p in publishers for pair in p.words("accepted")]
    assert len(accepted) == total
    assert all(by_offset[offset] == number for number, offset in accepted)
    for publisher in publishers:
        offsets = [int(offset) for _, offset in publisher.words("accepted")]
        assert offsets == sorted(offsets)
        assert publisher.words("failed") == []


async def test_a_killed_follower_is_missed_by_nobody(host: Host) -> None:
    sequencer, (publisher, victim) = await host.start_three()
    await publisher.tell("publish", 0, 3000)
    await victim.count("delivered", 500)
    await victim.end(signal.SIGKILL)
    await publisher.count("accepted", 3000)
    for worker in (sequencer, publisher):
        await worker.count("delivered", 3000)

    check_streams([sequencer, publisher], [publisher], 3000)


async def test_a_killed_sequencer_is_replaced_without_gap_or_double(host: Host) -> None:
    sequencer, others = await host.start_three()
    for worker, first in zip([sequencer, *others], (0, 10_000, 20_000), strict=True):
        await worker.tell("publish", first, 3000)
    await others[0].count("delivered", 2000)
    await sequencer.end(signal.SIGKILL)
    for worker in others:
        await worker.count("accepted", 3000)
    # The last acknowledged publication is the last of all: the dead one publishes no more.
    top = max(int(offset) for w in others for _, offset in w.words("accepted"))
    for worker in others:
        await worker.count("delivered", top)

    check_streams(others, others, 6000)
    delivered = {(offset, data) for offset, _, data in others[0].words("delivered")}
    assert all((offset, n) in delivered for n, offset in sequencer.words("accepted"))
    assert host.sequencer() in {worker.pid for worker in others}


async def test_a_hanging_sequencer_is_ended_and_replaced(host: Host) -> None:
    sequencer, others = await host.start_three()
    await others[0].tell("publish", 0, 100)
    await others[1].count("delivered", 100)
    sequencer.process.send_signal(signal.SIGSTOP)
    await others[0].tell("publish", 100, 100)
    for worker in others:
        await worker.count("delivered", 200)

    with anyio.fail_after(10):
        assert await sequencer.process.wait() == -signal.SIGKILL
    await others[0].count("accepted", 200)
    check_streams(others, others[:1], 200)


async def test_a_sequencer_whose_loop_is_blocked_resigns_and_lives(host: Host) -> None:
    """Code of the application that blocks costs a pause, and nobody's connections."""
    sequencer, others = await host.start_three()
    await sequencer.tell("block", 8)
    await others[0].tell("publish", 0, 100)
    # Before the watchdog of the others would end it, and before it comes back.
    for worker in others:
        await worker.count("delivered", 100)
    assert not sequencer.words("blocked")
    await sequencer.tell("publish", 100, 100)
    for worker in (sequencer, *others):
        await worker.count("delivered", 200)
    await sequencer.count("accepted", 100)

    assert sequencer.process.returncode is None
    check_streams([sequencer, *others], [sequencer, others[0]], 200)
    assert host.sequencer() in {worker.pid for worker in others}


async def test_removed_files_are_made_anew_and_do_not_split_the_bus(host: Host) -> None:
    """A cleaner of /tmp may take them; a new worker must not be a second sequencer for long."""
    first = await host.start()
    for name in ("bus.lock", "bus.sock"):
        (host.directory / "run" / name).unlink()
    second = await host.start()
    await first.tell("publish", 0, 100)
    await second.tell("publish", 1000, 100)
    for worker in (first, second):
        await worker.count("accepted", 100)
        await worker.count("delivered", 200)

    check_streams([first, second], [first, second], 200)


async def test_a_stopped_follower_catches_up(host: Host) -> None:
    sequencer, (publisher, sleeper) = await host.start_three()
    sleeper.process.send_signal(signal.SIGSTOP)
    await publisher.tell("publish", 0, 3000)
    await publisher.count("accepted", 3000)
    sleeper.process.send_signal(signal.SIGCONT)
    for worker in (sequencer, publisher, sleeper):
        await worker.count("delivered", 3000)

    check_streams([sequencer, publisher, sleeper], [publisher], 3000)


async def test_a_leaving_sequencer_hands_over_without_a_failure(host: Host) -> None:
    sequencer, others = await host.start_three()
    await others[0].tell("publish", 0, 3000)
    await others[1].count("delivered", 500)
    await sequencer.end(signal.SIGTERM)
    await others[0].count("accepted", 3000)
    for worker in others:
        await worker.count("delivered", 3000)

    assert sequencer.process.returncode == 0, sequencer.warned
    check_streams(others, others[:1], 3000)


async def test_a_forked_child_does_not_keep_its_dead_parent_in_office(host: Host) -> None:
    sequencer, others = await host.start_three()
    await sequencer.tell("fork")
    await sequencer.count("forked", 1)
    child = int(sequencer.words("forked")[0][0])
    try:
        await sequencer.end(signal.SIGKILL)
        await others[0].tell("publish", 0, 10)
        # Well before the watchdog would look: the end of the connection has to be seen.
        with anyio.fail_after(3):
            await others[1].count("delivered", 10)
    finally:
        os.kill(child, signal.SIGKILL)


async def stop_all(host: Host, number: signal.Signals) -> None:
    for worker in host.workers:
        if worker.process.returncode is None:
            await worker.end(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_history_outlives_a_restart_of_all(host: Host, number: signal.Signals) -> None:
    _, (publisher, _) = await host.start_three()
    await publisher.tell("publish", 0, 100)
    await publisher.count("accepted", 100)
    await stop_all(host, number)
    if number == signal.SIGTERM:
        assert list((host.directory / "run").iterdir()) == []

    again = await host.start("another run")
    await again.tell("history")
    await again.count("history", 1)
    ((epoch, *data),) = again.words("history")
    assert [epoch] == publisher.words("ready")[0]
    assert data == [str(n) for n in range(100)]
    await again.tell("publish", 100, 1)
    await again.count("accepted", 1)
    assert again.words("accepted") == [["100", "101"]]


@pytest.mark.parametrize(
    ("number", "same"), [(signal.SIGTERM, True), (signal.SIGKILL, False)], ids=["clean", "unclean"]
)
async def test_a_new_boot_after_an_unclean_end_is_a_new_epoch(
    host: Host, number: signal.Signals, *, same: bool
) -> None:
    before = await host.start(boot="monday")
    await before.tell("publish", 0, 3)
    await before.count("accepted", 3)
    await stop_all(host, number)

    after = await host.start(boot="tuesday")
    assert (after.words("ready") == before.words("ready")) is same


async def test_two_servers_on_one_state_directory_never_mix(host: Host) -> None:
    first = await host.start("run")
    second = await host.start("other")
    await first.tell("publish", 0, 3)
    await second.tell("publish", 100, 3)
    for worker in (first, second):
        await worker.count("accepted", 3)
        await worker.count("delivered", 3)

    assert "LASTCALL_STATE_DIR" in second.warned
    assert [data for _, _, data in first.words("delivered")] == ["0", "1", "2"]
    assert [data for _, _, data in second.words("delivered")] == ["100", "101", "102"]
    assert first.words("ready") != second.words("ready")
    # What it began in its run directory, the second server goes on with there.
    await first.end(signal.SIGTERM)
    successor = await host.start("other")
    await second.end(signal.SIGKILL)
    await successor.tell("publish", 103, 1)
    await successor.count("accepted", 1)
    assert successor.words("accepted") == [["103", "4"]]
    assert successor.words("reset") == []
