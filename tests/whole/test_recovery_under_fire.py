"""Clients with positions, while workers are killed, reloaded and upgraded: nothing is missed.

`FIRE_ROUNDS` and `FIRE_CLIENTS` make it longer; `FIRE_SEED` repeats what happened.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator

import pytest

from tests.light_client import LightClient
from tests.server_process import ServerProcess, run_server, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

ROUNDS = int(os.environ.get("FIRE_ROUNDS", "4"))
CLIENTS = int(os.environ.get("FIRE_CLIENTS", "40"))
WORKERS = 3
CHANNELS = [f"fire:{number}" for number in range(4)]
OWN = (sys.executable, "-m", "lastcall", "serve", "main:app")
NAMESPACES = {"fire": {"history_size": 300, "history_ttl": 600, "force_recovery": True}}
PATIENCE = 60.0
"""Seconds until all clients are back and have caught up, on a busy machine."""


async def test_every_offset_comes_once_and_in_order() -> None:
    seed = int(os.environ.get("FIRE_SEED", str(time.time_ns() % 1_000_000)))
    chance = random.Random(seed)  # noqa: S311  (a schedule, not a secret)
    with run_server(
        command=OWN,
        workers=WORKERS,
        insecure=True,
        namespaces=json.dumps(NAMESPACES),
        heartbeat_interval=0,
    ) as server:
        async with crowd(server, seed) as clients:
            for number in range(ROUNDS):
                disturb(server, chance)
                await publish(clients, number)
                await all_hear(clients, f"end of round {number}")
                wait_until(lambda: len(server.worker_pids()) >= WORKERS, PATIENCE, server.describe)
        said = f"seed {seed}, {server.log}"
        assert [client.complaints for client in clients] == [[]] * CLIENTS, said
        # The history holds more than is published in all: nobody may be told of a gap.
        gaps = sum(heard.gaps for client in clients for heard in client.heard.values())
        assert gaps == 0, said
        acknowledged = [each for client in clients for each in client.acknowledged]
        assert acknowledged
        for client in clients:
            for channel, heard in client.heard.items():
                assert len(set(heard.data)) == len(heard.data), said
                assert {data for c, data in acknowledged if c == channel} <= set(heard.data), said


@contextlib.asynccontextmanager
async def crowd(server: ServerProcess, seed: int) -> AsyncIterator[list[LightClient]]:
    """Clients that hear all channels and come back whenever they are cut."""
    url = f"ws://127.0.0.1:{server.port}/connection/websocket"
    clients = [LightClient(url, CHANNELS, seed + number) for number in range(CLIENTS)]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        await all_hear(clients, "begin")
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def disturb(server: ServerProcess, chance: random.Random) -> None:
    """Kill a worker, the one with the bus or another, or replace them all."""
    match chance.choice(["kill", "kill two", "reload", "upgrade"]):
        case "kill":
            kill(chance.choice(server.worker_pids()))
        case "kill two":
            for pid in chance.sample(server.worker_pids(), 2):
                kill(pid)
        case "reload":
            server.send_signal(signal.SIGHUP)
        case "upgrade":
            server.send_signal(signal.SIGUSR2)


def kill(worker: int) -> None:
    """Kill it, unless it leaves at this very moment: it may after the reload of the last round."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)


async def publish(clients: list[LightClient], number: int) -> None:
    """Publish in all channels while it happens; not all of it will be stored."""
    for step in range(40):
        for place, channel in enumerate(CHANNELS):
            await clients[(step + place) % CLIENTS].publish(channel, f"{number}.{step}")
        await asyncio.sleep(0.01)  # the rate, not a wait


async def all_hear(clients: list[LightClient], last: str) -> None:
    """Publish *last* until it is stored in every channel, and wait until everybody has heard it."""
    async with asyncio.timeout(PATIENCE):
        for channel in CHANNELS:
            attempts = 0
            while not clients[0].has_heard(channel, last):
                await clients[0].publish(channel, f"{last}, {attempts}")
                attempts += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(clients[0].until_like(channel, last), 1)
        await asyncio.gather(
            *(client.until_like(channel, last) for client in clients for channel in CHANNELS)
        )
