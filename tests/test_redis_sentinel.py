"""What becomes of the promises of `broker.redis` when sentinels make a replica the master."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from lastcall.broker.base import HistoryLimits, StreamPosition
from lastcall.broker.redis import RedisBroker
from lastcall.errors import UnrecoverablePosition
from tests.conftest import LOOPS
from tests.redis_process import needs_redis
from tests.redis_sentinels import Sentinels, run_sentinels
from tests.server_process import START_TIMEOUT, wait_until
from tests.test_broker import Worker, running
from tests.two_workers import away, back, in_thread, publish_until_accepted

pytestmark = [pytest.mark.anyio, needs_redis]

LIMITS = HistoryLimits(size=5000, ttl=600)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One loop is enough: what differs between loops is tested with one server."""
    return LOOPS["uvloop"]


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with run_sentinels() as sentinels:
        yield sentinels


@contextlib.asynccontextmanager
async def two_workers(sentinels: Sentinels) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two workers, the second of which hears `news`, up to where the first published."""
    async with running(*(RedisBroker(sentinels.url, LIMITS) for _ in range(2))) as (one, other):
        await other.broker.subscribe("news")
        await one.broker.publish("news", b"0")
        await other.events.count(1)
        yield one, other


async def until_promoted(sentinels: Sentinels) -> None:
    await in_thread(lambda: wait_until(sentinels.has_promoted, START_TIMEOUT))


@pytest.fixture
def hasty_sentinels() -> Iterator[Sentinels]:
    with run_sentinels(down_after=1) as sentinels:
        yield sentinels


async def test_after_a_failover_under_fire_nothing_that_was_accepted_is_missing_silently(
    hasty_sentinels: Sentinels,
) -> None:
    sentinels = hasty_sentinels
    accepted: list[tuple[StreamPosition, bytes]] = []
    async with two_workers(sentinels) as (one, other):

        async def fire(number: int) -> None:
            for count in range(80):
                data = b"%d/%d" % (number, count)
                accepted.append((await publish_until_accepted(one, data), data))
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(fire, number)
            await other.events.count(100)
            sentinels.kill_sentinel()
            await in_thread(sentinels.master.kill)
            await until_promoted(sentinels)
        last = accepted[-1][0]
        await other.events.until(lambda events: events.delivered[-1].epoch == last.epoch)
        top = max(p.offset for p, _ in accepted if p.epoch == last.epoch)
        await other.events.until(lambda events: events.delivered[-1].offset == top)

    first = other.events.delivered[0].epoch
    assert other.events.resets == [("news", StreamPosition(0, last.epoch))]
    told = {(p.epoch, p.offset): p.data for p in other.events.delivered}
    for epoch in (first, last.epoch):
        offsets = [o for e, o in told if e == epoch]
        assert offsets == list(range(1, len(offsets) + 1))
    after = [(p, data) for p, data in accepted if p.epoch == last.epoch]
    assert len(after) > 50
    assert all(told[p.epoch, p.offset] == data for p, data in after)


async def test_a_master_that_is_not_the_one_any_more_is_left_before_it_knows(
    sentinels: Sentinels,
) -> None:
    """Its connections are as good as before, and what it would accept would be lost."""
    async with two_workers(sentinels) as (one, other):
        before = await one.broker.publish("news", b"1")
        await other.events.count(2)
        await in_thread(sentinels.fail_over)
        after = before
        while after.epoch == before.epoch:
            after = await publish_until_accepted(one, b"2")
            await anyio.sleep(0.05)
        last = await publish_until_accepted(one, b"3")
        await other.events.until(lambda events: events.delivered[-1].data == b"3")
        with pytest.raises(UnrecoverablePosition):
            await one.broker.history("news", before)

    assert last == StreamPosition(2, after.epoch)
    assert other.events.resets == [("news", StreamPosition(0, after.epoch))]


async def test_a_master_that_returns_before_anybody_is_promoted_has_lost_nothing(
    sentinels: Sentinels,
) -> None:
    sentinels.master.ask("ACL", "SETUSER", "default", "-role")
    async with two_workers(sentinels) as (one, other):
        await in_thread(sentinels.master.kill)
        await in_thread(sentinels.master.start)
        await away(one, other)
        await back(one, other)
        position = await publish_until_accepted(one, b"1")
        heard = await other.events.count(2)

    assert heard == [b"0", b"1"]
    assert position.offset == 2
    assert other.events.resets == []
