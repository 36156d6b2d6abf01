"""Streams of real servers: on each of them, to their end, for who reads slowly or not at all."""

import asyncio
import contextlib
import importlib.util
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from lastcall.settings import SHUTDOWN_NOTICE
from tests.server_process import ServerProcess, free_port, run_server
from tests.stream_client import EVENT_STREAMS, StreamClient
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

APPLICATION = "tests.sdk.application:app"
COMMANDS = {
    "uvicorn": ("uvicorn", APPLICATION, "--port", "{port}"),
    "h11": ("uvicorn", APPLICATION, "--http", "h11", "--loop", "asyncio", "--port", "{port}"),
    "hypercorn": ("hypercorn", APPLICATION, "--bind", "127.0.0.1:{port}"),
    "gunicorn": (
        *("gunicorn", APPLICATION, "--worker-class", "uvicorn_worker.UvicornWorker"),
        *("--bind", "127.0.0.1:{port}", "--graceful-timeout", "30", "--no-control-socket"),
    ),
}
HOSTS = pytest.mark.parametrize("host", COMMANDS)
OPEN: dict[str, Any] = {
    "insecure": True,
    "heartbeat_interval": 0,
    "namespaces": json.dumps({"kept": {"history_size": 100, "force_recovery": True}}),
    "shutdown_timeout": 20,
}
ROOM = "kept:room"


@contextmanager
def run(host: str = "uvicorn", **settings: Any) -> Iterator[ServerProcess]:
    """A server in which everybody may do everything."""
    module, *arguments = COMMANDS[host]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    with run_server(
        command=(sys.executable, "-m", module, *arguments), **OPEN | settings
    ) as server:
        yield server
        assert "Traceback" not in server.log


@asynccontextmanager
async def opened(
    server: ServerProcess, transport: str, wish: dict[str, Any] | None = None, **headers: str
) -> AsyncIterator[StreamClient]:
    """A client that is connected, and hears what it wishes."""
    is_uni = transport.startswith("uni")
    first = json.dumps((wish or {}) if is_uni else {"id": 1, "connect": wish or {}})
    url = f"http://127.0.0.1:{server.port}"
    async with (
        httpx.AsyncClient(base_url=url, timeout=20) as http,
        http.stream("POST", f"/connection/{transport}", content=first, headers=headers) as response,
    ):
        client = StreamClient(http, response, reads_events=transport in EVENT_STREAMS)
        await client.connected()
        yield client


@HOSTS
@pytest.mark.parametrize("transport", ["sse", "http_stream"])
async def test_a_client_speaks_hears_and_leaves(host: str, transport: str) -> None:
    with run(host) as server:
        async with opened(server, transport) as client:
            await client.ask("subscribe", channel=ROOM)
            await client.say({"id": 9, "publish": {"channel": ROOM, "data": {"n": 1}}})
            heard = [await client.hear(), await client.hear()]
            assert {"id": 9, "publish": {}} in heard
            assert any("push" in each for each in heard)
            assert connections(server) == 1
        await until(lambda: connections(server) == 0, server)


@HOSTS
@pytest.mark.parametrize("transport", ["sse", "uni_http_stream"])
async def test_a_client_is_told_served_and_released(host: str, transport: str) -> None:
    with run(host, release_rate=1) as server:
        async with opened(server, transport) as first, opened(server, transport) as second:
            server.send_signal(signal.SIGTERM)
            for client in (first, second):
                told = await client.hear()
                assert told.get("push", told) == {"message": {"data": SHUTDOWN_NOTICE}}
            for client in (first, second):
                told = await client.hear()
                end = {"disconnect": {"code": 3001, "reason": "shutdown"}}
                assert told.get("push", told) == end
                assert await client.is_over()
        await asyncio.to_thread(server.wait, 20)
        assert server.leftovers() == []


@pytest.mark.parametrize("host", ["uvicorn", "h11"])
async def test_who_does_not_read_is_let_go_and_cut(host: str) -> None:
    """The server itself would keep such a connection until the client has read what is left."""
    with run(host, max_backlog=100_000, message_rate=0) as server, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        wish = json.dumps({"subs": {ROOM: {}}}).encode()
        request = b"POST /connection/uni_sse HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%b"
        slow.sendall(request % (len(wish), wish))
        await until(lambda: connections(server) == 1, server)
        async with opened(server, "sse") as speaker:
            for _ in range(100):
                big = {"channel": ROOM, "data": 50_000 * "x"}
                await speaker.say({"id": 5, "publish": big})
                await speaker.hear()
            await until(lambda: connections(server) == 1, server)
            assert re.search(r'closed_total\{.*code="3008".*\} 1', server.get("/metrics")[2])
            await until(lambda: not is_held(server, slow), server)
        assert "without completing response" not in server.log


async def test_a_bare_event_source_misses_nothing_over_a_restart_of_everything(
    tmp_path: Path,
) -> None:
    """With `curl -N`, which reads as an `EventSource` does, and names where it stood."""
    command = (sys.executable, "-m", "uvicorn", APPLICATION)
    where: dict[str, Any] = {"command": command, "directory": tmp_path, "port": free_port()}
    with run_server(workers=2, **where, **OPEN) as server:
        async with curl(server) as lines, opened(server, "sse") as speaker:
            assert re.fullmatch(r"retry: [123]\d{3}", await lines.next())
            stands, connect = await lines.event()
            assert set(connect["connect"]["subs"]) == {ROOM}
            for number in range(3):
                await say(speaker, number)
            for number in range(2):
                stands, push = await lines.event()
                assert push["pub"]["data"] == number
        server.send_signal_to_group(signal.SIGKILL)
        await asyncio.to_thread(server.wait, 20)
    with run_server(workers=2, **where, **OPEN) as server:
        async with opened(server, "sse") as speaker:
            await say(speaker, 3)
        async with curl(server, stands) as lines:
            await lines.next()
            _, connect = await lines.event()
            missed = connect["connect"]["subs"][ROOM]
            assert missed["recovered"] is True
            assert [each["data"] for each in missed["publications"]] == [2, 3]
            server.send_signal(signal.SIGTERM)
            told = [await lines.next()]
            while '"disconnect"' not in told[-1]:
                told.append(await lines.next())
            assert re.fullmatch(r"retry: [1-5]\d{3}", told[-2])
            assert "3001" in told[-1]


async def test_a_listener_on_a_websocket_moves_unnoticed() -> None:
    """It is still one that answers no ping when it is another worker's."""
    settings: dict[str, Any] = OPEN | {"ping_interval": 1, "pong_timeout": 0.5}
    settings["shutdown_timeout"] = 60
    command = (sys.executable, "-m", "lastcall", "serve", APPLICATION)
    with run_server(command=command, workers=2, **settings) as server:
        url = f"ws://127.0.0.1:{server.port}/connection/uni_websocket"
        async with connect(url) as listener:
            await listener.send(json.dumps({"subs": {ROOM: {}}}))
            assert "connect" in json.loads(await listener.recv())
            before = set(server.worker_pids())
            server.send_signal(signal.SIGHUP)
            await until(lambda: not before & {*server.records(), *server.records("DONE")}, server)
            async with opened(server, "sse") as speaker:
                await say(speaker, 1)
            heard: list[Any] = []
            async with asyncio.timeout(20):
                while heard.count({}) < 3 or {"n": 1} not in heard:
                    heard.append(json.loads(await listener.recv()))
                    if "pub" in heard[-1]:
                        heard.append({"n": heard[-1]["pub"]["data"]})
            assert not any("disconnect" in each or "message" in each for each in heard)


async def test_who_vanishes_without_a_word_is_missed() -> None:
    """Nothing is written to it but pings, and nothing comes back: its machine has no power."""
    with run(ping_interval=1, pong_timeout=0.5) as server:
        async with opened(server, "sse"):
            await until(lambda: connections(server) == 1, server)
            await until(lambda: connections(server) == 0, server)
            assert re.search(r'closed_total\{.*code="3012".*\} 1', server.get("/metrics")[2])


async def test_no_token_comes_into_the_servers_log() -> None:
    with run() as server:
        url = f"http://127.0.0.1:{server.port}/connection/sse"
        async with httpx.AsyncClient() as http:
            query = {"cf_connect": '{"id":1,"connect":{"token":"a-secret"}}'}
            await http.get(url, params=query)
        await until(lambda: "/connection/sse" in server.log, server)
        assert "a-secret" not in server.log


async def say(speaker: StreamClient, number: int) -> None:
    assert await speaker.ask("publish", channel=ROOM, data=number) == {}


class Lines:
    """What curl prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next(self) -> str:
        """The next line that is not empty."""
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            while True:
                line = await self._process.stdout.readline()
                assert line, "the stream has ended"
                if line.strip():
                    return line.decode().strip()

    async def event(self) -> tuple[str, Any]:
        """Id and data of the next event."""
        name, _, where = (await self.next()).partition(": ")
        assert name == "id"
        name, _, data = (await self.next()).partition(": ")
        assert name == "data"
        return where, json.loads(data)


@asynccontextmanager
async def curl(server: ServerProcess, last_event_id: str = "") -> AsyncIterator[Lines]:
    """Read an event stream with curl."""
    wish = json.dumps({"subs": {ROOM: {}}})
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "-N", "--get", "--data-urlencode", f"cf_connect={wish}"),
        *("--header", f"Last-Event-ID: {last_event_id}") if last_event_id else (),
        f"http://127.0.0.1:{server.port}/connection/uni_sse",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Lines(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def connections(server: ServerProcess) -> int:
    """How many clients the workers have."""
    return sum(int(str(each["connections"])) for each in server.records().values())


def is_held(server: ServerProcess, client: socket.socket) -> bool:
    """Whether the server has the socket at whose other end *client* is: the kernel may, still."""
    port = client.getsockname()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_others = fields = line.split()
        here, there = (int(each.partition(":")[2], 16) for each in (local, remote))
        if (here, there) == (server.port, port):
            return fields[9] != "0"  # its inode
    return False
