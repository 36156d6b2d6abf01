"""What becomes of the promises of `broker.redis` when slots move and servers of a cluster die."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import anyio
import pytest

from lastcall.broker.base import HistoryLimits, StreamPosition
from lastcall.broker.heard_channels import ANSWER_SECONDS
from lastcall.broker.redis import RedisBroker
from lastcall.broker.redis_slots import slot_of
from lastcall.errors import BrokerUnavailable
from tests.conftest import LOOPS
from tests.redis_cluster import Cluster, run_cluster
from tests.redis_process import RedisProcess, needs_redis
from tests.test_broker import Worker, running
from tests.two_workers import away, back, in_thread

pytestmark = [pytest.mark.anyio, needs_redis]

LIMITS = HistoryLimits(size=5000, ttl=600)
CHANNELS = [f"{number}" for number in range(12)]
NEWS = slot_of(b"{news}")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One loop is enough: what differs between loops is tested with one server."""
    return LOOPS["uvloop"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """For tests that leave it whole."""
    with run_cluster() as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def two_workers(cluster: Cluster) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two workers, the second of which hears `news` and others, and the first publishes."""
    prefix = f"p{time.monotonic_ns()}"
    brokers = [RedisBroker(cluster.url, LIMITS, prefix=prefix) for _ in range(2)]
    async with running(*brokers) as (one, other):
        for channel in ("news", *CHANNELS):
            await other.broker.subscribe(channel)
        await one.broker.publish("news", b"0")
        await other.events.count(1)
        yield one, other


def told(worker: Worker, channel: str = "news") -> list[bytes]:
    return [p.data for p in worker.events.delivered if p.channel == channel]


async def test_a_slot_that_moves_under_fire_is_a_pause_and_nothing_else(cluster: Cluster) -> None:
    """With keys and without, to and fro; what waits is done in the order of the calls."""
    source, target = places(cluster)
    async with two_workers(cluster) as (one, other):
        is_moving = True
        published: list[asyncio.Future[StreamPosition]] = []
        with_keys: list[bytes] = []

        async def fire() -> None:
            while is_moving:
                for _ in range(5):
                    published.append(one.broker.publish("news", b"%d" % len(published)))
                await anyio.sleep(0.002)

        async def fire_with_keys() -> None:
            while is_moving:
                key = f"key {len(with_keys)}"
                with_keys.append(key.encode())
                for _ in range(2):
                    await other.broker.publish("news", with_keys[-1], idempotency_key=key)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fire)
            tasks.start_soon(fire_with_keys)
            for a, b in ((source, target), (target, source)) * 2:
                await other.events.count(len(other.events.delivered) + 50)
                await in_thread(partial(cluster.move, NEWS, a, b))
            is_moving = False
        positions = [await each for each in published]
        heard = await other.events.count(1 + len(published) + len(with_keys))

    assert [p.offset for p in other.events.delivered] == list(range(1, len(heard) + 1))
    assert [p.offset for p in positions] == sorted(p.offset for p in positions)
    assert [data for data in heard if data.isdigit()][1:] == [
        b"%d" % number for number in range(len(published))
    ]
    assert [data for data in heard if not data.isdigit()] == with_keys
    assert [one.events.resets, other.events.resets] == [[], []]
    assert [one.events.availability, other.events.availability] == [[True], [True]]


def places(cluster: Cluster) -> tuple[RedisProcess, RedisProcess]:
    """Where the slot of `news` is, and another server."""
    source = cluster.owner(NEWS)
    return source, next(each for each in cluster.masters if each is not source)


async def test_a_move_that_takes_its_time_lets_the_other_channels_be(cluster: Cluster) -> None:
    source, target = places(cluster)
    async with two_workers(cluster) as (one, other):
        with cluster.moving(NEWS, source, target):
            # Its keys are at two places by now, or at neither.
            sent = [one.broker.publish("news", b"%d" % number) for number in range(1, 4)]
            for channel in CHANNELS:
                assert (await one.broker.publish(channel, b"")).offset == 1
        positions = [await each for each in sent]
        await other.events.until(lambda _: len(told(other)) == 4)
        await in_thread(lambda: cluster.move(NEWS, target, source))

    assert [p.offset for p in positions] == [2, 3, 4]
    assert told(other) == [b"0", b"1", b"2", b"3"]


async def test_a_server_that_dies_is_replaced_and_nothing_is_missing_silently() -> None:
    accepted: list[tuple[StreamPosition, bytes]] = []
    with run_cluster(replicas=1) as cluster:
        channel = next(c for c in CHANNELS if cluster.owner(slot(c)) is cluster.masters[0])
        async with two_workers(cluster) as (one, other):

            async def fire(number: int) -> None:
                for count in range(60):
                    data = b"%d/%d" % (number, count)
                    accepted.append((await accepted_by(one, channel, data), data))

            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(fire, number)
                await other.events.count(50)
                await in_thread(cluster.masters[0].kill)
                await away(one, other)
            await back(one, other)
            last = accepted[-1][0]
            await other.events.until(lambda _: accepted[-1][1] in told(other, channel))
            for another in CHANNELS:
                await one.broker.publish(another, b"end")
            await other.events.until(lambda _: all(b"end" in told(other, c) for c in CHANNELS))

    heard = [p for p in other.events.delivered if p.channel == channel]
    for epoch in {p.epoch for p in heard}:
        offsets = [p.offset for p in heard if p.epoch == epoch]
        assert offsets == list(range(1, len(offsets) + 1))
    data = {(p.epoch, p.offset): p.data for p in heard}
    after = [(p, each) for p, each in accepted if p.epoch == last.epoch]
    assert all(data[p.epoch, p.offset] == each for p, each in after)
    assert (channel, StreamPosition(0, last.epoch)) in other.events.resets


def slot(channel: str) -> int:
    return slot_of(b"{%s}" % channel.encode())


async def accepted_by(worker: Worker, channel: str, data: bytes) -> StreamPosition:
    while True:
        try:
            return await worker.broker.publish(channel, data)
        except BrokerUnavailable:
            await anyio.sleep(0.02)


async def test_only_the_channels_of_a_server_that_is_gone_are_gone() -> None:
    """Nobody replaces it: its channels are refused in bounded time, the others go on."""
    with run_cluster() as cluster:
        for server in cluster.masters:
            server.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        lost = cluster.masters[2]
        async with two_workers(cluster) as (one, other):
            await in_thread(lost.kill)
            await away(one, other)
            started = time.monotonic()
            answers = await asyncio.gather(
                *(one.broker.publish(channel, b"1") for channel in CHANNELS),
                return_exceptions=True,
            )
            assert time.monotonic() - started < ANSWER_SECONDS + 2
            fine = [
                c
                for c, answer in zip(CHANNELS, answers, strict=True)
                if not isinstance(answer, BaseException)
            ]
            expected = [c for c in CHANNELS if cluster.owner(slot(c)) is not lost]
            assert fine == expected
            await other.events.until(lambda _: all(told(other, c) == [b"1"] for c in fine))
            assert one.events.availability == [True, False]
            await in_thread(lost.start)
            await back(one, other)
            for channel in CHANNELS:
                await accepted_by(one, channel, b"2")
            await other.events.until(lambda _: all(told(other, c)[-1:] == [b"2"] for c in CHANNELS))

    assert other.events.resets == []


async def test_a_cluster_that_is_taken_for_one_server_says_what_it_is(cluster: Cluster) -> None:
    url = f"redis://127.0.0.1:{cluster.masters[0].port}/0"
    async with running(RedisBroker(url, LIMITS)) as (worker,):
        answers = await asyncio.gather(
            *(worker.broker.publish(c, b"") for c in CHANNELS), return_exceptions=True
        )

    assert any("redis+cluster://" in str(each) for each in answers)
