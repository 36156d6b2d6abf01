"""What the events of one part mean to the others."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from lastcall.announcements import Change
from lastcall.assembly import Loop, assemble
from lastcall.broker.base import HistoryLimits, StreamPosition
from lastcall.broker.memory import MemoryBroker
from lastcall.commands import Commands
from lastcall.connection import Connection
from lastcall.errors import BrokerUnavailable, ServerShutdown, SlowConsumer
from lastcall.metrics import METRICS
from lastcall.rulebook import Rulebook
from lastcall.settings import Settings
from lastcall.worker import MAX_RECORDED_CHANNELS
from lastcall.worker_record import WorkerRecord
from tests.fakes import FakeCoordinator, RecordingTransport, connect

pytestmark = pytest.mark.anyio


class Unsteady(MemoryBroker):
    """A broker that refuses some channels."""

    refused: frozenset[str] = frozenset()

    async def subscribe(self, channel: str) -> StreamPosition:
        if channel in self.refused:
            raise BrokerUnavailable("away")
        return await super().subscribe(channel)


class Scene:
    """A worker put together by hand; nothing of it runs."""

    def __init__(self, **settings: int) -> None:
        self.coordinator = FakeCoordinator()
        self.broker = Unsteady(HistoryLimits(10, 10))
        rules = Rulebook.by(Settings(announcements=True, max_connections=2, **settings))  # type: ignore[arg-type]
        self.endpoints = rules.endpoints
        self.worker = assemble(
            rules,
            Commands(self.endpoints, lambda coroutine: coroutine.close(), print),
            Loop(later=lambda _flush: None, changed=lambda: None),
            self.broker,
            self.coordinator,
        )
        self.hub = self.worker.hub

    async def join(self, *channels: str) -> tuple[Connection, RecordingTransport]:
        connection, transport = connect(self.worker, *channels)
        await self.worker.interest.listen(connection.channels)
        self.worker.connected(connection)
        return connection, transport

    def heard(self, transport: RecordingTransport) -> list[bytes]:
        self.hub.flush()
        return transport.messages


@asynccontextmanager
async def running_broker(scene: Scene) -> AsyncIterator[None]:
    """Let the scene's broker carry, for its hub."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            await tasks.start(scene.broker.run, scene.hub)
            yield
            tasks.cancel_scope.cancel()


CONNECTED = b'Client "[127.0.0.1]:54321" connected.'
DISCONNECTED = b'Client "[127.0.0.1]:54321" disconnected.'


async def test_clients_hear_of_each_other_in_their_first_channel() -> None:
    scene = Scene()
    async with running_broker(scene):
        _, first = await scene.join("ws", "other")
        scene.hub.flush()
        second, own = await scene.join("ws")
        await scene.join("other")
        assert scene.heard(own) == [CONNECTED]
        second.ended(1006)

        assert sorted(scene.heard(first)) == [CONNECTED, CONNECTED, CONNECTED, DISCONNECTED]
        assert scene.heard(own) == [CONNECTED]


async def test_a_client_without_channels_is_nobodys_news() -> None:
    scene = Scene()
    async with running_broker(scene):
        connection, transport = await scene.join()
        connection.ended(1000)

        assert scene.heard(transport) == []
        assert scene.worker.announced == {}


async def test_ends_that_the_server_made_are_not_announced() -> None:
    scene = Scene()
    async with running_broker(scene):
        _, transport = await scene.join("ws")
        ours, _ = await scene.join("ws")
        slow, _ = await scene.join("ws")
        before = len(scene.heard(transport))
        ours.disconnect(ServerShutdown())
        ours.ended(1012)
        slow.disconnect(SlowConsumer())
        slow.ended(3008)

        assert scene.heard(transport)[before:] == [DISCONNECTED]


async def test_a_channel_that_cannot_be_had_leaves_nothing_subscribed() -> None:
    scene = Scene()
    scene.broker.refused = frozenset({"refused"})
    async with running_broker(scene):
        connection, _ = connect(scene.worker, "granted", "refused", "third")
        with pytest.raises(BrokerUnavailable):
            await scene.worker.interest.listen(connection.channels)

        assert all(scene.hub.retain(channel) for channel in connection.channels)
        await scene.broker.publish("granted", b"nobody listens")
        assert scene.hub.head("granted") is None


async def test_the_last_one_in_a_channel_unsubscribes_it() -> None:
    scene = Scene()
    async with running_broker(scene):
        one, _ = await scene.join("ws")
        other, transport = await scene.join("ws")
        one.ended(1000)
        await scene.broker.publish("ws", b"to the other")
        assert scene.heard(transport)[-1] == b"to the other"
        other.ended(1000)

        assert scene.hub.retain("ws")


async def test_it_is_full_with_the_clients_that_are_about_to_come() -> None:
    scene = Scene()
    async with running_broker(scene):
        await scene.join("ws")
        assert not scene.worker.is_full
        scene.worker.connections.expect_one()
        assert scene.worker.is_full
        scene.worker.connections.expected_one()
        assert not scene.worker.is_full


async def test_others_can_account_for_its_clients_if_it_is_killed() -> None:
    scene = Scene()
    async with running_broker(scene):
        one, _ = await scene.join("ws")
        await scene.join("ws")
        for number in range(MAX_RECORDED_CHANNELS + 5):
            await scene.join(f"user:{number}")
        scene.worker.record()
        assert scene.coordinator.announced["ws"] == 2
        assert len(scene.coordinator.announced) == MAX_RECORDED_CHANNELS
        one.ended(1000)
        scene.worker.record()
        assert scene.coordinator.announced["ws"] == 1


async def test_a_channel_that_everybody_left_is_forgotten() -> None:
    scene = Scene()
    async with running_broker(scene):
        for number in range(100):
            connection, _ = await scene.join(f"user:{number}")
            connection.ended(1000)

        assert len(scene.worker.announced) == 0


async def test_the_clients_of_a_killed_worker_are_announced_in_a_summary() -> None:
    scene = Scene()
    async with running_broker(scene):
        _, transport = await scene.join("ws")
        scene.coordinator.dead = [WorkerRecord(1, announced={"ws": 40, "other": 2})]
        scene.worker.next_second()

        assert scene.heard(transport) == [CONNECTED, b"40 clients disconnected."]


async def test_who_leaves_tells_those_who_stay_what_the_second_has_left_untold() -> None:
    scene = Scene(announcement_rate=1)
    async with running_broker(scene):
        _, transport = await scene.join("ws")
        for _ in range(3):
            connection, _ = await scene.join("ws")
            connection.ended(1000)
        assert scene.worker.last_words() == set(), "nobody is there to wait for"
        assert scene.heard(transport) == [
            CONNECTED,
            b"3 clients connected.",
            b"3 clients disconnected.",
        ]

        await anyio.wait_all_tasks_blocked()
        scene.coordinator.others = [WorkerRecord(1, state="ready")]
        scene.worker.announcements.count("ws", 1, Change.DISCONNECTED)
        (on_its_way,) = scene.worker.last_words()
        assert (await on_its_way).offset == 4
        await anyio.wait_all_tasks_blocked()
        assert scene.worker.last_words() == set()


async def test_an_announcement_that_cannot_be_carried_harms_nobody() -> None:
    scene = Scene()
    async with running_broker(scene):
        connection, _ = await scene.join("ws")
    connection.ended(1000)

    assert scene.worker.connections.count == 0


async def test_it_counts_what_happens_under_names_that_are_declared() -> None:
    scene = Scene()
    async with running_broker(scene):
        first, _ = await scene.join("ws")
        await scene.join("ws")
        scene.hub.flush()
        first.ended(1001)
        scene.hub.flush()

        [record] = scene.coordinator.known()
        assert record.counts == {}
        text = scene.worker.metrics()

    [record] = scene.coordinator.known()
    assert {name.partition(":")[0] for name in record.counts} <= {each.name for each in METRICS}
    for line in (
        "lastcall_connections{WORKER} 1",
        "lastcall_connections_opened_total{WORKER} 2",
        'lastcall_connections_closed_total{WORKER,code="1001"} 1',
        "lastcall_publications_total{WORKER} 3",
        "lastcall_deliveries_total{WORKER} 5",
        "lastcall_broker_available{WORKER} 1",
    ):
        assert line.replace("WORKER", f'worker="{os.getpid()}"') + "\n" in text
