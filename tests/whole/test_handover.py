"""Workers leave one after the other, and their clients notice nothing."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from lastcall.broker.election_lock import ElectionLock
from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import PATIENCE, Client, clients
from tests.server_process import ServerProcess, run_server
from tests.uvicorn_host import HANDSHAKE
from tests.websocket_bytes import FIN, frame
from tests.whole.moving import NumberedTalk, clients_of, gone, until
from tests.whole.test_workers import MASTERS, OWN

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

QUIET: dict[str, Any] = {"announcements": False, "heartbeat_interval": 0}


@pytest.fixture
def three(loop: str) -> Iterator[ServerProcess]:
    """Three stock workers whose clients hear nothing but each other."""
    with run_server("--loop", loop, workers=3, shutdown_timeout=60, **QUIET) as server:
        yield server


async def all_here(connected: list[Client]) -> None:
    """Everybody hears everybody."""
    await connected[-1].send("all are here")
    for client in connected:
        await client.hear("all are here")


def busiest(server: ServerProcess) -> int:
    counts = clients_of(server)
    return max(server.worker_pids(), key=lambda pid: counts[pid])


def sequencer(server: ServerProcess) -> int:
    """Who may not be stopped: the others would end it, to have the bus back."""
    (path,) = server.run_dir.glob("*/bus.lock")
    return ElectionLock(path).owner() or 0


async def test_workers_that_leave_one_by_one_lose_and_double_nothing(three: ServerProcess) -> None:
    """SIGTERM to single workers, again and again, in the middle of talk in both directions."""
    async with clients(three.websocket_url, 30) as connected:
        await all_here(connected)
        talk = NumberedTalk(connected)
        for _ in range(3):
            leaving = busiest(three)
            os.kill(leaving, signal.SIGTERM)
            await gone(three, leaving)
            await until(lambda: len(three.worker_pids()) == 3, three)
        await talk.end(connected)
        assert not any(SHUTDOWN_NOTICE in client.heard for client in connected)
        assert sum(clients_of(three).values()) == 30
    three.send_signal(signal.SIGTERM)
    assert three.wait(10) == 0
    assert three.leftovers() == []
    assert "Traceback" not in three.log
    assert ", 0 closed, 0 cut" in three.log


@MASTERS
async def test_a_master_that_replaces_its_workers_disconnects_nobody(
    command: tuple[str, ...],
) -> None:
    """SIGHUP: the stock one replaces one after the other, our own all at once."""
    with run_server(command=command, workers=3, shutdown_timeout=60, **QUIET) as server:
        async with clients(server.websocket_url, 30) as connected:
            await all_here(connected)
            before = set(server.worker_pids())
            talk = NumberedTalk(connected)
            server.send_signal(signal.SIGHUP)

            def are_new() -> bool:
                return len(server.worker_pids()) == 3 and not before & {*server.records()}

            await until(are_new, server, 60)
            await talk.end(connected)
            assert sum(clients_of(server).values()) == 30
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.leftovers() == []
        assert "Traceback" not in server.log


@pytest.mark.parametrize("limit", ["--max-lifetime", "--limit-max-requests"])
async def test_a_worker_that_is_recycled_disconnects_nobody(limit: str) -> None:
    """Its age, or so many requests, are no reason for its clients to go."""
    command = (*OWN, limit, "10")
    with run_server(command=command, workers=2, shutdown_timeout=60, **QUIET) as server:
        async with clients(server.websocket_url, 12) as connected:
            await all_here(connected)
            before = set(server.worker_pids())

            def is_gone() -> bool:
                server.health("live")
                return not before <= {*server.records(), *server.records("DONE")}

            await until(is_gone, server, 90)
            await all_hear(connected, "after all")
            assert not any(SHUTDOWN_NOTICE in client.heard for client in connected)
        assert "clients over to worker" in server.log


async def test_a_full_stop_is_no_ping_pong() -> None:
    """Every worker is told to leave: nobody is handed over, everybody is told within a second."""
    with run_server(workers=3, shutdown_timeout=2, heartbeat_interval=0) as server:
        async with clients(server.websocket_url, 12) as connected:
            await connected[0].send("all are here")
            for client in connected:
                await client.hear("all are here")
            server.send_signal(signal.SIGTERM)
            for client in connected:
                await client.hear(SHUTDOWN_NOTICE)
            for client in connected:
                assert await client.closed() == (1012, "server is shutting down")
        assert server.wait(10) == 0
        assert server.leftovers() == []
        assert "clients over to worker" not in server.log


async def test_a_move_is_not_announced() -> None:
    """Nor is it forgotten: a worker that is killed later is missed with all that it took."""
    with run_server(workers=2, shutdown_timeout=60, heartbeat_interval=0) as server:
        async with clients(server.websocket_url, 8) as connected:
            for client in connected:
                await client.hear(f"{connected[-1].name} connected.")
            first, second = server.worker_pids()
            os.kill(first, signal.SIGTERM)
            await gone(server, first)
            await until(lambda: server.records()[second]["announced"] == {"ws": 8}, server)
            assert clients_of(server)[second] == 8
            await until(lambda: len(server.worker_pids()) == 2, server)
            async with clients(server.websocket_url, 24) as late:
                for client in (*connected, *late):
                    await client.hear(f"{late[-1].name} connected.")
                    assert not any("disconnected" in str(each) for each in client.heard)
                    assert SHUTDOWN_NOTICE not in client.heard
                lost = clients_of(server)[second]
                if lost < 32:
                    os.kill(second, signal.SIGKILL)
                    survivors = [each for each in late if not await is_cut(each)]
                    await survivors[0].hear(f"{lost} clients disconnected.")


async def is_cut(client: Client) -> bool:
    """Whether nobody answers."""
    try:
        await asyncio.wait_for(await client.websocket.ping(), 5)
    except Exception:  # noqa: BLE001  (any failure is the answer)
        return True
    return False


async def test_switched_off_everybody_is_drained() -> None:
    with run_server(workers=2, shutdown_timeout=2, handover="off", **QUIET) as server:
        async with clients(server.websocket_url, 8) as connected:
            await all_here(connected)
            leaving = busiest(server)
            count = clients_of(server)[leaving]
            os.kill(leaving, signal.SIGTERM)
            await gone(server, leaving)
            told = [client for client in connected if SHUTDOWN_NOTICE in client.heard]
            assert len(told) == count
            for client in told:
                assert await client.closed() == (1012, "server is shutting down")


async def test_a_stopped_sibling_delays_nobody(three: ServerProcess) -> None:
    """SIGSTOP: it accepts in the kernel and answers nothing. The other one takes them."""
    async with clients(three.websocket_url, 24) as connected:
        await all_here(connected)
        leaving = sequencer(three)
        stopped = min(set(three.worker_pids()) - {leaving}, key=lambda pid: clients_of(three)[pid])
        os.kill(stopped, signal.SIGSTOP)
        try:
            os.kill(leaving, signal.SIGTERM)
            await gone(three, leaving)
        finally:
            os.kill(stopped, signal.SIGCONT)
        await until(lambda: sum(clients_of(three).values()) == 24, three)
        await all_hear(connected, "after all")


async def all_hear(connected: list[Client], text: str) -> None:
    await connected[0].send(text)
    for client in connected:
        await client.hear(text)


async def test_only_a_stopped_sibling_is_nobody(loop: str) -> None:
    """Then clients are told within a second, and go on being served."""
    with run_server("--loop", loop, workers=2, shutdown_timeout=60, **QUIET) as server:
        async with clients(server.websocket_url, 16) as connected:
            await all_here(connected)
            leaving = sequencer(server)
            (stopped,) = set(server.worker_pids()) - {leaving}
            count = clients_of(server)[leaving]
            os.kill(stopped, signal.SIGSTOP)
            try:
                since = asyncio.get_running_loop().time()
                os.kill(leaving, signal.SIGTERM)
                await until(
                    lambda: sum(SHUTDOWN_NOTICE in each.heard for each in connected) == count,
                    server,
                )
                told = [each for each in connected if SHUTDOWN_NOTICE in each.heard]
                heard_at = [each.heard_at[each.heard.index(SHUTDOWN_NOTICE)] for each in told]
                assert max(heard_at) - since < 1.5
            finally:
                os.kill(stopped, signal.SIGCONT)
            # It is back: now it takes them.
            await gone(server, leaving)
            await all_hear(connected, "after all")


@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_a_kill_in_the_middle_cuts_only_its_own(who: str) -> None:
    """Everybody is undisturbed, or closed in order, or was the killed worker's."""
    with run_server(workers=3, shutdown_timeout=60, **QUIET) as server:
        async with clients(server.websocket_url, 40) as connected:
            await all_here(connected)
            talk = [asyncio.create_task(babble(client)) for client in connected]
            leaving = sequencer(server)
            others = set(server.worker_pids()) - {leaving}
            before = clients_of(server)
            os.kill(leaving, signal.SIGTERM)
            victim = leaving
            if who == "receiver":
                victim = min(others, key=lambda pid: before[pid])
            await until(lambda: has_begun(server, before, leaving), server)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: not {leaving, victim} & {*server.records()}, server)
            await until(lambda: len(server.worker_pids()) == 3, server)
            for task in talk:
                task.cancel()
            await asyncio.gather(*talk, return_exceptions=True)
            survivors = [client for client in connected if not await is_cut(client)]
            # At most those that were the victim's, or on their way to or from it.
            (third,) = others - {victim} if who == "receiver" else (next(iter(others)),)
            assert len(survivors) >= before[third]
            await all_hear(survivors, "after all")
            await until(lambda: sum(clients_of(server).values()) == len(survivors), server)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.leftovers() == []


def has_begun(server: ServerProcess, before: dict[int, int], leaving: int) -> bool:
    """Whether somebody has more clients than before, or the leaving one is through already."""
    now = clients_of(server)
    return leaving not in now or any(now[pid] > before.get(pid, 0) for pid in now)


async def babble(client: Client) -> None:
    """Say something again and again, as long as somebody listens."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.send("something")
            await asyncio.sleep(0.02)


class Slow:
    """A client that reads only when it is asked to, and speaks byte by byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(HANDSHAKE.replace(b"/ws?a=b", b"/ws") + b"\r\n")
        self._buffer = b""
        self._take_until(b"\r\n\r\n")

    def frame(self) -> bytes:
        """The payload of the next frame."""
        _, size = self._take(2)
        if size == 126:
            size = int.from_bytes(self._take(2))
        elif size == 127:
            size = int.from_bytes(self._take(8))
        return self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self.socket.recv(1 << 20)
            assert data, "cut"
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _take_until(self, end: bytes) -> None:
        while end not in self._buffer:
            self._buffer += self.socket.recv(4096)
        _, _, self._buffer = self._buffer.partition(end)


async def test_a_reader_with_megabytes_unread_and_a_writer_in_the_middle_of_a_message(
    loop: str,
) -> None:
    """They move with the rest; the one misses nothing, the other goes on with its next byte."""
    with run_server(
        "--loop", loop, workers=2, shutdown_timeout=60, max_backlog=50_000_000, **QUIET
    ) as server:
        slow = await asyncio.to_thread(Slow, server.port)
        writer = await asyncio.to_thread(Slow, server.port)
        async with clients(server.websocket_url, 2) as connected:
            await all_here(connected)
            payloads = [f"{number} ".encode() * 12_000 for number in range(160)]
            for payload in payloads:
                await connected[0].send(payload.decode())
            await connected[1].hear(payloads[-1].decode())
            half = frame(0x1, b"half of it, ") + frame(FIN, b"and the rest")
            writer.socket.sendall(half[:15])
            for _ in range(3):
                leaving = busiest(server)
                os.kill(leaving, signal.SIGTERM)
                await gone(server, leaving)
                await until(lambda: len(server.worker_pids()) == 2, server)
            writer.socket.sendall(half[15:])
            await connected[0].hear("half of it, and the rest")

            def read() -> list[bytes]:
                return [slow.frame() for _ in range(len(payloads) + 2)]

            heard = await asyncio.to_thread(read)
            assert heard == [b"all are here", *payloads, b"half of it, and the rest"]
            assert "handed" in server.log
        slow.socket.close()
        writer.socket.close()
