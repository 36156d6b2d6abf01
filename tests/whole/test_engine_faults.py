"""What clients of two hosts see while Redis is away, slow, full or forgetful; the network is real.

One host reaches Redis by a network that the test can spoil, the other does not notice.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from lastcall.broker.heard_channels import ANSWER_SECONDS
from tests.light_client import LightClient
from tests.network import Network, run_network
from tests.redis_process import RedisProcess, needs_redis, run_redis
from tests.server_process import ServerProcess, run_server
from tests.whole.moving import until

pytestmark = [pytest.mark.anyio, pytest.mark.whole, needs_redis]

KEY = "the key"
CHANNELS = ["kept:news", "short:news"]
BOUND = ANSWER_SECONDS + 3
"""Seconds in which a publication has been refused, on a busy machine."""
SETTINGS: dict[str, Any] = {
    "insecure": True,
    "api_key": KEY,
    "heartbeat_interval": 0,
    "announcements": "false",
    "ping_interval": 600,
    # However short the history of a namespace is, so much is kept for clients that move.
    "history_size": 5,
    "namespaces": json.dumps(
        {
            "kept": {"history_size": 5000, "history_ttl": 600, "force_recovery": True},
            "short": {"history_size": 3, "history_ttl": 600, "force_recovery": True},
            "other": {"history_size": 100, "history_ttl": 600},
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hosts, Redis, and what lies between it and the first of them."""

    redis: RedisProcess
    network: Network
    spoilt: ServerProcess
    other: ServerProcess

    @property
    def both(self) -> tuple[ServerProcess, ServerProcess]:
        return self.spoilt, self.other


@contextlib.contextmanager
def run_pair(*redis_options: str) -> Iterator[Pair]:
    with run_redis(*redis_options) as redis, run_network(redis.port) as network:
        spoilt: dict[str, Any] = SETTINGS | {"broker_url": f"redis://127.0.0.1:{network.port}/0"}
        other: dict[str, Any] = SETTINGS | {"broker_url": redis.url}
        with run_server(workers=2, **spoilt) as one, run_server(workers=2, **other) as two:
            yield Pair(redis, network, one, two)
            assert "Traceback" not in one.log + two.log


@contextlib.asynccontextmanager
async def crowds(pair: Pair, number: int = 4) -> AsyncIterator[tuple[list[LightClient], ...]]:
    """Clients of either host that hear all channels, and have heard a first word."""
    urls = [f"ws://127.0.0.1:{host.port}/connection/websocket" for host in pair.both]
    here, there = ([LightClient(url, CHANNELS, n) for n in range(number)] for url in urls)
    async with contextlib.AsyncExitStack() as stack:
        for client in here + there:
            await stack.enter_async_context(client.running())
        await hear_all(pair.other, here + there, "the first word")
        yield here, there


async def publish(host: ServerProcess, channel: str, data: object) -> dict[str, Any]:
    """What the server API of *host* answers."""
    return await call(host, "publish", {"channel": channel, "data": data})


async def call(host: ServerProcess, method: str, body: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=BOUND + 10) as http:
        url = f"http://127.0.0.1:{host.port}/api/{method}"
        answer = await http.post(url, json=body, headers={"X-API-Key": KEY})
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


async def accepted(host: ServerProcess, channel: str, data: object) -> int:
    """The offset that it got."""
    answer = await publish(host, channel, data)
    assert "result" in answer, answer
    offset: int = answer["result"]["offset"]
    return offset


async def refused(host: ServerProcess, channel: str) -> None:
    """It is not accepted, and the publisher knows that in time."""
    started = time.monotonic()
    answer = await publish(host, channel, "refused")
    assert answer["error"]["code"] == 100, answer
    assert time.monotonic() - started < BOUND


async def hear_all(host: ServerProcess, clients: list[LightClient], word: str) -> None:
    """Say *word* until all have heard it in each channel: at first not all are subscribed."""
    async with asyncio.timeout(30):
        for channel in CHANNELS:
            for count in itertools.count():
                if all(client.has_heard(channel, word) for client in clients):
                    break
                await publish(host, channel, f"{word} {count}")
                await asyncio.sleep(0.1)


async def ready(host: ServerProcess, status: int) -> None:
    await until(lambda: host.health("ready") == status, host)
    assert host.health("live") == 200


def check(clients: list[LightClient]) -> None:
    """Nobody had to come back, nor heard an offset twice, out of order or after a silent gap."""
    assert [client.complaints for client in clients] == [[]] * len(clients)
    assert [client.connects for client in clients] == [1] * len(clients)


def gaps(clients: list[LightClient], channel: str) -> list[int]:
    return [client.heard[channel].gaps for client in clients]


SPOILERS: list[Callable[[Network], None]] = [Network.cut, Network.swallow]


@pytest.mark.parametrize("spoil", SPOILERS, ids=["reset", "half-open"])
async def test_a_host_that_is_cut_off_keeps_its_clients_and_they_miss_nothing(
    spoil: Callable[[Network], None],
) -> None:
    """Or are told: the channel with the short history has forgotten what they missed."""
    with run_pair() as pair:
        async with crowds(pair) as (here, there):
            spoil(pair.network)
            await ready(pair.spoilt, 503)
            await refused(pair.spoilt, CHANNELS[0])
            for number in range(20):
                for channel in CHANNELS:
                    await accepted(pair.other, channel, f"missed {number}")
            assert pair.other.health("ready") == 200
            assert not any(client.has_heard(CHANNELS[0], "missed 0") for client in here)

            pair.network.heal()
            await ready(pair.spoilt, 200)
            await hear_all(pair.spoilt, here + there, "after")
            check(here + there)
            assert gaps(here + there, CHANNELS[0]) == [0] * 8
            for client in here + there:
                heard = [data for data in client.heard[CHANNELS[0]].data if "missed" in data]
                assert heard == [f"missed {number}" for number in range(20)]
            assert gaps(there, CHANNELS[1]) == [0] * 4
            assert gaps(here, CHANNELS[1]) == [1] * 4


async def test_a_slow_redis_is_slow_and_nothing_else() -> None:
    """A second and a half for every answer: in order, whole, and the host stays ready."""
    with run_pair() as pair:
        async with crowds(pair) as (here, there):
            pair.network.delay(1.5)
            publishing = [accepted(pair.spoilt, CHANNELS[0], f"slow {n}") for n in range(10)]
            offsets = await asyncio.gather(*publishing)
            assert len(set(offsets)) == 10
            await hear_all(pair.other, here + there, "after")
            assert pair.spoilt.health("ready") == 200
            check(here + there)
            assert gaps(here + there, CHANNELS[0]) == [0] * 8


async def test_a_redis_that_is_too_slow_is_away() -> None:
    """More than anybody waits for an answer: publishers are refused in time, clients stay."""
    with run_pair() as pair:
        async with crowds(pair) as (here, there):
            pair.network.delay(ANSWER_SECONDS + 2)
            await refused(pair.spoilt, "other:news")
            await ready(pair.spoilt, 503)
            pair.network.heal()
            await ready(pair.spoilt, 200)
            await hear_all(pair.spoilt, here + there, "after")
            check(here + there)
            assert gaps(here + there, CHANNELS[0]) == [0] * 8


async def test_a_password_that_changes_is_told_and_clients_stay() -> None:
    with run_pair() as pair:
        async with crowds(pair) as (here, there):
            assert await set_password(pair.redis, "new") == "+OK"
            pair.network.cut()
            pair.network.heal()
            await ready(pair.spoilt, 503)
            await refused(pair.spoilt, CHANNELS[0])
            assert "Authentication required" in pair.spoilt.log
            for number in range(5):
                await accepted(pair.other, CHANNELS[0], f"missed {number}")
            assert await set_password(pair.redis, "", old="new") == "+OK"
            await ready(pair.spoilt, 200)
            await hear_all(pair.spoilt, here + there, "after")
            check(here + there)
            assert gaps(here + there, CHANNELS[0]) == [0] * 8


async def set_password(redis: RedisProcess, new: str, *, old: str = "") -> str:
    command = ("CONFIG", "SET", "requirepass", new)
    return await asyncio.to_thread(lambda: redis.ask(*command, password=old))


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
async def test_clients_are_told_that_everything_was_lost(command: str) -> None:
    """And the connections between the hosts live on: both hear what is published afterwards."""
    with run_pair() as pair:
        async with crowds(pair) as (here, there):
            assert await asyncio.to_thread(pair.redis.ask, command) == "+OK"
            await hear_all(pair.spoilt, here + there, "after")
            check(here + there)
            for channel in CHANNELS:
                assert gaps(here + there, channel) == [1] * 8
            assert [host.health("ready") for host in pair.both] == [200, 200]


async def test_what_redis_evicts_is_a_gap_that_is_told() -> None:
    """Really full, with a policy that takes keys which are in use, and has taken theirs."""
    with run_pair("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru") as pair:
        async with crowds(pair) as (here, there):
            head = "lastcall:{kept:news}:head"
            await fill(pair, lambda: pair.redis.ask("EXISTS", head) == ":0")
            assert pair.redis.info("evicted_keys") > 0
            await hear_all(pair.other, here + there, "after")
            check(here + there)
            assert gaps(here + there, CHANNELS[0]) == [1] * 8


async def test_a_full_redis_refuses_and_nothing_is_half_done() -> None:
    """Really full: what was accepted is heard, gapless; then there is room, and it goes on."""
    with run_pair("--maxmemory", "6mb", "--maxmemory-policy", "noeviction") as pair:
        async with crowds(pair) as (here, there):
            before = await accepted(pair.other, CHANNELS[0], "before")
            await fill(pair, lambda: "OOM" in pair.redis.ask("SET", "one", "more"))
            for host in pair.both:
                assert (await publish(host, CHANNELS[0], "refused"))["error"]["code"] == 100
                assert host.health("ready") == 200
            await asyncio.to_thread(pair.redis.ask, "CONFIG", "SET", "maxmemory", "0")
            assert await accepted(pair.spoilt, CHANNELS[0], "next") == before + 1
            await hear_all(pair.other, here + there, "after")
            check(here + there)
            assert gaps(here + there, CHANNELS[0]) == [0] * 8
            assert not any(client.has_heard(CHANNELS[0], "refused") for client in here + there)


async def fill(pair: Pair, is_enough: Callable[[], bool]) -> None:
    """Publish a lot, to channels that nobody hears, until it is enough."""
    data = "x" * 10_000
    for number in range(200):
        channels = [f"other:{number}-{n}" for n in range(20)]
        await call(pair.other, "broadcast", {"channels": channels, "data": data})
        if await asyncio.to_thread(is_enough):
            return
    raise AssertionError("it is not full")
