"""What breaks must break visibly, quickly and for nobody else."""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable

import pytest

from lastcall.process_identity import ProcessIdentity
from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import Client, clients
from tests.server_process import ServerProcess, run_server, slowness, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

CYCLES = int(os.environ.get("STRESS_CYCLES", "8"))
"""How many starts and stops at random moments; releases are tried with many more."""


Runner = Callable[[str], tuple[str, ...]]


def uvicorn(app: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "uvicorn", app)


def lastcall_serve(app: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "lastcall", "serve", app)


@pytest.mark.parametrize("runner", [uvicorn, lastcall_serve])
async def test_a_part_that_dies_takes_its_worker_down(runner: Runner) -> None:
    """No zombie that answers 200, and no 30-minute drain of a broken worker."""
    with run_server(command=runner("tests.whole.dying_part:app")) as server:
        async with clients(server.websocket_url, 3) as connected:
            started = time.monotonic()
            await connected[0].send("die")
            for client in connected:
                assert await client.closed() == (1012, "worker failed")
            assert time.monotonic() - started < 2.5 * slowness()  # the part looks once a second
        assert server.wait(5) != 0
        assert "the clock died" in server.log
        assert server.leftovers() == []


async def test_a_worker_whose_part_died_is_replaced() -> None:
    with run_server(command=uvicorn("tests.whole.dying_part:app"), workers=2) as server:
        before = set(server.worker_pids())
        async with clients(server.websocket_url, 1) as (client,):
            await client.send("die")
            assert await client.closed() == (1012, "worker failed")
        wait_until(lambda: len(set(server.worker_pids()) - before) == 1, 15)
        wait_until(lambda: len(server.worker_pids()) == 2, 15)
        assert server.process.poll() is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


async def test_a_limit_of_requests_drains_first() -> None:
    arguments = ("--limit-max-requests", "3")
    with run_server(*arguments, shutdown_timeout=60, shutdown_notice_interval=1) as server:
        async with clients(server.websocket_url, 1) as (client,):
            while SHUTDOWN_NOTICE not in client.heard:
                try:
                    server.get("/health/live", timeout=1)
                except OSError:
                    break
                await asyncio.sleep(0.05)
            await client.hear(SHUTDOWN_NOTICE, times=2)
            await client.send("served")
            await client.hear("served")
        server.wait(5)
        assert server.leftovers() == []


async def test_a_client_that_never_reads_is_let_go_and_harms_nobody() -> None:
    with run_server(max_backlog=200_000, message_rate=0, announcements=False) as server:
        async with clients(server.websocket_url, 2) as (talker, listener):
            lazy = socket.create_connection(("127.0.0.1", server.port))
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sendall(handshake(server))
            await asyncio.sleep(0.2)
            for number in range(400):
                await talker.send(f"{number}: " + "x" * 30_000)
                await listener.hear(f"{number}: " + "x" * 30_000)
            await talker.send("over")
            await listener.hear("over")
            wait_until(lambda: next(iter(server.records().values()))["connections"] == 2, 15)
            lazy.close()
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def handshake(server: ServerProcess, *more: str) -> bytes:
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *more,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


GARBAGE = [
    b"\x81\x03abc",  # not masked
    b"\xf1\x80\0\0\0\0",  # reserved bits
    b"\x83\x80\0\0\0\0",  # reserved opcode
    b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126),  # a ping that is too long
    b"\x80\x80\0\0\0\0",  # a continuation of nothing
    b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # 2**64 - 1 bytes
    b"\x81\x82\0\0\0\0\xff\xfe",  # not UTF-8
    b"\x88\x81\0\0\0\0\x03",  # a close code of one byte
    b"\x88\x82\0\0\0\0\x03\xed",  # a close code that must not be sent (1005)
    b"\x01\x81\0\0\0\0a",  # half a message, and then the end
    b"\x81",  # half a header
    bytes(range(256)) * 20,
]


async def test_garbage_on_the_wire_ends_its_sender_only() -> None:
    with run_server(announcements=False) as server:
        async with clients(server.websocket_url, 1) as (witness,):
            for garbage in GARBAGE:
                with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
                    raw.sendall(handshake(server))
                    raw.recv(65536)
                    raw.sendall(garbage)
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(65536):
                        pass
            for request in (b"GET /ws HTTP/1.1\r\n\r\n", b"\0" * 100, handshake(server)[:60]):
                with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
                    raw.sendall(request)
                    raw.shutdown(socket.SHUT_WR)
                    raw.recv(65536)
            await witness.send("unharmed")
            await witness.hear("unharmed")
            wait_until(lambda: next(iter(server.records().values()))["connections"] == 1, 15)
        server.send_signal(signal.SIGTERM)
        server.wait(5)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", [1, 3])
async def test_starts_and_stops_at_random_moments_leave_nothing(workers: int) -> None:
    seed = int(os.environ.get("STRESS_SEED", str(time.time_ns() % 1_000_000)))
    chance = random.Random(seed)  # noqa: S311  (a schedule, not a secret)
    for cycle in range(CYCLES):
        with run_server(workers=workers, wait=False, shutdown_timeout=1) as server:
            if chance.random() < 0.5:
                server.wait_ready(workers)
                connected = [await Client.connect(server.websocket_url) for _ in range(3)]
            else:
                connected = []
                await asyncio.sleep(chance.uniform(0, 3))
            send = chance.choice([server.send_signal, server.send_signal_to_group])
            heard = False
            for _ in range(chance.choice([1, 1, 2, 3])):
                number = chance.choice([signal.SIGTERM, signal.SIGINT])
                heard |= number == signal.SIGTERM or "Started server process" in server.log
                send(number)
                await asyncio.sleep(chance.uniform(0, 0.8))
                if server.process.poll() is not None:
                    break
            if not heard and server.process.poll() is None:
                # Python itself may lose a Ctrl-C that comes while it imports: it raises
                # KeyboardInterrupt in some callback, whose exceptions it ignores.
                send(signal.SIGTERM)
            server.wait(10)
            for client in connected:
                assert (await client.closed())[0] == 1012, f"seed {seed}, cycle {cycle}"
            wait_until(server.group_is_gone, 5, server.describe)
            said = f"seed {seed}, cycle {cycle}: {server.log}"
            assert server.leftovers() == [], said
            # Before that, a Ctrl-C meets Python's own handler, in the middle of an import.
            _, started, log = server.log.partition("Waiting for application startup")
            assert not (started and "Traceback" in log), said


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("runner", [uvicorn, lastcall_serve])
def test_workers_whose_master_dies_while_they_start_do_not_stay(runner: Runner) -> None:
    """They would serve for ever, each for itself, and nobody would stop them."""
    with run_server(command=runner("main:app"), workers=2, wait=False) as server:
        master = ProcessIdentity.of(server.process.pid)
        assert master is not None
        # The workers, and what multiprocessing has beside them.
        wait_until(lambda: len(master.children()) == 3, 15, server.describe)
        assert server.records() == {}
        server.send_signal(signal.SIGKILL)
        server.wait(5)
        wait_until(server.group_is_gone, 30, server.describe)
        assert server.leftovers() == []


WITHOUT_UNIX = (
    "import socket, sys; pair, unix = socket.socketpair, socket.AF_UNIX; "
    "socket.socketpair = lambda: pair(unix); "  # the event loop's own, which Windows has, too
    "sys.modules['fcntl'] = None; del socket.AF_UNIX; "
    "import uvicorn.main; uvicorn.main.main()"
)
"""As on Windows, as far as this machine can tell."""


async def test_one_worker_needs_no_record_locks_and_no_unix_sockets() -> None:
    command = (sys.executable, "-c", WITHOUT_UNIX, "main:app", "--loop", "asyncio")
    with run_server(command=command, wait=False) as server:
        wait_until(lambda: "Uvicorn running" in server.log, 15, lambda: server.log)
        async with clients(server.websocket_url, 2) as (first, second):
            await first.send("hello")
            await second.hear("hello")
            server.send_signal(signal.SIGTERM)
            await second.hear(SHUTDOWN_NOTICE)
        assert server.wait(5) == -signal.SIGTERM


def test_several_workers_there_are_refused_in_a_sentence() -> None:
    command = (sys.executable, "-c", WITHOUT_UNIX, "main:app", "--loop", "asyncio")
    with run_server(command=command, wait=False, broker_url="unix:") as server:
        assert server.wait(15) == 3
        assert "lastcall: this system can run one worker only" in server.log
        assert "Traceback" not in server.log
