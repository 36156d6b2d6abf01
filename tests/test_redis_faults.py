"""What becomes of the promises of `broker.redis` while Redis is away, silent, slow or forgetful."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from lastcall.broker.base import HistoryLimits, StreamPosition, not_owed
from lastcall.broker.heard_channels import ANSWER_SECONDS, PAGE
from lastcall.broker.redis import RedisBroker
from lastcall.broker.redis_streams import MAX_DATA
from lastcall.errors import BrokerUnavailable, SettingsError, UnrecoverablePosition
from tests.certificates import make_certificate
from tests.redis_process import RedisProcess, needs_redis, run_redis
from tests.server_process import free_port
from tests.test_broker import Worker, running
from tests.two_workers import away, back, in_thread, publish_until_accepted, refused, two_workers_by

pytestmark = [pytest.mark.anyio, needs_redis]

LIMITS = HistoryLimits(size=5000, ttl=600)


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with run_redis() as server:
        yield server


@asynccontextmanager
async def two_workers(
    redis: RedisProcess, limits: HistoryLimits = LIMITS
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two workers, the second of which hears `news`, up to where the first published."""
    one, other = (RedisBroker(redis.url, limits) for _ in range(2))
    async with two_workers_by(one, other) as both:
        yield both


async def test_killed_redis_fails_publications_in_bounded_time_and_comes_back(
    redis: RedisProcess,
) -> None:
    async with two_workers(redis) as (one, other):
        await in_thread(redis.kill)
        await away(one, other)
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for call in (one.broker.subscribe, one.broker.history, one.broker.clear):
                tasks.start_soon(refused, call)
            with pytest.raises(BrokerUnavailable, match="Redis"):
                await one.broker.publish("news", b"lost")
        assert time.monotonic() - started < ANSWER_SECONDS + 2

        await in_thread(redis.start)
        await back(one, other)
        position = await one.broker.publish("news", b"1")
        heard = await other.events.count(2)

    assert heard == [b"0", b"1"]
    assert position.offset == 2
    assert other.events.resets == []


async def test_what_was_accepted_under_fire_is_heard_once_and_in_order(
    redis: RedisProcess,
) -> None:
    accepted: dict[int, bytes] = {}
    async with two_workers(redis) as (one, other):

        async def fire(number: int) -> None:
            for count in range(60):
                data = b"%d/%d" % (number, count)
                position = await publish_until_accepted(one, data)
                accepted[position.offset] = data

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(fire, number)
            for _ in range(2):
                await other.events.count(len(other.events.delivered) + 20)
                await in_thread(redis.kill)
                await in_thread(redis.start)
        top = max(accepted)
        await other.events.until(lambda events: events.delivered[-1].offset >= top)

    assert [p.offset for p in other.events.delivered] == list(range(1, top + 1))
    by_offset = {p.offset: p.data for p in other.events.delivered}
    assert all(by_offset[offset] == data for offset, data in accepted.items())
    assert other.events.resets == []


async def test_a_silent_redis_is_noticed_and_nothing_is_lost_of_what_it_accepted(
    redis: RedisProcess,
) -> None:
    async with two_workers(redis) as (one, other):
        redis.pause()
        try:
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await one.broker.publish("news", b"maybe")
            assert time.monotonic() - started < ANSWER_SECONDS + 2
            await away(one, other)
        finally:
            redis.resume()
        await back(one, other)
        await one.broker.publish("news", b"sure")
        await other.events.until(lambda events: events.delivered[-1].data == b"sure")

    offsets = [p.offset for p in other.events.delivered]
    assert offsets == list(range(1, len(offsets) + 1))
    assert other.events.resets == []


async def test_a_worker_that_was_cut_off_hears_what_it_missed(redis: RedisProcess) -> None:
    """Its connection that hears is killed again and again; the other worker publishes on."""
    async with two_workers(redis) as (one, other):
        for number in range(30):
            await one.broker.publish("news", b"%d" % number)
            if number % 10 == 5:
                await in_thread(lambda: redis.ask("CLIENT", "KILL", "TYPE", "pubsub"))
        heard = await other.events.count(31)

    assert heard == [b"0", *(b"%d" % number for number in range(30))]
    assert other.events.resets == []


async def test_more_than_a_page_is_missed_and_read(redis: RedisProcess) -> None:
    async with two_workers(redis) as (one, other):
        await in_thread(lambda: redis.ask("CLIENT", "KILL", "TYPE", "pubsub"))
        number = 2 * PAGE + 10
        await asyncio.gather(*(one.broker.publish("news", b"%d" % n) for n in range(number)))
        heard = await other.events.count(number + 1)
        history = await one.broker.history("news")
        some = await one.broker.history("news", StreamPosition(1, history.top.epoch), PAGE + 5)

    assert heard == [b"0", *(b"%d" % n for n in range(number))]
    assert len(history.publications) == number + 1
    assert [p.offset for p in some.publications] == list(range(2, PAGE + 7))


async def test_what_the_history_does_not_have_any_more_is_a_reset(redis: RedisProcess) -> None:
    async with two_workers(redis, HistoryLimits(size=3, ttl=600)) as (one, other):
        await in_thread(redis.kill)
        await away(other)
        await in_thread(redis.start)
        await back(one, other)
        await in_thread(lambda: redis.ask("CLIENT", "KILL", "TYPE", "pubsub"))
        last = StreamPosition(0, "")
        for number in range(20):
            last = await one.broker.publish("news", b"%d" % number)
        await other.events.until(lambda events: events.delivered[-1].offset == last.offset)

    told = [p.offset for p in other.events.delivered]
    assert told == sorted(set(told))
    missing = set(range(1, last.offset + 1)) - set(told)
    assert bool(missing) == bool(other.events.resets)


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
async def test_data_that_was_lost_is_a_new_epoch(redis: RedisProcess, command: str) -> None:
    async with two_workers(redis) as (one, other):
        before = await one.broker.publish("news", b"1")
        await other.events.count(2)
        await in_thread(lambda: redis.ask(command))
        after = await one.broker.publish("news", b"2")
        await other.events.count(3)
        with pytest.raises(UnrecoverablePosition):
            await one.broker.history("news", since=before)

    assert after.offset == 1
    assert after.epoch != before.epoch
    assert other.events.resets == [("news", StreamPosition(0, after.epoch))]
    assert [p.data for p in other.events.delivered] == [b"0", b"1", b"2"]


async def test_redis_that_went_back_in_time_is_a_new_epoch(redis: RedisProcess) -> None:
    """As a replica that is promoted may have: the offsets that it lost are given again."""
    async with two_workers(redis) as (one, other):
        before = StreamPosition(0, "")
        for number in range(1, 5):
            before = await one.broker.publish("news", b"%d" % number)
        await other.events.count(5)
        await in_thread(lambda: redis.ask("HSET", "lastcall:{news}:head", "offset", "2"))
        await in_thread(lambda: redis.ask("DEL", "lastcall:{news}:stream"))
        await one.broker.publish("news", b"told, and lost for who stands further on")
        await other.events.until(lambda events: bool(events.resets))
        after = await one.broker.publish("news", b"new")
        await other.events.count(6)
        with pytest.raises(UnrecoverablePosition):
            await one.broker.history("news", before)

    assert other.events.resets == [("news", StreamPosition(0, after.epoch))]
    assert after.epoch != before.epoch
    assert other.events.delivered[-1].data == b"new"


async def test_a_position_that_a_reader_made_up_harms_nobody(redis: RedisProcess) -> None:
    async with two_workers(redis) as (one, other):
        top = (await one.broker.history("news")).top
        with pytest.raises(UnrecoverablePosition):
            await one.broker.history("news", StreamPosition(99, top.epoch))
        after = await one.broker.publish("news", b"1")
        await other.events.count(2)

    assert after == StreamPosition(2, top.epoch)
    assert other.events.resets == []


async def test_what_others_write_there_harms_nobody(redis: RedisProcess) -> None:
    async with two_workers(redis) as (one, other):
        await in_thread(lambda: redis.ask("PUBLISH", "lastcall:0:{news}", "hello"))
        await in_thread(
            lambda: redis.ask("XADD", "lastcall:{old}:stream", "9-99999999999999", "b", "hello")
        )
        await in_thread(
            lambda: redis.ask("HSET", "lastcall:{old}:head", "epoch", "e", "offset", "9")
        )
        await in_thread(lambda: redis.ask("SET", "lastcall:{taken}:head", "hello"))
        with pytest.raises(BrokerUnavailable, match="cannot be read"):
            await one.broker.history("old")
        with pytest.raises(BrokerUnavailable, match="wrong kind"):
            await one.broker.publish("taken", b"")
        await one.broker.publish("news", b"1")
        heard = await other.events.count(2)

    assert heard == [b"0", b"1"]
    assert [one.events.availability, other.events.availability] == [[True], [True]]


async def test_scripts_that_were_flushed_are_loaded_again(redis: RedisProcess) -> None:
    async with two_workers(redis) as (one, other):
        await in_thread(lambda: redis.ask("SCRIPT", "FLUSH"))
        with anyio.fail_after(10):
            await publish_until_accepted(one, b"1")
        heard = await other.events.count(2)

    assert heard == [b"0", b"1"]


async def test_full_redis_refuses_in_its_own_words(redis: RedisProcess) -> None:
    async with two_workers(redis) as (one, other):
        await in_thread(lambda: redis.ask("CONFIG", "SET", "maxmemory", "1"))
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            await one.broker.publish("news", b"1")
        await in_thread(lambda: redis.ask("CONFIG", "SET", "maxmemory", "0"))
        await one.broker.publish("news", b"2")
        heard = await other.events.count(2)

    assert heard == [b"0", b"2"]
    assert one.events.availability == [True]


async def test_what_waits_is_bounded(redis: RedisProcess) -> None:
    async with two_workers(redis) as (one, _):
        with pytest.raises(BrokerUnavailable, match="bytes of one publication"):
            await one.broker.publish("news", bytes(MAX_DATA + 1))
        redis.pause()
        try:
            waiting = [one.broker.publish("news", bytes(2**20)) for _ in range(20)]
            for each in waiting:
                each.add_done_callback(not_owed)
            with pytest.raises(BrokerUnavailable, match="too much waits"):
                await waiting[-1]
        finally:
            redis.resume()
        assert (await waiting[0]).offset == 2


async def test_wrong_password_is_told_and_hidden(
    redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    redis.ask("CONFIG", "SET", "requirepass", "right")
    url = redis.url.replace("//", "//:hunter2@")
    broker = RedisBroker(url, LIMITS)
    await refuses_to_run(broker)

    assert "invalid username-password pair" in caplog.text
    assert "hunter2" not in caplog.text + broker.name
    async with running(RedisBroker(redis.url.replace("//", "//:right@"), LIMITS)) as (worker,):
        assert (await worker.broker.publish("news", b"")).offset == 1


async def test_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    options = f"--tls-port {port} --tls-auth-clients no --tls-cert-file {certificate}"
    with run_redis(*options.split(), "--tls-key-file", str(key)) as redis:
        url = f"rediss://127.0.0.1:{port}/0"
        trusting = RedisBroker(f"{url}?ssl_ca_certs={certificate}", LIMITS)
        async with running(trusting) as (worker,):
            await worker.broker.subscribe("news")
            await worker.broker.publish("news", bytes(2**20))
            assert await worker.events.count(1) == [bytes(2**20)]
        await refuses_to_run(RedisBroker(url, LIMITS))
        await refuses_to_run(RedisBroker(f"redis://127.0.0.1:{port}/0", LIMITS))
        assert redis.ask("PING") == "+PONG"


async def refuses_to_run(broker: RedisBroker) -> None:
    with anyio.move_on_after(1):
        async with running(broker):
            raise AssertionError("it cannot be carried")


@pytest.mark.parametrize(
    "url", ["redis://host:port/0", "redis+sentinel://host", "redis+cluster://host/1"]
)
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="LASTCALL_BROKER_URL"):
        RedisBroker(url, LIMITS)
