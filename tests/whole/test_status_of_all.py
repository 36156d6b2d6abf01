"""`lastcall status --all`: two hosts with two workers each, on one Redis."""

import asyncio
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cent import Client as Api
from cent import InfoRequest

from tests.clients import clients
from tests.redis_process import RedisProcess, needs_redis, run_redis
from tests.server_process import ROOT, ServerProcess, run_server

pytestmark = [pytest.mark.anyio, pytest.mark.whole, needs_redis]

KEY = "the key"
SETTINGS: dict[str, Any] = {
    # Its master leaves a worker alone that hangs for a moment.
    "command": (sys.executable, "-m", "lastcall", "serve", "main:app"),
    "insecure": True,
    "api_key": KEY,
    "heartbeat_interval": 0,
    "announcements": "false",
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with run_redis() as redis:
        yield redis


@contextmanager
def run_hosts(redis: RedisProcess, **more: object) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    settings: dict[str, Any] = SETTINGS | {"broker_url": redis.url, **more}
    with run_server(workers=2, **settings) as one, run_server(workers=2, **settings) as other:
        yield one, other


async def test_one_command_shows_the_workers_of_both_hosts(redis: RedisProcess) -> None:
    with run_hosts(redis) as hosts:
        await check_both(hosts, redis)


async def check_both(hosts: tuple[ServerProcess, ServerProcess], redis: RedisProcess) -> None:
    async with clients(hosts[0].websocket_url, 3), clients(hosts[1].websocket_url, 2):
        ended = await asyncio.to_thread(status_of_all, redis.url, "--json")
        found = json.loads(ended.stdout)
        pids = {pid for host in hosts for pid in host.worker_pids()}
        workers = [worker for server in found["servers"] for worker in server["workers"]]
        assert {server["master"] for server in found["servers"]} == {
            host.process.pid for host in hosts
        }
        assert {worker["pid"] for worker in workers} == pids
        assert {worker["state"] for worker in workers} == {"ready"}
        assert sum(worker["connections"] for worker in workers) == 5
        assert all(10_000_000 < worker["pss"] <= worker["rss"] for worker in workers)
        assert found["silent"] == []

        text = (await asyncio.to_thread(status_of_all, redis.url)).stdout
        assert f"master {hosts[0].process.pid} on {platform.node()}" in text
        assert text.endswith("hosts: 1, servers: 2, workers: 4, connections: 5\n")
    # Who asked was nobody's neighbour.
    with Api(f"http://127.0.0.1:{hosts[0].port}/api", KEY) as api:
        assert len((await asyncio.to_thread(api.info, InfoRequest())).nodes) == 4


async def test_a_worker_that_hangs_is_named_by_the_others(redis: RedisProcess) -> None:
    with run_hosts(redis, broker_prefix="hanging") as (one, other):
        hanging = one.worker_pids()[0]
        os.kill(hanging, signal.SIGSTOP)
        try:
            ended = await asyncio.to_thread(status_of_all, redis.url, prefix="hanging")
        finally:
            os.kill(hanging, signal.SIGCONT)
        assert re.search(rf"^no answer from \w+/{hanging}$", ended.stdout, re.MULTILINE)
        assert all(str(pid) in ended.stdout for pid in other.worker_pids())
        assert "servers: 2, workers: 3" in ended.stdout


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("", 3, "lastcall: LASTCALL_BROKER_URL names nothing that several hosts could share"),
        ("redis://127.0.0.1:1/0", 1, "lastcall: the broker cannot be reached"),
    ],
)
def test_without_a_broker_nobody_can_be_asked(url: str, status: int, said: str) -> None:
    ended = status_of_all(url)

    assert ended.returncode == status
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_nobody_there_is_said(redis: RedisProcess) -> None:
    ended = status_of_all(redis.url, prefix="deserted")

    assert (ended.returncode, ended.stderr) == (1, "")
    assert "workers: 0" in ended.stdout


def status_of_all(
    url: str, *options: str, prefix: str = "lastcall"
) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTCALL_")}
    return subprocess.run(
        [sys.executable, "-m", "lastcall", "status", "--all", *options],
        cwd=ROOT,
        env=clean | {"LASTCALL_BROKER_URL": url, "LASTCALL_BROKER_PREFIX": prefix},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
