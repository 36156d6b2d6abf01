"""One timer for all: who is called, when, and who is not."""

import asyncio
from collections.abc import Callable

import pytest

from lastcall.uvicorn_deadlines import Deadlines, deadlines_of

pytestmark = pytest.mark.anyio


class Waiting:
    """Waits for a moment and remembers when it came."""

    def __init__(self, called: list["Waiting"], then: Callable[[], object] = lambda: None) -> None:
        """Add itself to *called* when the moment has come."""
        self.due_step = 0
        self._called = called
        self._then = then
        self.at = 0.0

    def due(self) -> None:
        """The moment."""
        self.at = asyncio.get_running_loop().time()
        self._called.append(self)
        self._then()


async def until_called(called: list[Waiting], count: int) -> None:
    async with asyncio.timeout(5):
        while len(called) < count:  # noqa: ASYNC110  (what it waits for has no event)
            await asyncio.sleep(0.01)


async def test_everyone_is_called_at_their_time() -> None:
    deadlines, called = Deadlines(), list[Waiting]()
    begin = asyncio.get_running_loop().time()
    late, soon, moved, gone = (Waiting(called) for _ in range(4))
    # In the order in which they are due, so that a pause between two lines changes nothing.
    deadlines.set(gone, 0.1)
    deadlines.set(moved, 0.1)
    deadlines.set(soon, 0.1)
    deadlines.set(moved, 0.3)
    deadlines.set(late, 0.4)
    deadlines.clear(gone)
    deadlines.clear(gone)

    await until_called(called, 3)

    assert called == [soon, moved, late]
    assert [round(w.at - begin, 3) >= at for w, at in ((soon, 0.05), (late, 0.35))] == [True] * 2
    assert {w.due_step for w in (late, soon, moved, gone)} == {0}


async def test_whoever_is_called_may_move_or_stop_the_others() -> None:
    deadlines, called = Deadlines(), list[Waiting]()
    members: list[Waiting] = []

    def first_of_all() -> None:
        if len(called) == 1:
            one, two = (member for member in members if member is not called[0])
            deadlines.clear(one)
            deadlines.set(two, 0.2)

    members += [Waiting(called, first_of_all) for _ in range(3)]
    for member in members:
        deadlines.set(member, 0.1)

    await until_called(called, 2)

    assert len(set(called)) == 2
    assert called[1].at - called[0].at > 0.1


async def test_a_moment_that_has_passed_does_not_stop_the_timer() -> None:
    """A busy loop is late: whoever is called then sets a deadline beside others long overdue."""
    deadlines, called = Deadlines(), list[Waiting]()
    overdue, later = Waiting(called), Waiting(called)

    deadlines.set(overdue, -1)
    deadlines.set(later, 0.1)

    await until_called(called, 2)
    assert called == [overdue, later]


async def test_a_loop_has_one() -> None:
    loop = asyncio.get_running_loop()

    assert deadlines_of(loop) is deadlines_of(loop)
