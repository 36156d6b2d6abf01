"""Who is told that the worker leaves, and when, while there may be somebody who takes them."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from lastcall import drain_report
from lastcall.moving_out import ANSWER_TIME, HOPE_TIME, SUCCESSOR_TIME, HandOver, MovingOut
from lastcall.worker_record import WorkerRecord
from tests.fakes import FakeCoordinator

pytestmark = pytest.mark.anyio

SIBLING = WorkerRecord(4711, state="ready")


class Moves:
    """A hand-over that moves as many in each round as the test wants."""

    longest_pause = 0.25
    lost, replayed = 1, 2

    def __init__(self, *counts: int) -> None:
        self.signs = self.moved = 0
        self.rounds = 0
        self._counts = list(counts)

    async def round(self, siblings: Sequence[WorkerRecord]) -> None:
        assert siblings == [SIBLING]
        self.rounds += 1
        if not self._counts:
            raise RuntimeError("what nobody has thought of")
        if moved := self._counts.pop(0):
            self.moved += moved
            self.signs += 1


class Siblings(FakeCoordinator):
    """Others, who are not ready."""

    def __init__(self, *others: WorkerRecord) -> None:
        super().__init__()
        self.others = list(others)

    def siblings(self) -> list[WorkerRecord]:
        return [*self.ready, *self.others]


class Clock:
    """Moves when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def moving_out(
    clock: Clock,
    hand_over: HandOver | None,
    coordinator: FakeCoordinator,
    timeout: float = math.inf,
) -> MovingOut:
    made = MovingOut(hand_over, coordinator, 0.001, clock)
    made.begin(clock.now + timeout)
    return made


@asynccontextmanager
async def running(moving: MovingOut, enough: Callable[[], bool]) -> AsyncIterator[None]:
    """Look for siblings until *enough*."""
    done = anyio.Event()

    def changed() -> None:
        if enough():
            done.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(moving.run, changed)
            await done.wait()
            yield
            tasks.cancel_scope.cancel()


async def test_without_a_way_there_is_no_hope() -> None:
    moving = moving_out(Clock(), None, Siblings())
    assert not moving.hopes
    assert moving.wake_at(math.inf) == math.inf
    assert moving.moves == drain_report.Moves()
    await moving.run(lambda: None)  # it has nothing to do


async def test_hope_ends_when_nothing_has_moved_for_a_while() -> None:
    clock = Clock()
    moving = moving_out(clock, Moves(), Siblings())
    assert moving.hopes
    assert moving.wake_at(math.inf) == clock.now + HOPE_TIME
    assert moving.wake_at(clock.now) == clock.now
    clock.now += HOPE_TIME
    assert not moving.hopes


async def test_hope_leaves_half_of_the_time_for_telling_them() -> None:
    clock, coordinator = Clock(), Siblings()
    coordinator.ready = [SIBLING]
    moves = Moves(3, 0, 0, 0)
    moving = moving_out(clock, moves, coordinator, timeout=1)
    assert moving.wake_at(math.inf) == clock.now + 0.5
    async with running(moving, lambda: moves.moved == 3):
        clock.now += 0.4
        moving.look()
        assert moving.wake_at(math.inf) == pytest.approx(clock.now + 0.1)
        clock.now += 0.1
        assert not moving.hopes


async def test_what_moves_is_reason_to_hope() -> None:
    clock, coordinator = Clock(), Siblings()
    coordinator.ready = [SIBLING]
    moves = Moves(3, 0, 2, 0, 0)
    moving = moving_out(clock, moves, coordinator)
    async with running(moving, lambda: moves.moved == 5):
        clock.now += HOPE_TIME
        moving.look()
        assert moving.hopes
        assert moving.moved == 5
        assert moving.moves == drain_report.Moves(5, 1, 2, 0.25)
        clock.now += HOPE_TIME
        moving.look()
        assert not moving.hopes


async def test_a_worker_that_says_welcome_is_reason_to_hope_before_anybody_has_moved() -> None:
    clock, moves = Clock(), Moves()
    moving = moving_out(clock, moves, Siblings())
    clock.now += HOPE_TIME
    moves.signs += 1
    moving.look()
    assert moving.wake_at(math.inf) == clock.now + HOPE_TIME


async def test_who_is_asked_late_has_time_to_answer() -> None:
    """A busy machine lets the worker look for siblings only when its time is nearly over."""
    clock, coordinator, moves = Clock(), Siblings(), Moves(0, 0, 0, 0)
    coordinator.ready = [SIBLING]
    moving = moving_out(clock, moves, coordinator)
    clock.now += HOPE_TIME - 0.01
    async with running(moving, lambda: moves.rounds == 2):
        assert moving.wake_at(math.inf) == clock.now + ANSWER_TIME
        clock.now += ANSWER_TIME
        moving.look()
        assert not moving.hopes


async def test_there_is_none_where_everybody_leaves() -> None:
    coordinator = Siblings(WorkerRecord(1, state="draining"), WorkerRecord(2, state="draining"))
    moving = moving_out(Clock(), Moves(), coordinator)
    async with running(moving, lambda: coordinator.looks >= 1):
        assert not moving.hopes


@pytest.mark.parametrize("others", [(), (WorkerRecord(1, state="starting"),)])
async def test_there_is_some_where_somebody_may_come(others: tuple[WorkerRecord, ...]) -> None:
    coordinator = Siblings(*others)
    moving = moving_out(Clock(), Moves(), coordinator)
    async with running(moving, lambda: coordinator.looks >= 3):
        assert moving.hopes


async def test_a_successor_that_starts_is_waited_for_but_not_for_ever() -> None:
    clock, coordinator = Clock(), Siblings()
    coordinator.successor = True
    moving = moving_out(clock, Moves(), coordinator)
    began = clock.now
    coordinator.at_look = lambda: setattr(clock, "now", clock.now + 0.5)
    async with running(moving, lambda: not moving.hopes):
        pass
    assert SUCCESSOR_TIME <= clock.now - began <= SUCCESSOR_TIME + HOPE_TIME + 0.5


async def test_a_successor_is_not_waited_for_beyond_the_end_of_the_drain() -> None:
    clock, coordinator = Clock(), Siblings()
    coordinator.successor = True
    moving = MovingOut(Moves(), coordinator, 0.001, clock)
    moving.begin(clock.now + 0.5)
    assert moving.awaits_successor
    clock.now += 0.5
    assert not moving.awaits_successor


async def test_a_successor_is_no_hope_where_everybody_leaves() -> None:
    """Whoever is still being imported is told to leave like everybody else."""
    coordinator = Siblings(WorkerRecord(1, state="draining"))
    coordinator.successor = True
    moving = moving_out(Clock(), Moves(), coordinator)
    async with running(moving, lambda: coordinator.looks >= 1):
        assert not moving.hopes
        assert not moving.awaits_successor


async def test_an_error_ends_in_the_classic_drain(caplog: pytest.LogCaptureFixture) -> None:
    coordinator = Siblings()
    coordinator.ready = [SIBLING]
    moves = Moves()
    moving = moving_out(Clock(), moves, coordinator)
    async with running(moving, lambda: moves.rounds == 1):
        assert not moving.hopes
    assert moves.rounds == 1
    assert "what nobody has thought of" in caplog.text
