"""What becomes of the promises of `broker.nats` while NATS is away, silent, slow or forgetful."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import nats as nats_py
import pytest
from nats.js import JetStreamContext

from lastcall.broker.base import HistoryLimits, StreamPosition, not_owed
from lastcall.broker.heard_channels import ANSWER_SECONDS, PAGE
from lastcall.broker.nats import NatsBroker
from lastcall.broker.nats_messages import Stored, encode
from lastcall.errors import BrokerUnavailable, UnrecoverablePosition
from tests.nats_process import NatsProcess, needs_nats, run_nats
from tests.tcp_proxy import run_proxy
from tests.test_broker import RecordingEvents, Worker
from tests.two_workers import away, back, in_thread, publish_until_accepted, refused, two_workers_by

pytestmark = [pytest.mark.anyio, needs_nats]

LIMITS = HistoryLimits(size=5000, ttl=600)


@pytest.fixture
def nats() -> Iterator[NatsProcess]:
    with run_nats() as server:
        yield server


@asynccontextmanager
async def two_workers(
    nats: NatsProcess, limits: HistoryLimits = LIMITS, *, hears_at: str = ""
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two workers, the second of which hears `news`, up to where the first published."""
    one, other = NatsBroker(nats.url, limits), NatsBroker(hears_at or nats.url, limits)
    async with two_workers_by(one, other) as both:
        yield both


@asynccontextmanager
async def jetstream(nats: NatsProcess) -> AsyncIterator[JetStreamContext]:
    """What an operator has, with another client than ours."""
    client = await nats_py.connect(nats.url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


def said(events: RecordingEvents) -> list[bytes]:
    return [publication.data for publication in events.delivered]


async def test_killed_nats_fails_publications_in_bounded_time_and_comes_back(
    nats: NatsProcess,
) -> None:
    async with two_workers(nats) as (one, other):
        await in_thread(nats.kill)
        await away(one, other)
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for call in (one.broker.subscribe, one.broker.history, one.broker.clear):
                tasks.start_soon(refused, call)
            with pytest.raises(BrokerUnavailable, match="NATS"):
                await one.broker.publish("news", b"lost")
        assert time.monotonic() - started < ANSWER_SECONDS + 2

        await in_thread(nats.start)
        await back(one, other)
        position = await one.broker.publish("news", b"1")
        heard = await other.events.count(2)

    assert heard == [b"0", b"1"]
    assert position.offset == 2
    assert other.events.resets == []


async def test_what_was_accepted_under_fire_is_heard_once_and_in_order(
    nats: NatsProcess,
) -> None:
    accepted: dict[int, bytes] = {}
    async with two_workers(nats) as (one, other):

        async def fire(worker: Worker, number: int) -> None:
            for count in range(60):
                data = b"%d/%d" % (number, count)
                position = await publish_until_accepted(worker, data)
                accepted[position.offset] = data

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(fire, (one, other)[number % 2], number)
            for _ in range(2):
                await other.events.count(len(other.events.delivered) + 20)
                await in_thread(nats.kill)
                await in_thread(nats.start)
        top = max(accepted)
        await other.events.until(lambda events: events.delivered[-1].offset >= top)

    assert [p.offset for p in other.events.delivered] == list(range(1, top + 1))
    by_offset = {p.offset: p.data for p in other.events.delivered}
    assert all(by_offset[offset] == data for offset, data in accepted.items())
    assert other.events.resets == []


async def test_a_silent_nats_is_noticed_and_nothing_is_lost_of_what_it_accepted(
    nats: NatsProcess,
) -> None:
    async with two_workers(nats) as (one, other):
        nats.pause()
        try:
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await one.broker.publish("news", b"maybe")
            assert time.monotonic() - started < ANSWER_SECONDS + 2
            await away(one, other)
        finally:
            nats.resume()
        await back(one, other)
        await one.broker.publish("news", b"sure")
        await other.events.until(lambda events: events.delivered[-1].data == b"sure")

    offsets = [p.offset for p in other.events.delivered]
    assert offsets == list(range(1, len(offsets) + 1))
    assert other.events.resets == []


async def test_a_worker_that_was_cut_off_hears_what_it_missed(nats: NatsProcess) -> None:
    async with (
        run_proxy(nats.port) as proxy,
        two_workers(nats, hears_at=f"nats://127.0.0.1:{proxy.port}") as (one, other),
    ):
        for number in range(30):
            await one.broker.publish("news", b"%d" % number)
            if number % 10 == 5:
                proxy.cut()
        heard = await other.events.count(31)

    assert heard == [b"0", *(b"%d" % number for number in range(30))]
    assert other.events.resets == []


async def test_a_slow_nats_costs_time_and_nothing_else(nats: NatsProcess) -> None:
    """Answers take longer than the next publication takes to come; others publish as well."""
    async with (
        run_proxy(nats.port) as proxy,
        two_workers(nats, hears_at=f"nats://127.0.0.1:{proxy.port}") as (one, slow),
    ):
        proxy.delay = 0.2
        late = [slow.broker.publish("news", b"late %d" % number) for number in range(5)]
        for number in range(20):
            await one.broker.publish("news", b"%d" % number)
        positions = [await each for each in late]
        heard = await slow.events.count(26)

    assert [p.offset for p in slow.events.delivered] == list(range(1, 27))
    assert [each for each in heard if each.startswith(b"late")] == [
        b"late %d" % n for n in range(5)
    ]
    assert [heard[p.offset - 1] for p in positions] == [b"late %d" % n for n in range(5)]


async def test_more_than_a_page_is_missed_and_read(nats: NatsProcess) -> None:
    number = PAGE + 10
    async with (
        run_proxy(nats.port) as proxy,
        two_workers(nats, hears_at=f"nats://127.0.0.1:{proxy.port}") as (one, other),
    ):
        proxy.cut()
        for n in range(0, number, 10):
            await asyncio.gather(*(one.broker.publish("news", b"%d" % (n + i)) for i in range(10)))
        heard = await other.events.count(number + 1)
        history = await one.broker.history("news")
        some = await one.broker.history("news", StreamPosition(1, history.top.epoch), PAGE + 5)

    assert heard == [b"0", *(b"%d" % n for n in range(number))]
    assert len(history.publications) == number + 1
    assert [p.offset for p in some.publications] == list(range(2, PAGE + 7))


async def test_what_the_history_does_not_have_any_more_is_a_reset(nats: NatsProcess) -> None:
    limits = HistoryLimits(size=3, ttl=600)
    async with (
        run_proxy(nats.port) as proxy,
        two_workers(nats, limits, hears_at=f"nats://127.0.0.1:{proxy.port}") as (one, other),
    ):
        proxy.refuses = True
        proxy.cut()
        await away(other)
        for number in range(20):
            await one.broker.publish("news", b"%d" % number)
        proxy.refuses = False
        await other.events.until(lambda events: events.delivered[-1].offset == 21)

    assert [p.offset for p in other.events.delivered] == [1, 19, 20, 21]
    assert [position.offset for _, position in other.events.resets] == [18]


async def purge(nats: NatsProcess) -> None:
    async with jetstream(nats) as operator:
        await operator.purge_stream("lastcall")


async def delete(nats: NatsProcess) -> None:
    async with jetstream(nats) as operator:
        await operator.delete_stream("lastcall")


async def restart_empty(nats: NatsProcess) -> None:
    await in_thread(nats.kill)
    nats.forget()
    await in_thread(nats.start)


@pytest.mark.parametrize("lose", [purge, delete, restart_empty])
async def test_data_that_was_lost_is_a_new_epoch(
    nats: NatsProcess, lose: Callable[[NatsProcess], Awaitable[None]]
) -> None:
    async with two_workers(nats) as (one, other):
        before = await one.broker.publish("news", b"1")
        await other.events.count(2)
        await lose(nats)
        after = await publish_until_accepted(one, b"2")
        await other.events.count(3)
        with pytest.raises(UnrecoverablePosition):
            await one.broker.history("news", since=before)

    assert after.offset == 1
    assert after.epoch != before.epoch
    assert other.events.resets == [("news", StreamPosition(0, after.epoch))]
    assert said(other.events) == [b"0", b"1", b"2"]


async def test_nats_that_went_back_in_time_is_a_new_epoch(nats: NatsProcess) -> None:
    """As an older copy that was restored: the offsets that it lost are given again."""
    async with two_workers(nats) as (one, other):
        before = StreamPosition(0, "")
        for number in range(1, 5):
            before = await one.broker.publish("news", b"%d" % number)
        await other.events.count(5)
        async with jetstream(nats) as operator:
            top = (await operator.stream_info("lastcall")).state.last_seq
            for sequence in (top, top - 1):
                await operator.delete_msg("lastcall", sequence)
        await publish_until_accepted(one, b"told, and lost for who stands further on")
        await other.events.until(lambda events: bool(events.resets))
        after = await publish_until_accepted(one, b"new")
        await other.events.count(6)
        with pytest.raises(UnrecoverablePosition):
            await one.broker.history("news", before)

    assert other.events.resets == [("news", StreamPosition(0, after.epoch))]
    assert after.epoch != before.epoch
    assert other.events.delivered[-1].data == b"new"


async def test_a_position_that_a_reader_made_up_harms_nobody(nats: NatsProcess) -> None:
    async with two_workers(nats) as (one, other):
        top = (await one.broker.history("news")).top
        with pytest.raises(UnrecoverablePosition):
            await one.broker.history("news", StreamPosition(99, top.epoch))
        after = await one.broker.publish("news", b"1")
        await other.events.count(2)

    assert after == StreamPosition(2, top.epoch)
    assert other.events.resets == []


async def test_what_others_write_there_harms_nobody(nats: NatsProcess) -> None:
    async with two_workers(nats) as (one, other), jetstream(nats) as operator:
        await operator.publish("lastcall.channel.taken", b"hello")
        await operator._nc.publish("lastcall.told.news", b"hello")  # noqa: SLF001
        await operator._nc.publish("lastcall.told.news", encode(Stored("e", 9, 0, (), ())))  # noqa: SLF001
        with pytest.raises(BrokerUnavailable, match="cannot be read"):
            await one.broker.history("taken")
        with pytest.raises(BrokerUnavailable, match="cannot be read"):
            await one.broker.publish("taken", b"")
        await one.broker.publish("news", b"1")
        heard = await other.events.count(2)

    assert heard == [b"0", b"1"]
    assert [one.events.availability, other.events.availability] == [[True], [True]]


async def test_full_nats_refuses_in_its_own_words(nats: NatsProcess) -> None:
    async with two_workers(nats) as (one, other), jetstream(nats) as operator:
        info = await operator.stream_info("lastcall")
        config = info.config
        config.max_bytes = info.state.bytes
        await operator.update_stream(config)
        with pytest.raises(BrokerUnavailable, match="maximum bytes exceeded"):
            await one.broker.publish("news", b"1")
        assert [p.data for p in (await one.broker.history("news")).publications] == [b"0"]
        config.max_bytes = -1
        await operator.update_stream(config)
        await one.broker.publish("news", b"2")
        heard = await other.events.count(2)

    assert heard == [b"0", b"2"]
    assert one.events.availability == [True]


async def test_what_waits_is_bounded(nats: NatsProcess) -> None:
    async with two_workers(nats) as (one, _):
        with pytest.raises(BrokerUnavailable, match="max_payload"):
            await one.broker.publish("news", bytes(2**20))
        assert (await one.broker.publish("news", bytes(2**20 - 4096))).offset == 2
        nats.pause()
        try:
            waiting = [one.broker.publish("news", bytes(2**19)) for _ in range(40)]
            for each in waiting:
                each.add_done_callback(not_owed)
            with pytest.raises(BrokerUnavailable, match="too much waits"):
                await waiting[-1]
        finally:
            nats.resume()
        assert (await waiting[0]).offset == 3


async def test_a_key_whose_publication_is_gone_is_not_published_again(nats: NatsProcess) -> None:
    async with two_workers(nats, HistoryLimits(size=1, ttl=600)) as (one, other):
        await one.broker.publish("news", b"1", idempotency_key="k")
        for number in range(20):
            await one.broker.publish("news", b"%d" % number)
        with pytest.raises(BrokerUnavailable, match="published before"):
            await one.broker.publish("news", b"1", idempotency_key="k")
        await one.broker.publish("news", b"the end")
        heard = await other.events.count(23)

    assert heard.count(b"1") == 2
    assert other.events.resets == []


async def test_a_nats_that_comes_back_without_its_jetstream_is_waited_for(
    nats: NatsProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_workers(nats) as (one, other):
        await in_thread(nats.kill)
        await away(one, other)
        waiting = one.broker.publish("news", b"waits")
        waiting.add_done_callback(not_owed)
        nats.has_jetstream = False
        await in_thread(nats.start)
        while "JetStream is off" not in caplog.text:  # noqa: ASYNC110  (nobody tells a test)
            await anyio.sleep(0.05)
        await in_thread(nats.kill)
        nats.has_jetstream = True
        await in_thread(nats.start)
        await publish_until_accepted(one, b"1")
        await other.events.until(lambda events: events.delivered[-1].data == b"1")

    assert other.events.resets == []
