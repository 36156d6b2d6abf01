"""One timer for all connections of an event loop."""

import asyncio
import heapq
import math
from typing import Protocol
from weakref import WeakKeyDictionary

_STEPS_A_SECOND = 10


class Timed(Protocol):
    """What can wait for one moment at a time."""

    due_step: int
    """The step it waits for; 0: none. Only `Deadlines` touches it."""

    def due(self) -> None:
        """The moment has come; it no longer waits for any."""
        ...


class Deadlines:
    """Calls whoever waits, at most a tenth of a second late.

    A timer of its own would cost each connection half a kilobyte and, for ten thousand of them,
    a heap that is turned over with every ping. Here a connection is one entry in a set of all
    that wait for the same tenth of a second.
    """

    def __init__(self) -> None:
        """Nothing is scheduled while nobody waits."""
        self._waiting: dict[int, set[Timed]] = {}
        self._steps: list[int] = []
        self._timer: asyncio.Handle | None = None
        self._timer_step = 0

    def set(self, timed: Timed, delay: float) -> None:
        """Call *timed* in *delay* seconds, instead of when it waited for before."""
        if timed.due_step:
            self.clear(timed)
        loop = asyncio.get_running_loop()
        step = math.ceil((loop.time() + delay) * _STEPS_A_SECOND)
        timed.due_step = step
        waiting = self._waiting.get(step)
        if waiting is None:
            waiting = self._waiting[step] = set()
            heapq.heappush(self._steps, step)
            self._schedule(loop)
        waiting.add(timed)

    def clear(self, timed: Timed) -> None:
        """Do not call *timed*."""
        waiting = self._waiting.get(timed.due_step)
        if waiting is not None:
            waiting.discard(timed)
        timed.due_step = 0

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        step = self._steps[0]
        if self._timer is not None:
            # The handle is not asked: for a moment that has passed, uvloop's knows none.
            if self._timer_step <= step:
                return
            self._timer.cancel()
        self._timer_step = step
        self._timer = loop.call_at(step / _STEPS_A_SECOND, self._ring)

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        # A loop may call a little early: half a step of grace keeps it from calling twice.
        now = loop.time() * _STEPS_A_SECOND + 0.5
        while self._steps and self._steps[0] <= now:
            step = heapq.heappop(self._steps)
            for timed in self._waiting.pop(step):
                # Whoever was called before may have moved it or let it go.
                if timed.due_step == step:
                    timed.due_step = 0
                    timed.due()
        if self._steps:
            self._schedule(loop)


_DEADLINES: WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines] = WeakKeyDictionary()


def deadlines_of(loop: asyncio.AbstractEventLoop) -> Deadlines:
    """The one timer of *loop*."""
    found = _DEADLINES.get(loop)
    if found is None:
        found = _DEADLINES[loop] = Deadlines()
    return found
