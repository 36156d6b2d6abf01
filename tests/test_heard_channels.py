"""What becomes of readings that nobody waits for any more."""

import asyncio
import gc

import anyio.lowlevel
import pytest

from lastcall.broker.base import StreamPosition
from lastcall.broker.following import Page
from lastcall.broker.heard_channels import HeardChannels, fail
from lastcall.errors import BrokerUnavailable

pytestmark = pytest.mark.anyio


async def test_the_failure_of_a_reading_that_nobody_wants_any_more_is_no_error() -> None:
    """A worker that ends, or unsubscribes while its engine is away, has nothing to complain of."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    readings: list[asyncio.Future[Page]] = []

    def read(_channel: str, _since: StreamPosition | None, _limit: int) -> "asyncio.Future[Page]":
        readings.append(loop.create_future())
        return readings[-1]

    channels = HeardChannels("the engine", read, lambda _channel, _yes: None)
    subscribing = asyncio.create_task(channels.subscribe("news"))
    await anyio.lowlevel.checkpoint()
    channels.confirmed("news")
    channels.unsubscribe("news")
    with pytest.raises(BrokerUnavailable, match="unsubscribed meanwhile"):
        await subscribing
    fail(readings.pop(), "away")
    await anyio.lowlevel.checkpoint()
    gc.collect()

    assert complaints == []
