"""What the official SDKs hear of a server that leaves, and how they are kept away meanwhile."""

import asyncio
import json
import signal
from typing import Any

import pytest
from websockets.asyncio.client import connect

from lastcall.settings import SHUTDOWN_NOTICE
from tests.sdk.node_client import node_sdk
from tests.sdk.python_client import python_sdk
from tests.sdk.server import MASTERS, OWN, SETTINGS, STOCK, STREAMS, WEBSOCKETS, token, url_of
from tests.sdk.story import PATIENCE, Sdk
from tests.server_process import ServerProcess, free_port, run_server
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

TOO_MANY = {"code": 111, "message": "too many requests", "temporary": True}
NOTICES = "chat:notices"
PATIENT: dict[str, Any] = SETTINGS | {"ping_interval": 25, "pong_timeout": 20}
CAME_IN = 'WebSocket /connection/websocket" [accepted]'


@MASTERS
async def test_notice_reaches_both_sdks_and_then_the_release(command: tuple[str, ...]) -> None:
    settings: dict[str, Any] = PATIENT | {"shutdown_timeout": 20}
    settings |= {"shutdown_notice_channel": NOTICES}
    with run_server(command=command, workers=2, **settings) as server:
        url = url_of(server)
        async with node_sdk(url, token=token("1")) as one, python_sdk(url, token=token("2")) as two:
            for client in (one, two):
                await client.connect()
                await client.story.next("connecting")
                await client.story.next("connected")
            server.send_signal(signal.SIGTERM)

            assert await one.story.next("message") == {"data": SHUTDOWN_NOTICE}
            for client in (one, two):
                assert (await client.story.next("publication", NOTICES))["data"] == SHUTDOWN_NOTICE
                ending = {"code": 3001, "reason": "shutdown"}
                assert await client.story.next("connecting") == ending


@STREAMS
async def test_leaving_worker_asks_streams_for_patience_in_words(sdk: Sdk) -> None:
    port = free_port()
    patient: dict[str, Any] = PATIENT | {"shutdown_timeout": 60}
    with run_server(command=STOCK, port=port, **patient) as leaving:
        url = url_of(leaving)
        async with connect(url_of(leaving, "/plain")) as plain, sdk(url, token=token()) as client:
            leaving.send_signal(signal.SIGTERM)
            await until(lambda: refuses(leaving), leaving)
            await client.connect()
            for _ in range(3):
                assert TOO_MANY in (await client.story.next("error")).values()
            await plain.close()
            await asyncio.to_thread(leaving.wait, PATIENCE)
            with run_server(command=STOCK, port=port, **PATIENT):
                await client.story.next("connected")
            assert client.story.names().count("disconnected") == 0


@WEBSOCKETS
async def test_leaving_worker_asks_for_patience_in_words(sdk: Sdk) -> None:
    """A plain client keeps it there; the SDK waits, longer each time, and comes when it can."""
    port = free_port()
    patient: dict[str, Any] = PATIENT | {"shutdown_timeout": 60}
    with run_server(command=STOCK, port=port, **patient) as leaving:
        url = url_of(leaving)
        async with connect(url_of(leaving, "/plain")) as plain, sdk(url, token=token()) as client:
            leaving.send_signal(signal.SIGTERM)
            await until(lambda: refuses(leaving), leaving)
            assert await answer(url) == {
                "id": 1,
                "error": {"code": 111, "message": "too many requests", "temporary": True},
            }
            await client.connect()
            await until(lambda: leaving.log.count(CAME_IN) >= 4, leaving)
            assert not {"connected", "disconnected"} & set(client.story.names())

            await plain.close()
            await asyncio.to_thread(leaving.wait, PATIENCE)
            with run_server(command=STOCK, port=port, **PATIENT):
                await client.story.next("connected")


@STREAMS
async def test_full_worker_asks_streams_for_patience_in_words(sdk: Sdk) -> None:
    with run_server(command=OWN, max_connections=1, **PATIENT) as server:
        url = url_of(server)
        async with python_sdk(url, token=token("1")) as first, sdk(url, token=token("2")) as second:
            await first.connect()
            await first.story.next("connected")
            await second.connect()
            assert TOO_MANY in (await second.story.next("error")).values()
            await first.disconnect()
            await second.story.next("connected")


@WEBSOCKETS
async def test_full_worker_asks_for_patience_by_its_code(sdk: Sdk) -> None:
    with run_server(command=OWN, max_connections=1, **PATIENT) as server:
        url = url_of(server)
        async with python_sdk(url, token=token("1")) as first, sdk(url, token=token("2")) as second:
            await first.connect()
            await first.story.next("connected")
            async with connect(url) as another:
                await another.wait_closed()
                assert (another.close_code, another.close_reason) == (3013, "too many requests")
            await second.connect()
            await until(lambda: server.log.count(CAME_IN) >= 4, server)
            assert not {"connected", "disconnected"} & set(second.story.names())
            await first.disconnect()
            await second.story.next("connected")


def refuses(server: ServerProcess) -> bool:
    """Whether it answers nobody any more but operators and SDKs."""
    return server.get("/anything")[0] == 503


async def answer(url: str) -> Any:
    """What a client is told that says who it is."""
    async with connect(url) as websocket:
        await websocket.send(json.dumps({"id": 1, "connect": {"token": token()}}))
        return json.loads(await websocket.recv())
