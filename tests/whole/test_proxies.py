"""Deploys behind a real proxy, with the configurations in `deploy/`."""

import asyncio
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from lastcall.settings import SHUTDOWN_NOTICE
from tests.clients import Client, clients
from tests.light_client import LightClient
from tests.proxy import run_haproxy, run_nginx
from tests.server_process import ServerProcess, run_server, wait_until
from tests.stream_client import StreamClient, stream_works
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

OWN = (sys.executable, "-m", "lastcall", "serve", "main:app")

type RunProxy = Callable[[Path, tuple[int, int]], AbstractContextManager[int]]

PROXIES = [
    pytest.param(run, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name} here"))
    for run, name in ((run_nginx, "nginx"), (run_haproxy, "haproxy"))
]


@pytest.mark.parametrize("run_proxy", PROXIES)
async def test_reload_behind_a_proxy_is_noticed_by_nobody(
    run_proxy: RunProxy, tmp_path: Path
) -> None:
    with (
        run_server(command=OWN, workers=2, heartbeat_interval=0) as server,
        run_proxy(tmp_path, (server.port, server.port)) as port,
    ):
        async with clients(f"ws://127.0.0.1:{port}/ws", 10) as connected:
            before = set(server.worker_pids())
            server.send_signal(signal.SIGHUP)
            wait_until(lambda: not before & set(server.records()), 30, server.describe)
            await connected[0].send("still here")
            for client in connected:
                await client.hear("still here")
                assert SHUTDOWN_NOTICE not in client.heard


@pytest.mark.parametrize("run_proxy", PROXIES)
async def test_while_one_server_leaves_new_clients_are_anothers(
    run_proxy: RunProxy, tmp_path: Path
) -> None:
    """Rolling restart of two servers: nobody who connects is refused, nobody is cut."""
    options = {"shutdown_notice_interval": 0.5, "heartbeat_interval": 0}
    with (
        run_server(**options) as first,  # type: ignore[arg-type]
        run_server(**options) as second,  # type: ignore[arg-type]
        run_proxy(tmp_path, (first.port, second.port)) as port,
    ):
        url = f"ws://127.0.0.1:{port}/ws"
        async with clients(url, 10) as connected:
            await tell(first, "first")
            await tell(second, "second")
            for client in connected:
                await client.hear(lambda heard: heard in {"first", "second"})
            old = [client for client in connected if "first" in client.heard]
            first.send_signal(signal.SIGTERM)
            for client in old:
                await client.hear(SHUTDOWN_NOTICE)
            for _ in range(10):
                newcomer = await Client.connect(url)
                await newcomer.send("hello")
                await newcomer.hear("hello")
                await newcomer.close()
            for client in old:
                await client.close()
            await asyncio.to_thread(first.wait, 10)
            rest = [client for client in connected if client not in old]
            assert rest
            await rest[0].send("undisturbed")
            for client in rest:
                await client.hear("undisturbed")
                assert SHUTDOWN_NOTICE not in client.heard


@pytest.mark.parametrize("run_proxy", PROXIES)
async def test_sdks_that_come_while_a_server_leaves_are_anothers(
    run_proxy: RunProxy, tmp_path: Path
) -> None:
    """By itself it would let them in, to tell them in their words to come back later."""
    with (
        run_server(insecure=True, heartbeat_interval=0) as first,
        run_server(insecure=True, heartbeat_interval=0) as second,
        run_proxy(tmp_path, (first.port, second.port)) as port,
    ):
        async with clients(first.websocket_url, 1):
            first.send_signal(signal.SIGTERM)
            await until(first.refuses, first)
            for _ in range(4):
                client = LightClient(f"ws://127.0.0.1:{port}/connection/websocket", [], 0)
                async with asyncio.timeout(10), client.running():
                    while not client.connects:  # noqa: ASYNC110  (what it hears is its own)
                        await asyncio.sleep(0.01)
                assert client.attempts == 1
                await stream_works(port)


@pytest.mark.parametrize("transport", ["sse", "http_stream"])
@pytest.mark.parametrize("run_proxy", PROXIES)
async def test_streams_are_not_collected_and_their_clients_heard(
    run_proxy: RunProxy, transport: str, tmp_path: Path
) -> None:
    """Each request may come to either server; only one of them has the stream."""
    with (
        run_server(insecure=True, heartbeat_interval=0) as first,
        run_server(insecure=True, heartbeat_interval=0) as second,
        run_proxy(tmp_path, (first.port, second.port)) as port,
    ):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            connect = {"id": 1, "connect": {}}
            asked = http.stream("POST", f"/connection/{transport}", json=connect)
            async with asked as response:
                client = StreamClient(http, response, reads_events=transport == "sse")
                await client.connected()
                for _ in range(10):
                    assert (await client.ask("rpc", method="none"))["error"]["code"] == 108


async def test_who_is_behind_a_proxy_is_announced_by_the_clients_address(tmp_path: Path) -> None:
    if not shutil.which("nginx"):
        pytest.skip("no nginx here")
    with run_server() as server, run_nginx(tmp_path, (server.port, server.port)) as port:
        async with clients(f"ws://127.0.0.1:{port}/ws", 1) as (client,):
            await client.hear('Client "[127.0.0.1]" connected.')


async def tell(server: ServerProcess, text: str) -> None:
    """Say something to all clients of one server."""
    client = await Client.connect(server.websocket_url)
    await client.send(text)
    await client.hear(text)
    await client.close()
