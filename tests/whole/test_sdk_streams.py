"""The official SDK over SSE and HTTP streams, while workers come and go: nothing is missed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.node_client import node_sdk
from tests.sdk.python_client import python_sdk
from tests.sdk.server import MASTERS, OWN, SETTINGS, STOCK, STREAMS, token, url_of
from tests.sdk.story import Sdk, SdkClient
from tests.server_process import ServerProcess, free_port, run_server
from tests.whole.moving import until
from tests.whole.test_sdk_recovery import ROOM, hears_all, reload, say

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

PATIENT: dict[str, Any] = SETTINGS | {"ping_interval": 25, "pong_timeout": 20}
SHUTDOWN = {"code": 3001, "reason": "shutdown"}


@asynccontextmanager
async def reader_and_speaker(
    sdk: Sdk, server: ServerProcess
) -> AsyncIterator[tuple[SdkClient, SdkClient]]:
    """One that reads a stream and is subscribed, and one that is not, over a WebSocket."""
    url = url_of(server)
    async with sdk(url, token=token("1")) as reader, python_sdk(url, token=token("2")) as speaker:
        for client in (speaker, reader):
            await client.connect()
            await client.story.next("connecting")
            await client.story.next("connected")
        await reader.subscribe(ROOM)
        await reader.story.next("subscribed", ROOM)
        yield reader, speaker


@pytest.mark.parametrize("transport", ["sse", "http_stream"])
@MASTERS
async def test_what_a_client_says_comes_to_its_worker_from_every_other(
    transport: str, command: tuple[str, ...]
) -> None:
    sdk: Sdk = partial(node_sdk, transport=transport, requests_anew=True)
    with run_server(command=command, workers=4, **PATIENT) as server:
        async with reader_and_speaker(sdk, server) as (reader, _):
            worker = await reader.rpc("worker")
            # Each alone, so that the next comes over another connection, to whichever worker.
            for number in range(30):
                assert await reader.rpc("worker") == worker
                await reader.publish(ROOM, number)
            await hears_all(reader, 29)
            assert reader.story.names().count("connecting") == 1


@STREAMS
async def test_nothing_is_missed_when_the_worker_is_killed(sdk: Sdk) -> None:
    with run_server(command=OWN, workers=2, **PATIENT) as server:
        async with reader_and_speaker(sdk, server) as (reader, speaker):
            os.kill(await reader.rpc("worker"), signal.SIGKILL)
            for number in range(20):
                await say(speaker, number)
            await reader.story.next("connecting")
            await reader.story.next("connected")
            await until(lambda: len(server.worker_pids()) == 2, server)
            await say(speaker, 20)
            await hears_all(reader, 20)


@STREAMS
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_nothing_is_missed_when_everything_is_started_anew(
    sdk: Sdk, stop: signal.Signals, tmp_path: Path
) -> None:
    where: dict[str, Any] = {"command": STOCK, "directory": tmp_path, "port": free_port()}
    with run_server(workers=2, **where, **PATIENT) as server:
        async with reader_and_speaker(sdk, server) as (reader, speaker):
            for number in range(3):
                await say(speaker, number)
                assert (await reader.story.next("publication", ROOM))["data"] == number
            if stop is signal.SIGKILL:
                server.send_signal_to_group(stop)
                assert (await reader.story.next("connecting"))["code"] == 1
            else:
                server.send_signal(stop)
                assert await reader.story.next("connecting") == SHUTDOWN
            await asyncio.to_thread(server.wait, 20)
            with run_server(workers=2, **where, **PATIENT):
                await reader.story.next("connected")
                await say(speaker, 3)
                await hears_all(reader, 3)


@STREAMS
async def test_a_reload_is_a_release_to_the_next_worker(sdk: Sdk) -> None:
    """Streams cannot be handed over. Until its turn comes a client is served, and may speak."""
    settings: dict[str, Any] = PATIENT | {"shutdown_timeout": 60}
    with run_server(command=OWN, workers=2, **settings) as server:
        async with reader_and_speaker(sdk, server) as (reader, speaker):
            old = set(server.worker_pids())
            reloaded, said = asyncio.create_task(reload(server)), 0
            while not reloaded.done():
                await say(speaker, said)
                said += 1
            await reloaded
            assert await reader.story.next("connecting") == SHUTDOWN
            await reader.story.next("connected")
            await say(speaker, said)
            await hears_all(reader, said)
            assert await reader.rpc("worker") not in old


@STREAMS
async def test_a_client_is_served_until_it_is_released(sdk: Sdk) -> None:
    """What it says is taken although nobody else is let in any more."""
    slowly: dict[str, Any] = PATIENT | {"shutdown_timeout": 60, "release_rate": 0.2}
    with run_server(command=STOCK, **slowly) as server:
        async with reader_and_speaker(sdk, server) as (reader, speaker):
            server.send_signal(signal.SIGTERM)
            notice = await reader.story.next("message")
            assert notice["data"] == "Server is shutting down, please disconnect."
            assert await speaker.story.next("connecting") == SHUTDOWN
            await reader.publish(ROOM, "still here")
            assert (await reader.story.next("publication", ROOM))["data"] == "still here"
            assert await reader.story.next("connecting") == SHUTDOWN
