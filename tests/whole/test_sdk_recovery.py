"""Workers are killed, replaced, stopped and started anew: the official SDKs miss nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.node_client import node_sdk
from tests.sdk.python_client import python_sdk
from tests.sdk.server import MASTERS, SETTINGS, token, url_of
from tests.sdk.story import PATIENCE, SdkClient, SdkError
from tests.server_process import ServerProcess, free_port, run_server
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

ROOM = "chat:recovery"
PATIENT: dict[str, Any] = SETTINGS | {"ping_interval": 25, "pong_timeout": 20}
"""Nobody is let go here because the machine is busy."""


@asynccontextmanager
async def both_and_a_speaker(
    server: ServerProcess,
) -> AsyncIterator[tuple[SdkClient, SdkClient, SdkClient]]:
    """A Python and a JavaScript client that are subscribed, and another that is not."""
    url = url_of(server)
    async with (
        python_sdk(url, token=token("1")) as first,
        node_sdk(url, token=token("2")) as second,
        python_sdk(url, token=token("3")) as speaker,
    ):
        for client in (first, second, speaker):
            await client.connect()
            await client.story.next("connecting")
            await client.story.next("connected")
        for client in (first, second):
            await client.subscribe(ROOM)
            await client.story.next("subscribed", ROOM)
        yield first, second, speaker


async def say(speaker: SdkClient, number: int) -> None:
    """Publish, again where it is not certain that it was published."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await speaker.publish(ROOM, number)
            except SdkError:
                await speaker.rpc("echo")  # once it is connected


async def hears_all(client: SdkClient, last: int) -> None:
    """Every offset once and in order, and every number up to *last*."""
    while (await client.story.next("publication", ROOM))["data"] != last:
        pass
    heard = client.story.all("publication", ROOM)
    start = heard[0]["offset"]
    assert [each["offset"] for each in heard] == list(range(start, start + len(heard)))
    # What was said twice because nobody could be sure may be heard twice.
    assert list(dict.fromkeys(each["data"] for each in heard)) == list(range(last + 1))
    for each in client.story.all("subscribed", ROOM)[1:]:
        assert (each["was_recovering"], each["recovered"]) == (True, True)


@MASTERS
async def test_nothing_is_missed_when_a_worker_is_killed(command: tuple[str, ...]) -> None:
    """With SIGKILL, the workers of both clients, one after the other, in the middle of talk."""
    with run_server(command=command, workers=2, **PATIENT) as server:
        async with both_and_a_speaker(server) as (first, second, speaker):
            said = 0
            for client in (first, second):
                os.kill(await client.rpc("worker"), signal.SIGKILL)
                for _ in range(20):
                    await say(speaker, said)
                    said += 1
                await client.story.next("connecting")
                await client.story.next("connected")
                await until(lambda: len(server.worker_pids()) == 2, server)
            await say(speaker, said)
            for client in (first, second):
                await hears_all(client, said)


@MASTERS
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_nothing_is_missed_when_everything_is_started_anew(
    command: tuple[str, ...], stop: signal.Signals, tmp_path: Path
) -> None:
    """The log is on disk: who was away, and who was cut, get what they had not heard."""
    where: dict[str, Any] = {"command": command, "directory": tmp_path, "port": free_port()}
    with run_server(workers=2, **where, **PATIENT) as server:
        async with both_and_a_speaker(server) as (first, second, speaker):
            for number in range(3):
                await say(speaker, number)
            await second.story.next("publication", ROOM)
            await second.disconnect()
            for number in range(3, 6):
                await say(speaker, number)
            for number in range(6):
                assert (await first.story.next("publication", ROOM))["data"] == number
            server.send_signal_to_group(stop) if stop is signal.SIGKILL else server.send_signal(
                stop
            )
            code = (await first.story.next("connecting"))["code"]
            # A transport that is cut is code 1 of the SDK's own.
            assert code == (3001 if stop is signal.SIGTERM else 1)
            await asyncio.to_thread(server.wait, PATIENCE)
            with run_server(workers=2, **where, **PATIENT):
                await first.story.next("connected")
                await second.connect()
                await say(speaker, 6)
                for client in (first, second):
                    await hears_all(client, 6)


async def reload(server: ServerProcess) -> None:
    """Replace all workers."""
    old = set(server.worker_pids())
    asked = 0

    def are_new() -> bool:
        nonlocal asked
        # The stock master gives up where a new worker takes five seconds to start.
        if asked == server.log.count("aborting the restart"):
            server.send_signal(signal.SIGHUP)
            asked += 1
        return len(server.worker_pids()) == 2 and not old & {*server.records()}

    await until(are_new, server, 60)


@MASTERS
async def test_a_reload_is_not_noticed(command: tuple[str, ...]) -> None:
    """Clients are handed over with all that they are: no event, and everything goes on."""
    settings: dict[str, Any] = PATIENT | {"shutdown_timeout": 60}
    with run_server(command=command, workers=2, **settings) as server:
        async with both_and_a_speaker(server) as (first, second, speaker):
            clients = (first, second, speaker)
            old = set(server.worker_pids())
            stories = [[*client.story.events] for client in clients]
            reloaded = asyncio.create_task(reload(server))
            said = 0
            while not reloaded.done():
                await say(speaker, said)
                said += 1
                await asyncio.sleep(0.02)
            await reloaded
            await say(speaker, said)
            for client in (first, second):
                await hears_all(client, said)
                assert await client.rpc("worker") not in old
                stats = await client.presence_stats(ROOM)
                assert stats == (2, 2)
            for client, before in zip(clients, stories, strict=True):
                since = client.story.events[len(before) :]
                assert {event.name for event in since} <= {"publication"}
            await first.unsubscribe(ROOM)
            await second.publish(ROOM, said + 1)
            assert (await second.story.next("publication", ROOM))["info"]["user"] == "2"
            assert await second.presence_stats(ROOM) == (1, 1)


@MASTERS
async def test_a_full_stop_is_code_3001_and_they_wait_for_the_next_server(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    where: dict[str, Any] = {"command": command, "directory": tmp_path, "port": free_port()}
    shutdown = {"code": 3001, "reason": "shutdown"}
    with run_server(workers=2, **where, **PATIENT) as server:
        async with both_and_a_speaker(server) as clients:
            server.send_signal(signal.SIGTERM)
            # The JavaScript SDK knows messages of the server; the Python one ignores them.
            notice = await clients[1].story.next("message")
            assert notice["data"] == "Server is shutting down, please disconnect."
            for client in clients:
                assert await client.story.next("connecting") == shutdown
            assert await asyncio.to_thread(server.wait, PATIENCE) == 0
            with run_server(workers=2, **where, **PATIENT):
                for client in clients:
                    await client.story.next("connected")
