"""Deploys over three hosts with two workers each, behind nginx, on one Redis."""

import asyncio
import contextlib
import itertools
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from lastcall.drain_report import DrainReport
from tests.clients import clients
from tests.light_client import LightClient
from tests.proxy import run_nginx_for_hosts
from tests.redis_process import needs_redis, run_redis
from tests.server_process import ServerProcess, free_port, run_server
from tests.stream_client import stream_works
from tests.whole.moving import clients_of, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.whole,
    needs_redis,
    pytest.mark.skipif(not shutil.which("nginx"), reason="no nginx here"),
]

HOSTS = 3
SERVE = (sys.executable, "-m", "lastcall", "serve", "main:app")
CHANNELS = [f"kept:{number}" for number in range(4)]
SETTINGS: dict[str, Any] = {
    "command": SERVE,
    "workers": 2,
    "insecure": True,
    "heartbeat_interval": 0,
    "announcements": "false",
    "ping_interval": 600,
    "log_format": "json",
    "shutdown_timeout": 60,
    "namespaces": json.dumps(
        {"kept": {"history_size": 5000, "history_ttl": 600, "force_recovery": True}}
    ),
}


@dataclass(slots=True)
class Fleet:
    """The hosts, and the one address that clients know."""

    stack: contextlib.ExitStack
    settings: dict[str, Any]
    ports: list[int]
    port: int
    hosts: list[ServerProcess] = field(default_factory=list)

    def start(self, place: int) -> None:
        """Have a new server at *place*, with directories of its own."""
        server = run_server(port=self.ports[place], **self.settings)
        self.hosts[place : place + 1] = [self.stack.enter_context(server)]

    @property
    def logs(self) -> str:
        """What all that serve now have written."""
        return "\n".join(host.log for host in self.hosts)


@contextlib.contextmanager
def run_fleet(directory: Path, **settings: Any) -> Iterator[Fleet]:
    with run_redis() as redis, contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(HOSTS)]
        port = stack.enter_context(run_nginx_for_hosts(directory, ports))
        fleet = Fleet(stack, SETTINGS | settings | {"broker_url": redis.url}, ports, port)
        for place in range(HOSTS):
            fleet.start(place)
        yield fleet


@contextlib.asynccontextmanager
async def crowd_of(fleet: Fleet, number: int) -> AsyncIterator[list[LightClient]]:
    """Clients that come back by themselves; all of them hear all channels."""
    url = f"ws://127.0.0.1:{fleet.port}/connection/websocket"
    crowd = [LightClient(url, CHANNELS, seed) for seed in range(number)]
    async with contextlib.AsyncExitStack() as stack:
        for client in crowd:
            await stack.enter_async_context(client.running())
        yield crowd


@contextlib.asynccontextmanager
async def talk(crowd: list[LightClient]) -> AsyncIterator[None]:
    """Somebody of *crowd* says something all the time; in the end all have heard the last word."""

    async def say() -> None:
        for count in itertools.count():
            client, channel = crowd[count % len(crowd)], CHANNELS[count % len(CHANNELS)]
            await client.publish(channel, f"number {count}")
            await asyncio.sleep(0.03)

    talking = asyncio.create_task(say())
    try:
        yield
    finally:
        talking.cancel()
    await all_hear(crowd, "the last word")


@contextlib.asynccontextmanager
async def monitored(fleet: Fleet) -> AsyncIterator[None]:
    """Somebody asks through nginx how the server is, all the time.

    What it had taken for dead it takes for alive again when a request is over, and connections of
    clients are over late.
    """

    async def ask() -> None:
        async with httpx.AsyncClient() as http:
            while True:
                await http.get(f"http://127.0.0.1:{fleet.port}/health/ready")
                await asyncio.sleep(0.2)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def is_known(fleet: Fleet, place: int) -> None:
    """Return when nginx has found out that there is a new host: it looks every other second."""
    async with asyncio.timeout(30):
        while True:
            async with clients(f"ws://127.0.0.1:{fleet.port}/ws", 1):
                await asyncio.sleep(0.1)  # asked ten times a second
                if held(fleet.hosts[place]):
                    return


async def all_hear(crowd: list[LightClient], word: str) -> None:
    """Say *word* until all have heard it in each channel."""
    async with asyncio.timeout(60):
        for channel in CHANNELS:
            count = 0
            while not all(client.has_heard(channel, word) for client in crowd):
                await crowd[count % len(crowd)].publish(channel, f"{word}, {channel}, {count}")
                count += 1
                await asyncio.sleep(0.1)


def check(crowd: list[LightClient], logs: str) -> None:
    """Nobody was told of a gap, or has heard anything else than each offset once and in order."""
    assert [client.complaints for client in crowd] == [[]] * len(crowd), logs
    assert sum(heard.gaps for client in crowd for heard in client.heard.values()) == 0
    # When the talk began, all had subscribed; the first words were for finding that out.
    acknowledged = [
        (channel, data)
        for client in crowd
        for channel, data in client.acknowledged
        if data.startswith("number")
    ]
    assert len(acknowledged) > 50
    for client in crowd:
        for channel, heard in client.heard.items():
            assert {data for c, data in acknowledged if c == channel} <= set(heard.data)


def reports(host: ServerProcess) -> list[DrainReport]:
    """What the workers of *host* did to their clients when they left."""
    lines = [json.loads(line) for line in host.log.splitlines() if line.startswith("{")]
    return [
        msgspec.convert(line["report"], DrainReport)
        for line in lines
        if line.get("event") == "drain_finished"
    ]


def held(host: ServerProcess) -> int:
    """How many connections *host* says it has."""
    return sum(clients_of(host).values())


async def test_rolling_restart_loses_nothing_and_floods_nobody(tmp_path: Path) -> None:
    """One host after the other leaves, at the pace, and a new one comes in its place."""
    number, rate = 60, 10
    with run_fleet(tmp_path, release_rate=rate) as fleet:
        async with crowd_of(fleet, number) as crowd:
            await all_hear(crowd, "the first word")
            async with talk(crowd), monitored(fleet):
                for place in range(HOSTS):
                    old = fleet.hosts[place]
                    had = held(old)
                    old.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(old.wait, 60) == 0
                    left = reports(old)
                    assert sum(each.released for each in left) >= had > 0
                    assert sum(each.cut + each.closed for each in left) == 0
                    assert sum(each.peak_reconnects for each in left) <= 1.5 * rate
                    await asyncio.to_thread(fleet.start, place)
                    await is_known(fleet, place)
                    await until(
                        lambda: sum(held(host) for host in fleet.hosts) == number, fleet.hosts[0]
                    )
                    # Who came back was spread over those that are there: none has more than its
                    # part of two, although the last one is always new and empty.
                    assert max(held(host) for host in fleet.hosts) <= number * 2 / 3
        check(crowd, fleet.logs)


async def test_hosts_that_leave_together_share_one_pace(tmp_path: Path) -> None:
    """Two of three at once are to the third what one would be."""
    number, rate = 90, 20
    with run_fleet(tmp_path, release_rate=rate) as fleet:
        async with crowd_of(fleet, number) as crowd:
            await all_hear(crowd, "the first word")
            leaving, staying = fleet.hosts[:2], fleet.hosts[2]
            clients_leaving = sum(map(held, leaving))
            async with talk(crowd):
                for host in leaving:
                    host.send_signal(signal.SIGTERM)
                for host in leaving:
                    assert await asyncio.to_thread(host.wait, 60) == 0
                await until(lambda: held(staying) == number, staying)
        check(crowd, fleet.logs)
        left = [each for host in leaving for each in reports(host)]
        assert len(left) == 4
        assert sum(each.released for each in left) >= clients_leaving > number / 3
        assert sum(each.peak_reconnects for each in left) <= 1.5 * rate


async def test_nobody_is_sent_away_while_a_host_that_leaves_has_clients(tmp_path: Path) -> None:
    """A plain client may stay for half an hour; the others must not notice it for as long."""
    with run_fleet(tmp_path) as fleet:
        leaving = fleet.hosts[0]
        async with clients(leaving.websocket_url, 1):
            leaving.send_signal(signal.SIGTERM)
            await until(leaving.refuses, leaving)
            for _ in range(2 * HOSTS):
                async with crowd_of(fleet, 1) as (client,), asyncio.timeout(10):
                    while not client.connects:  # noqa: ASYNC110  (what it hears is its own)
                        await asyncio.sleep(0.01)
                assert client.attempts == 1
                await stream_works(fleet.port)
