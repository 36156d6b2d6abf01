"""Two workers on an engine that fails: what tests wait for, and ask of them meanwhile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from lastcall.broker.base import Broker, StreamPosition
from lastcall.errors import BrokerUnavailable
from tests.test_broker import Worker, running


@asynccontextmanager
async def two_workers_by(one: Broker, other: Broker) -> AsyncIterator[tuple[Worker, Worker]]:
    """The *other* hears `news`, up to where the first published."""
    async with running(one, other) as (publishing, hearing):
        await hearing.broker.subscribe("news")
        await publishing.broker.publish("news", b"0")
        await hearing.events.count(1)
        yield publishing, hearing


async def back(*workers: Worker) -> None:
    for worker in workers:
        await worker.events.until(lambda events: events.availability[-1])


async def away(*workers: Worker) -> None:
    for worker in workers:
        await worker.events.until(lambda events: not events.availability[-1])


async def in_thread(call: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(call)


async def refused(call: Callable[[str], Awaitable[object]]) -> None:
    with pytest.raises(BrokerUnavailable):
        await call("other")


async def publish_until_accepted(worker: Worker, data: bytes) -> StreamPosition:
    while True:
        try:
            return await worker.broker.publish("news", data)
        except BrokerUnavailable:
            await anyio.sleep(0.05)
