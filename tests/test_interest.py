"""The channels of a worker's clients: subscribed once, side by side, and all or none."""

import asyncio

import anyio
import anyio.lowlevel
import pytest

from lastcall.broker.base import HistoryLimits, StreamPosition
from lastcall.broker.memory import MemoryBroker
from lastcall.errors import BrokerUnavailable
from lastcall.hub import Hub
from lastcall.interest import Interest

pytestmark = pytest.mark.anyio


class Slow(MemoryBroker):
    """Answers nobody before the test says so; refuses one channel."""

    def __init__(self) -> None:
        super().__init__(HistoryLimits(10, 60))
        self.asked: list[str] = []
        self.given_up: list[str] = []
        self.answers = asyncio.Event()

    async def subscribe(self, channel: str) -> StreamPosition:
        self.asked.append(channel)
        await self.answers.wait()
        if channel == "refused":
            raise BrokerUnavailable("not that one")
        return StreamPosition(0, "epoch")

    def unsubscribe(self, channel: str) -> None:
        self.given_up.append(channel)


@pytest.fixture
def broker() -> Slow:
    return Slow()


@pytest.fixture
def hub() -> Hub:
    return Hub(lambda flush: flush())


async def test_many_channels_are_asked_for_at_once(broker: Slow, hub: Hub) -> None:
    interest = Interest(broker, hub)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interest.listen, ["a", "b", "c"])
        with anyio.fail_after(10):
            while len(broker.asked) < 3:
                await anyio.lowlevel.checkpoint()
        broker.answers.set()
    await interest.listen(["a", "c"])

    assert sorted(broker.asked) == ["a", "b", "c"]
    assert hub.head("b") == StreamPosition(0, "epoch")
    interest.stop_listening(["a", "b", "c"])
    assert broker.given_up == ["b"]


async def test_where_one_is_refused_none_is_held(broker: Slow, hub: Hub) -> None:
    interest = Interest(broker, hub)
    broker.answers.set()
    for channels in (["a", "refused", "b"], ["refused"]):
        with pytest.raises(BrokerUnavailable):
            await interest.listen(channels)
        assert [hub.head(channel) for channel in channels] == [None] * len(channels)
    assert broker.given_up == ["a", "refused", "b", "refused"]
