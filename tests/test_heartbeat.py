"""Once a tick of the wall clock, whatever the timers do and wherever the client is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect

from lastcall.connection_manager import ConnectionManager
from lastcall.heartbeat import Heart, next_tick
from lastcall.hub import Hub
from lastcall.settings import HEARTBEAT
from lastcall.transport.base import Frame
from tests.fakes import RecordingGuest, RecordingOwner, RecordingTransport
from tests.fakes import connect as connected
from tests.handover_places import Bus, Place, two_places
from tests.uvicorn_host import TIMEOUT


@pytest.mark.parametrize(
    ("now", "last", "tick"),
    [
        (100.0, None, 11),
        (109.9, None, 11),
        (110.0, 11, 12),
        (109.9999, 11, 12),  # the timer was early
        (135.0, 11, 14),  # what was missed is not made up for
        (50.0, 11, 6),  # the clock was put back
    ],
)
def test_ticks_are_multiples_of_the_interval(now: float, last: int | None, tick: int) -> None:
    assert next_tick(now, 10, last) == tick


@dataclass
class StoppedClock:
    """A clock that stands a moment before a tick, as a timer that fires early would have it."""

    now: float = 0.999

    def __call__(self) -> float:
        return self.now


def manager() -> ConnectionManager:
    return ConnectionManager(Hub(lambda _flush: None), lambda: None)


@pytest.mark.anyio
async def test_a_timer_that_fires_early_does_not_make_two_heartbeats_of_one() -> None:
    heard = anyio.Event()

    class Transport(RecordingTransport):
        def write(self, frame: Frame, /) -> None:
            super().write(frame)
            heard.set()

    connections = manager()
    connection, transport = connected(RecordingOwner(), transport=Transport())
    connections.adopt(connection)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Heart(connections, 1, HEARTBEAT, clock=StoppedClock()).run)
        with anyio.fail_after(5):
            await heard.wait()
        with anyio.move_on_after(0.05):
            await anyio.sleep_forever()
        tasks.cancel_scope.cancel()

    assert transport.messages == [HEARTBEAT.encode()]


def test_a_guest_of_the_drain_is_not_told_that_the_server_runs() -> None:
    """It would take it for the beginning of the drain."""
    connections, guest = manager(), RecordingGuest()
    connections.welcome(guest)

    Heart(connections, 1, HEARTBEAT).beat(1)

    assert guest.heard == []


@asynccontextmanager
async def moving_client(
    path: Path, *, interval: float = 10
) -> AsyncIterator[tuple[Place, Place, Bus, ClientConnection]]:
    """Two workers, whose hearts beat when the test says so, and a client of the first."""
    async with (
        two_places(path, heartbeat_interval=interval) as (old, new, bus),
        connect(old.host.url, ping_interval=None, compression=None) as client,
    ):
        await old.host.until(lambda: old.worker.connections.count)
        yield old, new, bus, client


LATER, LAST = 4e9, 5e9
"""Ticks after all that the real clock has had."""


async def heard_before(bus: Bus, client: ClientConnection, last: str) -> list[str | bytes]:
    """What the client hears before what is published now."""
    bus.publish(last)
    heard: list[str | bytes] = []
    async with asyncio.timeout(TIMEOUT):
        while (message := await client.recv()) != last:
            heard.append(message)
    return heard


@pytest.mark.anyio
async def test_who_was_told_elsewhere_is_not_told_again_by_a_slower_worker(tmp_path: Path) -> None:
    async with moving_client(tmp_path) as (old, new, bus, client):
        old.worker.heart.beat(LATER)
        await old.sender.round([new.record])
        # And on, before this worker has had the tick itself.
        await new.sender.round([old.record])
        await old.sender.round([new.record])
        assert await heard_before(bus, client, "on the new one") == [HEARTBEAT]
        new.worker.heart.beat(LATER)
        assert await heard_before(bus, client, "after its tick") == []
        new.worker.heart.beat(LAST)
        assert await heard_before(bus, client, "the end") == [HEARTBEAT]


@pytest.mark.anyio
async def test_a_tick_that_came_first_to_the_new_worker_is_told_there(tmp_path: Path) -> None:
    async with moving_client(tmp_path) as (old, new, bus, client):
        new.worker.heart.beat(LATER)
        await old.sender.round([new.record])
        old.worker.heart.beat(LATER)
        assert await heard_before(bus, client, "the end") == [HEARTBEAT]


@pytest.mark.anyio
async def test_a_tick_in_the_middle_of_a_move_is_told_where_it_ends(tmp_path: Path) -> None:
    async with moving_client(tmp_path) as (old, _new, bus, client):
        (moving,) = old.mover.freeze([old.connection])
        old.worker.heart.beat(LATER)
        assert moving.late is None
        await old.mover.take_back(moving)
        assert await heard_before(bus, client, "the end") == [HEARTBEAT]


@pytest.mark.anyio
async def test_where_hearts_are_off_nobody_is_told_of_the_ticks_of_others(tmp_path: Path) -> None:
    async with moving_client(tmp_path, interval=0) as (old, new, bus, client):
        connection = old.connection
        for told in (LATER, None):
            old.worker.heart.arrived(connection, told)
        await old.sender.round([new.record])
        assert await heard_before(bus, client, "the end") == []
