"""Several workers: one order for all, and every way in which they can be stopped or killed."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import Client, clients
from tests.server_process import ServerProcess, run_server, slowness, wait_until
from tests.whole.spreading import fill, spread

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

STOCK = (sys.executable, "-m", "uvicorn", "main:app")
OWN = (sys.executable, "-m", "lastcall", "serve", "main:app")
MASTERS = pytest.mark.parametrize("command", [STOCK, OWN], ids=["uvicorn", "lastcall serve"])


def to_the_master(server: ServerProcess) -> None:
    server.send_signal(signal.SIGTERM)


def interrupt_the_master(server: ServerProcess) -> None:
    server.send_signal(signal.SIGINT)


def ctrl_c(server: ServerProcess) -> None:
    server.send_signal_to_group(signal.SIGINT)


def as_systemd_does(server: ServerProcess) -> None:
    server.send_signal_to_group(signal.SIGTERM)
    server.send_signal(signal.SIGTERM)


STOPS = pytest.mark.parametrize(
    "stop", [to_the_master, interrupt_the_master, ctrl_c, as_systemd_does]
)


@MASTERS
@STOPS
async def test_all_clients_are_told_served_and_closed(
    command: tuple[str, ...], stop: Callable[[ServerProcess], None]
) -> None:
    with run_server(
        command=command, workers=3, shutdown_timeout=5, shutdown_notice_interval=1
    ) as server:
        async with clients(server.websocket_url, 12) as connected:
            await spread(server, connected)
            started = time.monotonic()
            stop(server)
            for client in connected:
                await client.hear(SHUTDOWN_NOTICE)
            assert time.monotonic() - started < 1.5 * slowness()
            await connected[0].send("from the first")
            await connected[-1].send("from the last")
            for client in connected:
                await client.hear("from the first")
                await client.hear("from the last")
                assert client.heard.count(SHUTDOWN_NOTICE) <= 1 + time.monotonic() - started
            for client in connected:
                assert await client.closed() == (1012, "server is shutting down")
            assert 4.8 < time.monotonic() - started < 5 + 2.5 * slowness()

        assert server.wait(5) == 0
        wait_until(server.group_is_gone, 2, server.describe)
        assert server.leftovers() == []
        assert "Traceback" not in server.log


@MASTERS
async def test_the_process_tree_ends_with_the_last_client(command: tuple[str, ...]) -> None:
    with run_server(command=command, workers=3, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 6) as connected:
            await spread(server, connected)
            server.send_signal(signal.SIGTERM)
            await connected[-1].hear(SHUTDOWN_NOTICE)
            for client in connected[:-1]:
                await client.close()
                await connected[-1].hear(f"{client.name} disconnected.")
        left = time.monotonic()

        assert server.wait(10) == 0
        took = time.monotonic() - left
        assert took < 1.5 * slowness()
        assert server.leftovers() == []


@MASTERS
async def test_a_single_worker_leaves_while_the_others_take_the_new_clients(
    command: tuple[str, ...],
) -> None:
    with run_server(command=command, workers=3, shutdown_timeout=60, handover="off") as server:
        async with clients(server.websocket_url, 9) as connected:
            await spread(server, connected)
            await fill(server, connected)
            leaving = server.worker_pids()[0]
            os.kill(leaving, signal.SIGTERM)
            await asyncio.sleep(0.6)  # the worker looks for siblings, then stops listening

            told = [client for client in connected if SHUTDOWN_NOTICE in client.heard]
            others = [client for client in connected if client not in told]
            assert server.records()[leaving]["state"] == "draining"
            assert len(told) == server.records()[leaving]["connections"]
            async with clients(server.websocket_url, 12) as late:
                await late[-1].send("from a late one")
                for client in (*connected, *late):
                    await client.hear("from a late one")
                assert len(told) == server.records()[leaving]["connections"]

            for client in told:
                await client.close()
            # The master takes it for dead and starts another; nobody else notices.
            wait_until(lambda: leaving not in server.records(), 5)
            wait_until(lambda: len(server.worker_pids()) == 3, 10)
            assert all(SHUTDOWN_NOTICE not in client.heard for client in others)
            assert server.process.poll() is None


@MASTERS
async def test_every_worker_by_itself_is_a_stop_of_all(command: tuple[str, ...]) -> None:
    with run_server(command=command, workers=2, shutdown_timeout=1) as server:
        async with clients(server.websocket_url, 4) as connected:
            await spread(server, connected)
            await fill(server, connected)
            for pid in server.worker_pids():
                os.kill(pid, signal.SIGTERM)
            for client in connected:
                assert (await client.closed())[0] == 1012

        # The last one out tells the master.
        assert server.wait(6) == 0
        assert server.leftovers() == []


@MASTERS
async def test_a_killed_worker_is_announced_by_the_others_and_replaced(
    command: tuple[str, ...],
) -> None:
    with run_server(command=command, workers=3) as server:
        async with clients(server.websocket_url, 12) as connected:
            await spread(server, connected)
            victim = server.worker_pids()[0]
            lost = int(str(server.records()[victim]["connections"]))
            os.kill(victim, signal.SIGKILL)

            survivors = await survivors_of(connected)
            assert len(survivors) == len(connected) - lost
            line = f"{lost} client{'' if lost == 1 else 's'} disconnected."
            if lost:
                for client in survivors:
                    await client.hear(line)
            await survivors[0].send("still one order")
            for client in survivors:
                await client.hear("still one order")
                assert client.heard.count(line) == (1 if lost else 0)
            wait_until(lambda: len(server.worker_pids()) == 3, 15)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.leftovers() == []


async def survivors_of(connected: list[Client]) -> list[Client]:
    """Whoever is not cut."""
    return [client for client in connected if not await is_cut(client)]


async def is_cut(client: Client) -> bool:
    """Whether the client's worker is dead: a ping that nobody answers, or an end of the stream."""
    try:
        await asyncio.wait_for(await client.websocket.ping(), 5)
    except Exception:  # noqa: BLE001  (any failure is the answer)
        return True
    return False


class Talk:
    """Clients that send numbered messages until it is over or their worker is killed."""

    def __init__(self, senders: list[Client]) -> None:
        """Let *senders* talk from now on."""
        self.sent: dict[Client, int] = dict.fromkeys(senders, 0)
        self._is_over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._talk(client)) for client in senders]

    async def end(self) -> None:
        """Return when nobody sends any more."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def _talk(self, client: Client) -> None:
        while not self._is_over.is_set():
            try:
                await client.send(f"{client.name} {self.sent[client]}")
            except ConnectionClosed:
                return
            self.sent[client] += 1
            await asyncio.sleep(0.01)


async def all_hear_the_end(connected: list[Client]) -> None:
    """Each sends a last word, and each hears all of them."""
    for number, client in enumerate(connected):
        await client.send(f"end {number}")
    for client in connected:
        for number in range(len(connected)):
            await client.hear(f"end {number}")


@MASTERS
async def test_kills_lose_and_double_nothing_for_the_others(command: tuple[str, ...]) -> None:
    """Two workers, one of them the sequencer, die by -9 in the middle of 20 senders."""
    with run_server(
        command=command, workers=4, announcements=False, heartbeat_interval=0
    ) as server:
        async with clients(server.websocket_url, 40) as connected:
            await connected[-1].send("all are here")
            for client in connected:
                await client.hear("all are here")
            talk = Talk(connected[:20])
            killed: set[int] = set()
            for choose in (min, max):
                witness = (await survivors_of(connected))[0]
                await witness.hear(lambda _: True, times=len(witness.heard) + 200)
                victim = choose(set(server.worker_pids()) - killed)
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda victim=victim: victim not in server.worker_pids(), 5)
            await talk.end()
            survivors = await survivors_of(connected)
            assert len(survivors) >= 5
            await all_hear_the_end(survivors)

        stories = [client.heard for client in survivors]
        stories = [story[story.index("all are here") :] for story in stories]
        assert all(story == stories[0] for story in stories)
        assert len(set(stories[0])) == len(stories[0]), "doubled"
        for client in talk.sent.keys() & set(survivors):
            own = [h for h in stories[0] if str(h).startswith(f"{client.name} ")]
            assert own == [f"{client.name} {count}" for count in range(talk.sent[client])]


async def test_orphans_of_a_killed_master_drain_and_leave() -> None:
    with run_server(workers=2, shutdown_timeout=1) as server:
        async with clients(server.websocket_url, 4) as connected:
            await spread(server, connected)
            server.send_signal(signal.SIGKILL)
            for client in connected:
                await client.hear(SHUTDOWN_NOTICE)
            for client in connected:
                assert (await client.closed())[0] == 1012
        wait_until(server.group_is_gone, 5, server.describe)
        assert server.leftovers() == []


async def test_a_worker_that_hangs_is_nobody_to_leave_new_clients_to() -> None:
    """All are told to stop; while one is stuck, the others go on answering for it."""
    with run_server(workers=2, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 1):

            def idle() -> list[int]:
                return [pid for pid, it in server.records().items() if not it["connections"]]

            wait_until(lambda: len(idle()) == 1, 5, server.describe)
            (stuck,) = idle()
            os.kill(stuck, signal.SIGSTOP)
            server.send_signal(signal.SIGTERM)

            def is_refused() -> bool:
                with contextlib.suppress(OSError):
                    return server.get("/", timeout=0.5)[0] == 503
                return False

            await asyncio.to_thread(wait_until, is_refused, 10, server.describe)
            os.kill(stuck, signal.SIGCONT)
        assert server.wait(5) == 0


async def test_a_run_directory_that_is_removed_costs_nobody_the_connection() -> None:
    """A cleaner of /tmp takes the files of the workers, the socket and the lock of the bus."""
    with run_server(workers=3, shutdown_timeout=60) as server:
        async with clients(server.websocket_url, 6) as everybody:
            for path in server.run_dir.iterdir():
                shutil.rmtree(path)
            await asyncio.to_thread(server.wait_workers, 3)
            for number, client in enumerate(everybody):
                await client.send(f"from {number}")
            for client in everybody:
                for number in range(6):
                    await client.hear(f"from {number}")
            server.send_signal(signal.SIGTERM)
        assert server.wait(5) == 0
        assert server.leftovers() == []
        assert "Traceback" not in server.log


async def test_two_servers_in_one_directory_never_mix() -> None:
    with run_server(workers=2) as one, run_server(workers=2, directory=one.run_dir.parent) as two:
        async with (
            clients(one.websocket_url, 2) as (first, second),
            clients(two.websocket_url, 2) as (other, another),
        ):
            await first.send("for one")
            await other.send("for two")
            await second.hear("for one")
            await another.hear("for two")
            assert "for two" not in first.heard
            assert "for one" not in other.heard
            one.send_signal(signal.SIGTERM)
            await first.hear(SHUTDOWN_NOTICE)
            await first.close()
            await second.close()
            assert one.wait(5) == 0
            await other.send("still here")
            await another.hear("still here")
            assert SHUTDOWN_NOTICE not in other.heard


async def test_an_accidental_second_server_on_the_same_port_harms_nobody() -> None:
    with run_server() as server:
        directory = server.run_dir.parent
        async with clients(server.websocket_url, 1) as (client,):
            with run_server(port=server.port, directory=directory, wait=False) as second:
                assert second.wait(10) != 0
            await client.send("undisturbed")
            await client.hear("undisturbed")
            assert len(server.records()) == 1
        assert server.get("/health/ready")[0] == 200


@pytest.fixture
def strangers() -> Iterator[None]:
    """Nothing to prepare: the test's own process is the stranger that must not be signalled."""
    before = signal.getsignal(signal.SIGTERM)

    def fail(*_: object) -> None:
        pytest.fail("the test runner was told to exit")

    signal.signal(signal.SIGTERM, fail)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("strangers")
async def test_the_parent_of_a_single_worker_is_nobodys_master() -> None:
    with run_server() as server:
        server.send_signal(signal.SIGTERM)
        assert server.wait(5) == -signal.SIGTERM
