"""The official SDKs put deltas together: over reloads, over deaths, and beside those who do not."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import pytest

from tests.sdk.node_client import NodeClient, node_protobuf_sdk, node_sdk
from tests.sdk.python_client import python_protobuf_sdk, python_sdk
from tests.sdk.server import MASTERS, OWN, SDKS, SETTINGS, STOCK, token, url_of
from tests.sdk.story import PATIENCE, Sdk, SdkClient, SdkError
from tests.server_process import ServerProcess, run_server
from tests.whole.moving import until
from tests.whole.test_sdk_recovery import reload

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

PATIENT: dict[str, Any] = SETTINGS | {"ping_interval": 25, "pong_timeout": 20}
PATIENT |= {"shutdown_timeout": 60}
ROOM = "doc:one"


def state(number: int) -> dict[str, Any]:
    """What the document says at this moment; every seventh is nothing like the others."""
    if number % 7 == 6:
        return {"n": number, "torn": "".join(chr(0x4E00 + (number * k) % 5000) for k in range(60))}
    lines = [f"naïve ☃ 𝄞 {'é' * (k + (number == k))}" for k in range(12)]
    return {"n": number, "lines": lines, "end": chr(0x1F600 + number % 60)}


@asynccontextmanager
async def readers(server: ServerProcess) -> AsyncIterator[tuple[list[SdkClient], SdkClient]]:
    """Subscribers in all ways, of which the last one reads no deltas; and who speaks."""
    made = (python_sdk, node_sdk, python_protobuf_sdk, node_protobuf_sdk, python_sdk)
    url = url_of(server)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(sdk(url, token=token())) for sdk in made]
        speaker = await stack.enter_async_context(python_sdk(url, token=token()))
        for client in (*clients, speaker):
            await client.connect()
            await client.story.next("connected")
        for client in clients:
            await client.subscribe(ROOM, delta="fossil" if client is not clients[-1] else "")
            await client.story.next("subscribed", ROOM)
        yield clients, speaker


async def say(speaker: SdkClient, number: int) -> None:
    """Publish, again where it is not certain that it was published."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await speaker.publish(ROOM, state(number))
            except SdkError:
                await speaker.rpc("echo")  # once it is connected


async def hear_all(clients: list[SdkClient], last: int, *, plain: SdkClient | None = None) -> None:
    for client in clients:
        while (await client.story.next("publication", ROOM))["data"]["n"] != last:
            pass
        heard = client.story.all("publication", ROOM)
        assert [each["offset"] for each in heard] == list(range(1, len(heard) + 1))
        said = [each["data"] for each in heard]
        # What was said twice because nobody could be sure may be heard twice.
        unique = [each for each, before in zip(said, [None, *said], strict=False) if each != before]
        assert unique == [state(number) for number in range(last + 1)]
        if isinstance(client, NodeClient) and client is not plain:
            assert await client.deltas(ROOM) > last // 3


@MASTERS
async def test_a_reload_breaks_no_chain(command: tuple[str, ...]) -> None:
    """Moved clients are told something whole first; none of them notices anything."""
    with run_server(command=command, workers=2, **PATIENT) as server:
        async with readers(server) as (clients, speaker):
            before = [len(client.story.events) for client in clients]
            old = set(server.worker_pids())
            reloaded = asyncio.create_task(reload(server))
            said, last = count(), 0
            while not reloaded.done():
                await say(speaker, last := next(said))
                await asyncio.sleep(0.02)
            await reloaded
            for _ in range(3):
                await say(speaker, last := next(said))
            await hear_all(clients, last, plain=clients[-1])
            for client, start in zip(clients, before, strict=True):
                assert await client.rpc("worker") not in old
                assert {event.name for event in client.story.events[start:]} == {"publication"}


async def test_killed_workers_break_no_chain() -> None:
    """What was missed is a chain of its own, which goes on with what is published now."""
    with run_server(command=OWN, workers=2, **PATIENT) as server:
        async with readers(server) as (clients, speaker):
            said, last = count(), 0
            for victim in (clients[0], clients[1]):
                os.kill(await victim.rpc("worker"), signal.SIGKILL)
                for _ in range(15):
                    await say(speaker, last := next(said))
                await until(lambda: len(server.worker_pids()) == 2, server)
            await say(speaker, last := next(said))
            await hear_all(clients, last, plain=clients[-1])
            for each in (each for one in clients for each in one.story.all("subscribed", ROOM)[1:]):
                assert each["recovered"] is True


@SDKS
async def test_who_was_away_goes_on_with_deltas(sdk: Sdk) -> None:
    with run_server(command=STOCK, **PATIENT) as server:
        async with sdk(url_of(server), token=token()) as client:
            await client.connect()
            await client.subscribe(ROOM, delta="fossil")
            await client.story.next("subscribed", ROOM)
            for number in range(12):
                if number % 4 == 2:
                    await client.unsubscribe(ROOM)
                await say(client, number)
                if number % 4 == 3:
                    await client.subscribe(ROOM)
            await hear_all([client], 11)
            page = await client.history(ROOM, limit=-1)
            assert [each["data"]["n"] for each in page["publications"]] == list(range(12))
