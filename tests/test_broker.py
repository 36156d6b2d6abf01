"""What every broker promises; run by each of them, alone and with several workers on one log."""

import asyncio
import contextlib
import gc
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from lastcall.broker.base import (
    Broker,
    HistoryLimits,
    Kind,
    Publication,
    StreamPosition,
    not_owed,
)
from lastcall.broker.memory import MemoryBroker
from lastcall.broker.nats import NatsBroker
from lastcall.broker.redis import RedisBroker
from lastcall.broker.unix_socket import UnixSocketBroker
from lastcall.errors import BrokerUnavailable, UnrecoverablePosition
from tests.nats_process import NatsProcess, needs_nats, run_nats
from tests.redis_cluster import Cluster, run_cluster
from tests.redis_process import RedisProcess, needs_redis, run_redis
from tests.redis_sentinels import Sentinels, run_sentinels

pytestmark = pytest.mark.anyio

LIMITS = HistoryLimits(size=200, ttl=60)


@dataclass
class ManualClock:
    """A clock that tests move."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class RecordingEvents:
    """A hub that writes down what a broker tells it."""

    delivered: list[Publication] = field(default_factory=list)
    resets: list[tuple[str, StreamPosition]] = field(default_factory=list)
    availability: list[bool] = field(default_factory=list)
    news: anyio.Event = field(default_factory=anyio.Event)

    def deliver(self, publication: Publication, /) -> None:
        self.delivered.append(publication)
        self.news.set()

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        self.resets.append((channel, position))
        self.news.set()

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (the seam has it so)
        self.availability.append(yes)
        self.news.set()

    async def until(self, reached: Callable[["RecordingEvents"], bool]) -> None:
        with anyio.fail_after(10):
            while not reached(self):
                self.news = anyio.Event()
                await self.news.wait()

    async def count(self, number: int) -> list[bytes]:
        """Wait for *number* publications; their data."""
        await self.until(lambda events: len(events.delivered) >= number)
        return [p.data for p in self.delivered]


@dataclass
class Worker:
    """One broker that runs, and what it told its hub."""

    broker: Broker
    events: RecordingEvents


@asynccontextmanager
async def running(*brokers: Broker) -> AsyncIterator[list[Worker]]:
    """Run *brokers*; all of them have to end within seconds."""
    workers = [Worker(broker, RecordingEvents()) for broker in brokers]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                await tasks.start(worker.broker.run, worker.events)
            yield workers
            tasks.cancel_scope.cancel()


class Harness:
    """Makes the brokers of one kind; a new kind is a subclass and a line in `HARNESSES`."""

    def __init__(self) -> None:
        self.clock = ManualClock()

    def start(
        self, workers: int, limits: HistoryLimits = LIMITS
    ) -> AbstractAsyncContextManager[list[Worker]]:
        raise NotImplementedError


class MemoryHarness(Harness):
    """One worker, nothing beside it."""

    def start(
        self, workers: int, limits: HistoryLimits = LIMITS
    ) -> AbstractAsyncContextManager[list[Worker]]:
        assert workers == 1
        return running(MemoryBroker(limits, clock=self.clock))


class UnixSocketHarness(Harness):
    """Workers that share a run directory; here all in this process."""

    @asynccontextmanager
    async def start(
        self, workers: int, limits: HistoryLimits = LIMITS
    ) -> AsyncIterator[list[Worker]]:
        # Not pytest's directory: its path may be too long for a socket.
        with TemporaryDirectory(prefix="lc") as directory:
            run_dir, state_dir = anyio.Path(directory, "run"), Path(directory, "state")
            await run_dir.mkdir()
            brokers = [
                UnixSocketBroker(Path(run_dir), state_dir, limits, clock=self.clock)
                for _ in range(workers)
            ]
            async with running(*brokers) as started:
                yield started
            assert [path async for path in run_dir.iterdir()] == []


class EngineHarness(Harness):
    """Workers on a real server that this file's tests share, each test with a prefix of its own."""

    broker: type[RedisBroker | NatsBroker]
    server: RedisProcess | Sentinels | Cluster | NatsProcess

    @asynccontextmanager
    async def start(
        self, workers: int, limits: HistoryLimits = LIMITS
    ) -> AsyncIterator[list[Worker]]:
        prefix = secrets.token_hex(4)
        brokers = [
            self.broker(self.server.url, limits, prefix=prefix, clock=self.clock)
            for _ in range(workers)
        ]
        async with running(*brokers) as started:
            yield started


class RedisHarness(EngineHarness):
    """One Redis."""

    broker = RedisBroker


class SentinelHarness(RedisHarness):
    """The same, but for where the Redis is."""


class ClusterHarness(RedisHarness):
    """The same, with each channel on one of three servers."""


class OldClusterHarness(RedisHarness):
    """The same on servers that know no pub/sub by slots."""


class NatsHarness(EngineHarness):
    """One NATS."""

    broker = NatsBroker


HARNESSES: dict[str, tuple[type[Harness], int]] = {
    "memory": (MemoryHarness, 1),
    "unix_socket, one worker": (UnixSocketHarness, 1),
    "unix_socket, three workers": (UnixSocketHarness, 3),
    "redis, one worker": (RedisHarness, 1),
    "redis, three workers": (RedisHarness, 3),
    "redis by sentinels, two workers": (SentinelHarness, 2),
    "redis cluster, two workers": (ClusterHarness, 2),
    "old redis cluster, two workers": (OldClusterHarness, 2),
    "nats, one worker": (NatsHarness, 1),
    "nats, three workers": (NatsHarness, 3),
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with run_redis() as server:
        yield server


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with run_sentinels() as servers:
        yield servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with run_cluster() as servers:
        yield servers


@pytest.fixture(scope="module")
def old_cluster() -> Iterator[Cluster]:
    with run_cluster(without=("SPUBLISH", "SSUBSCRIBE")) as servers:
        yield servers


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsProcess]:
    with run_nats() as server:
        yield server


SERVERS: dict[type[Harness], tuple[str, Any]] = {
    RedisHarness: ("redis", needs_redis),
    SentinelHarness: ("sentinels", needs_redis),
    ClusterHarness: ("cluster", needs_redis),
    OldClusterHarness: ("old_cluster", needs_redis),
    NatsHarness: ("nats", needs_nats),
}
"""What each kind needs beside it: the name of a fixture, and a mark."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=SERVERS[kind][1] if kind in SERVERS else ())
        for name, (kind, _) in HARNESSES.items()
    ]
)
def harness(request: pytest.FixtureRequest) -> tuple[Harness, int]:
    kind, workers = HARNESSES[request.param]
    harness = kind()
    if isinstance(harness, EngineHarness):
        harness.server = request.getfixturevalue(SERVERS[kind][0])
    return harness, workers


async def test_all_subscribers_get_a_channel_in_one_order(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        starts = [await worker.broker.subscribe("news") for worker in workers]
        results = [
            worker.broker.publish("news", b"%d/%d" % (n, i))
            for n in range(20)
            for i, worker in enumerate(workers)
        ]
        positions = [await result for result in results]
        total = len(results)
        orders = [await worker.events.count(total) for worker in workers]

    assert all(start == StreamPosition(0, starts[0].epoch) for start in starts)
    assert all(order == orders[0] for order in orders)
    assert sorted(p.offset for p in positions) == list(range(1, total + 1))
    for worker in workers:
        assert [p.offset for p in worker.events.delivered] == list(range(1, total + 1))
        assert worker.events.resets == []
    for n, position in enumerate(positions):
        own = b"%d/%d" % (n // number, n % number)
        assert orders[0][position.offset - 1] == own
    for i in range(number):
        mine = [d for d in orders[0] if d.endswith(b"/%d" % i)]
        assert mine == [b"%d/%d" % (n, i) for n in range(20)]


async def test_a_publication_arrives_as_it_was_sent(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        for worker in workers:
            await worker.broker.subscribe("smörgås")
        position = await workers[0].broker.publish("smörgås", b"\x00\xff", kind=Kind.BINARY)
        expected = Publication("smörgås", b"\x00\xff", 1, position.epoch, kind=Kind.BINARY)
        for worker in workers:
            await worker.events.count(1)
            assert worker.events.delivered == [expected]


async def test_channels_do_not_mix(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        first, last = workers[0], workers[-1]
        await last.broker.subscribe("b")
        await first.broker.publish("a", b"1")
        position = await first.broker.publish("b", b"2")

        assert position.offset == 1
        assert await last.events.count(1) == [b"2"]


async def test_what_follows_the_position_of_subscribe_is_delivered(
    harness: tuple[Harness, int],
) -> None:
    """A subscriber that comes in the middle of a burst sees all of the rest of it."""
    kind, number = harness
    async with kind.start(number) as workers:
        first, last = workers[0], workers[-1]
        results = []
        position = None
        for n in range(100):
            results.append(first.broker.publish("news", b"%d" % n))
            if n == 50:
                position = await last.broker.subscribe("news")
            await anyio.lowlevel.checkpoint()
        for result in results:
            await result
        assert position
        await last.events.count(100 - position.offset)

        assert [p.offset for p in last.events.delivered] == list(range(position.offset + 1, 101))


async def test_subscribing_twice_is_once(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        last = workers[-1]
        before = await last.broker.subscribe("news")
        await workers[0].broker.publish("news", b"1")
        await last.events.count(1)
        again = await last.broker.subscribe("news")
        await workers[0].broker.publish("news", b"2")
        await last.events.count(2)

        assert again == StreamPosition(1, before.epoch)
        assert [p.data for p in last.events.delivered] == [b"1", b"2"]


async def test_unsubscribed_channels_are_silent(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        last = workers[-1]
        await last.broker.subscribe("a")
        await last.broker.subscribe("b")
        last.broker.unsubscribe("a")
        last.broker.unsubscribe("never subscribed")
        await workers[0].broker.publish("a", b"unheard")
        await workers[0].broker.publish("b", b"heard")
        assert await last.events.count(1) == [b"heard"]

        assert (await last.broker.subscribe("a")).offset == 1
        await workers[0].broker.publish("a", b"heard again")
        assert await last.events.count(2) == [b"heard", b"heard again"]


async def test_history_is_read_from_a_position(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        positions = [await workers[0].broker.publish("news", b"%d" % n) for n in range(5)]
        broker = workers[-1].broker

        everything = await broker.history("news")
        assert [p.data for p in everything.publications] == [b"0", b"1", b"2", b"3", b"4"]
        assert everything.top == positions[-1]
        some = await broker.history("news", since=positions[1], limit=2)
        assert [p.data for p in some.publications] == [b"2", b"3"]
        assert some.top == positions[-1]
        assert list((await broker.history("news", since=positions[-1])).publications) == []
        assert list((await broker.history("news", limit=0)).publications) == []
        assert list((await broker.history("nobody published")).publications) == []


async def test_history_says_when_it_does_not_reach_back(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number, HistoryLimits(size=2, ttl=60)) as workers:
        positions = [await workers[0].broker.publish("news", b"%d" % n) for n in range(4)]
        broker = workers[-1].broker

        kept = await broker.history("news", since=positions[1])
        assert [p.data for p in kept.publications] == [b"2", b"3"]
        for lost in (positions[0], StreamPosition(3, "another"), StreamPosition(9, kept.top.epoch)):
            with pytest.raises(UnrecoverablePosition):
                await broker.history("news", since=lost)


async def test_history_ends_with_its_time(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number, HistoryLimits(size=100, ttl=10)) as workers:
        broker = workers[-1].broker
        first = await broker.publish("news", b"old")
        kind.clock.now += 6
        second = await broker.publish("news", b"new")
        kind.clock.now += 6

        assert [p.data for p in (await broker.history("news")).publications] == [b"new"]
        kind.clock.now += 6
        assert await broker.history("news", since=second) == await broker.history("news")
        with pytest.raises(UnrecoverablePosition):
            await broker.history("news", since=first)
        assert (await broker.publish("news", b"newer")).offset == 3


async def test_a_key_publishes_once(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        first, last = workers[0], workers[-1]
        await last.broker.subscribe("news")
        at_once = [first.broker.publish("news", b"1", idempotency_key="k") for _ in range(2)]
        same = [await result for result in at_once]
        same.append(await last.broker.publish("news", b"1", idempotency_key="k"))
        other = await last.broker.publish("other", b"1", idempotency_key="k")
        kind.clock.now += 300
        later = await last.broker.publish("news", b"2", idempotency_key="k")
        await last.events.count(2)

        assert same == [StreamPosition(1, same[0].epoch)] * 3
        assert other.offset == 1
        assert later.offset == 2
        assert [p.data for p in last.events.delivered] == [b"1", b"2"]


async def test_cleared_channel_goes_on_where_it_was(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        first, last = workers[0].broker, workers[-1]
        await last.broker.subscribe("news")
        old = [await first.publish("news", b"%d" % n) for n in range(3)][-1]
        other = await first.publish("other", b"kept")
        await last.broker.clear("news")
        await last.broker.clear("nobody published")

        for worker in workers:
            gone = await worker.broker.history("news")
            assert (list(gone.publications), gone.top) == ([], old)
        with pytest.raises(UnrecoverablePosition):
            await first.history("news", since=StreamPosition(2, old.epoch))
        new = await first.publish("news", b"new")
        assert new == StreamPosition(4, old.epoch)
        assert await last.events.count(4) == [b"0", b"1", b"2", b"new"]
        assert last.events.resets == []
        since = await last.broker.history("news", since=old)
        assert [p.data for p in since.publications] == [b"new"]
        assert (await first.history("other")).top == other
        assert len((await first.history("other")).publications) == 1


async def test_a_broker_that_does_not_run_says_so(harness: tuple[Harness, int]) -> None:
    kind, number = harness
    async with kind.start(number) as workers:
        broker = workers[-1].broker
        assert workers[-1].events.availability[-1:] == [True]

    with pytest.raises(BrokerUnavailable):
        await broker.publish("news", b"")
    with pytest.raises(BrokerUnavailable):
        await broker.subscribe("news")
    with pytest.raises(BrokerUnavailable):
        await broker.history("news")
    with pytest.raises(BrokerUnavailable):
        await broker.clear("news")
    with contextlib.suppress(BrokerUnavailable):
        broker.unsubscribe("news")


async def test_the_failure_of_what_nobody_is_owed_is_no_error() -> None:
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    for is_cancelled in (True, False):
        future: asyncio.Future[StreamPosition] = loop.create_future()
        future.add_done_callback(not_owed)
        if is_cancelled:
            future.cancel()
        else:
            future.set_exception(BrokerUnavailable("away"))
        await anyio.lowlevel.checkpoint()
    del future
    gc.collect()

    assert complaints == []
