"""While a worker leaves: who takes its clients, and may they be spared the notice until then?"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from lastcall.drain_report import Moves
from lastcall.logs import logger
from lastcall.worker_coordinator import Coordinator
from lastcall.worker_record import WorkerRecord

HOPE_TIME = 0.75
"""Seconds without a sign that they move after which clients are told, whoever may still come."""
ANSWER_TIME = 0.6
"""Seconds for the first sibling to answer: on a busy machine the signal may be long ago by then."""
SUCCESSOR_TIME = 10.0
"""Seconds for which clients are not told because a worker that could take them is starting."""


class HandOver(Protocol):
    """Takes connections to other workers."""

    signs: int
    """How often another worker has said that it takes somebody, or has taken them."""
    moved: int
    """How many it has taken there."""
    lost: int
    """How many were closed, because the worker that took them died."""
    replayed: int
    """Messages that those who moved got afterwards."""
    longest_pause: float
    """Seconds for which a client was served by nobody, at most."""

    async def round(self, siblings: Sequence[WorkerRecord]) -> None:
        """Hand over whoever can be moved now to one of *siblings*; the others stay."""


class NoHandOver:
    """Clients stay where they are."""

    signs = 0
    moved = 0
    lost = 0
    replayed = 0
    longest_pause = 0.0

    async def round(self, siblings: Sequence[WorkerRecord]) -> None:
        """Move nobody."""


class MovingOut:
    """Hands connections over as long as there is somebody to take them.

    A client that moves shall notice nothing, so it is not told that the server leaves while there
    is hope. There is at first, until the first sibling that was asked should have answered, and
    for `HOPE_TIME` after each sign that somebody moves; longer where a successor is on its way, for
    `SUCCESSOR_TIME` at most; and none where every sibling leaves as well.
    """

    def __init__(
        self,
        hand_over: HandOver | None,
        coordinator: Coordinator,
        settling_time: float,
        clock: Callable[[], float],
    ) -> None:
        """Move by *hand_over*, if there is a way; look for siblings every *settling_time*."""
        self._hand_over = hand_over or NoHandOver()
        self._has_way = hand_over is not None
        self._coordinator = coordinator
        self._settling_time = settling_time
        self._clock = clock
        self._has_asked = False
        self._seen = 0
        self.hopes_until = -math.inf
        self._patient_until = -math.inf
        self._no_hope_after = math.inf

    @property
    def hopes(self) -> bool:
        """Whether those who can move will probably be moved."""
        return self._clock() < self.hopes_until

    def wake_at(self, otherwise: float) -> float:
        """When there may be less hope, or *otherwise* if that comes before."""
        return min(self.hopes_until, otherwise) if self.hopes else otherwise

    @property
    def moved(self) -> int:
        """How many are with others now."""
        return self._hand_over.moved

    @property
    def moves(self) -> Moves:
        """What has become of those who were to move, for the report."""
        done = self._hand_over
        return Moves(done.moved, done.lost, done.replayed, done.longest_pause)

    @property
    def awaits_successor(self) -> bool:
        """Whether whoever is here, or comes now, will probably be taken by a worker that starts."""
        is_patient = self.hopes and self._clock() < self._patient_until
        return is_patient and self._coordinator.expects_successor()

    def begin(self, deadline: float = math.inf) -> None:
        """Hope, if there is a way: until halfway to *deadline*, so that everybody can be told."""
        now = self._clock()
        self._no_hope_after = now + (deadline - now) / 2
        if self._has_way:
            self._hope(now)
            self._patient_until = min(now + SUCCESSOR_TIME, self._no_hope_after)

    def look(self) -> None:
        """A sign since the last look is reason to hope on."""
        if self._hand_over.signs > self._seen:
            self._seen = self._hand_over.signs
            self._hope(self._clock())

    async def run(self, changed: Callable[[], None]) -> None:
        """Move until cancelled; *changed* is called when there is less hope or fewer clients."""
        while self._has_way:
            # Also before the first look: a stop of all of them reaches each in turn.
            await anyio.sleep(self._settling_time)
            ready = self._coordinator.ready_siblings()
            if ready:
                await self._round(ready)
            else:
                self._look_for_hope()
            changed()

    def _look_for_hope(self) -> None:
        siblings = self._coordinator.siblings()
        # Where nobody is, or somebody starts, there may soon be one who is ready.
        if siblings and all(each.state == "draining" for each in siblings):
            self._give_up_hope()
        elif self.awaits_successor:
            self._hope(self._clock())

    async def _round(self, ready: Sequence[WorkerRecord]) -> None:
        if not self._has_asked:
            self._has_asked = True
            self._hope(self._clock(), ANSWER_TIME)
        try:
            await self._hand_over.round(ready)
        except Exception:  # noqa: BLE001  (whatever it is, those who stayed are drained as ever)
            logger.exception("connections are not handed over any more")
            self._has_way = False
            self._give_up_hope()

    def _hope(self, now: float, seconds: float = HOPE_TIME) -> None:
        self.hopes_until = min(max(self.hopes_until, now + seconds), self._no_hope_after)

    def _give_up_hope(self) -> None:
        self.hopes_until = min(self.hopes_until, self._clock())
