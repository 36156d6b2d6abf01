"""Replacing workers without a gap: the new ones are ready first, then the old ones retire."""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lastcall.deploy import Deploy, Kind
from lastcall.drain_report import DrainReport
from lastcall.restart_policy import WorkerLimits
from lastcall.systemd_notify import notify, notify_reloading
from lastcall.worker_process import CLEAN, Place, WorkerProcess, how_it_ended

DEPLOYS_REMEMBERED = 10

logger = logging.getLogger("lastcall")


type Drained = Callable[[Sequence[int]], DrainReport | None]
"""What the workers with these pids have done to their clients while they left, as far as known."""


class StartWorker(Protocol):
    """Starts a process."""

    def __call__(self, *, generation: int, now: float) -> WorkerProcess:
        """Start a worker of *generation*.

        Raises:
            OSError: the system has no room for another process.
        """
        ...


@dataclass(slots=True)
class Replacement:
    """New workers for some places: they take over when all of them are ready, or none does."""

    deploy: Deploy
    waiting: deque[int]
    """The numbers of the places for which nobody has been started yet."""
    deadline: float
    successors: dict[int, WorkerProcess] = field(default_factory=dict)
    """By the number of the place."""

    @property
    def starting(self) -> int:
        """How many have been started and are not ready."""
        return sum(not worker.ready for worker in self.successors.values())

    @property
    def is_ready(self) -> bool:
        """Whether all can take over; nothing is missing where no place is left, either."""
        return not (self.waiting or self.starting)


class Replacements:
    """One replacement at a time, what waits for its turn, and those who retire meanwhile."""

    def __init__(self, start: StartWorker, limits: WorkerLimits, generation: int) -> None:
        """Replace nobody yet; *generation* is that of the first workers."""
        self.generation = generation
        """Counts the reloads; a worker's says during or after which it was started."""
        self.deploys: deque[Deploy] = deque(maxlen=DEPLOYS_REMEMBERED)
        """The last ones, newest last."""
        self.drained: Drained = lambda _: None
        self._start = start
        self._limits = limits
        self._under_way: Replacement | None = None
        self.is_reload_wanted = False
        self._retiring: list[WorkerProcess] = []
        self._begun = 0

    @property
    def workers(self) -> list[WorkerProcess]:
        """Those who stand in no place: not yet, or not any more."""
        coming = self._under_way.successors.values() if self._under_way is not None else ()
        return [*coming, *self._retiring]

    @property
    def deadline(self) -> float:
        """When the replacement under way has to be over."""
        return self._under_way.deadline if self._under_way is not None else math.inf

    @property
    def next_number(self) -> int:
        """Of the next deploy."""
        return self._begun + 1

    @property
    def is_busy(self) -> bool:
        """Whether a replacement is under way, or waits."""
        return self._under_way is not None or self.is_reload_wanted

    @property
    def _is_held(self) -> bool:
        """Whether an upgrade is starting: one thing at a time."""
        return bool(self.deploys) and self.deploys[-1].is_starting

    def want_reload(self) -> int:
        """Replace everybody at the next step, or as soon as what is under way is over.

        Returns the number that the reload will have.
        """
        if self._under_way is not None:
            logger.info("A reload will follow the %s under way", self._under_way.deploy.kind)
        self.is_reload_wanted = True
        return self.next_number

    def step(self, places: Sequence[Place], now: float) -> None:
        """Give up what takes too long, begin what waits."""
        if self._under_way is not None:
            if self.deadline <= now:
                self._give_up(f"not everybody is ready after {self._limits.ready:g} s", now)
            else:
                self._start_next(now)
                self._take_over_if_ready(places, now)
        if self._under_way is not None or self._is_held:
            return
        if self.is_reload_wanted:
            self.is_reload_wanted = False
            self.generation += 1
            self._begin(places, Kind.RELOAD, now)
        else:
            # Who has waited longest: a short lifetime in the first place starves no other one.
            oldest = min(places, key=lambda place: place.worn_at, default=None)
            if oldest is not None and oldest.worn_at <= now:
                oldest.recycle_after = now + oldest.backoff.after(0)  # if this one fails
                self._begin([oldest], Kind.RECYCLE, now)

    def begin_upgrade(self, now: float) -> Deploy:
        """Write down that another master is started; nothing else begins until that is decided."""
        self.generation += 1
        return self._write_down(Kind.UPGRADE, now)

    def _write_down(self, kind: Kind, now: float) -> Deploy:
        self._begun += 1
        deploy = Deploy(self._begun, kind, self.generation, began_at=now)
        self.deploys.append(deploy)
        return deploy

    def retire(self, worker: WorkerProcess) -> None:
        """Ask a worker to leave that has no place any more."""
        self._retiring.append(worker)
        worker.retire()

    def remove_place(self, number: int) -> None:
        """Nobody is to stand there any more."""
        if self._under_way is not None and number in self._under_way.waiting:
            self._under_way.waiting.remove(number)
        successors = self._under_way.successors if self._under_way is not None else {}
        if number in successors:
            self.retire(successors.pop(number))

    def abandon(self, reason: str, now: float) -> None:
        """Begin nothing any more; the successors stay, to be signalled with everybody else."""
        self.is_reload_wanted = False
        if self._under_way is not None:
            self._under_way.deploy.given_up(reason, now)
            self._retiring += self._under_way.successors.values()
            self._under_way = None

    def ended(self, worker: WorkerProcess, now: float) -> bool:
        """Take note of an end; whether it was one of *workers*."""
        if worker in self._retiring:
            self._retiring.remove(worker)
            logger.log(
                logging.INFO if worker.status in CLEAN else logging.ERROR,
                "%s; it was retiring, %d others are",
                how_it_ended(worker),
                len(self._retiring),
            )
        elif self._under_way is not None and worker in self._under_way.successors.values():
            number = next(n for n, each in self._under_way.successors.items() if each is worker)
            del self._under_way.successors[number]
            self._give_up(how_it_ended(worker), now)
        else:
            return False
        return True

    def note_end(self, pid: int, now: float) -> None:
        """See whether a replacement is complete by this end."""
        for deploy in self.deploys:
            if deploy.worker_ended(pid, now):
                drain = self.drained(deploy.replaced)
                told = f": {drain.sentence()}" if drain is not None else ""
                logger.info(
                    "%s complete: %d workers retired in %.1f s%s",
                    deploy.title,
                    deploy.retired,
                    deploy.took,
                    told,
                )

    def _begin(self, places: Sequence[Place], kind: Kind, now: float) -> None:
        deploy = self._write_down(kind, now)
        numbers = deque(place.number for place in places)
        self._under_way = Replacement(deploy, numbers, deadline=now + self._limits.ready)
        logger.info("%s: starting %d workers", deploy.title, len(places))
        if kind is Kind.RELOAD:
            notify_reloading()
        self._start_next(now)

    def _start_next(self, now: float) -> None:
        """Start as many as may start at once; each has its own time to become ready."""
        replacement = self._under_way
        while replacement and replacement.waiting and replacement.starting < self._limits.starting:
            try:
                successor = self._start(generation=self.generation, now=now)
            except OSError as error:
                self._give_up(f"a worker cannot be started now: {error}", now)
                return
            replacement.successors[replacement.waiting.popleft()] = successor
            replacement.deadline = now + self._limits.ready

    def _take_over_if_ready(self, places: Sequence[Place], now: float) -> None:
        if self._under_way is None or not self._under_way.is_ready:
            return
        successors, deploy = self._under_way.successors, self._under_way.deploy
        self._under_way = None
        replaced = []
        for place in places:
            if place.number in successors:
                if place.worker is not None:
                    replaced.append(place.worker)
                place.worker, place.due = successors[place.number], None
        logger.info("%s: all are ready, %d workers retire", deploy.title, len(replaced))
        if deploy.kind is Kind.RELOAD:
            notify("READY=1")
        deploy.took_over({worker.pid for worker in replaced}, now)
        # Only now, and all at once: they hand their clients to those who stay, not to each other.
        for worker in replaced:
            self.retire(worker)

    def _give_up(self, reason: str, now: float) -> None:
        if self._under_way is None:
            return
        deploy, successors = self._under_way.deploy, self._under_way.successors
        self._under_way = None
        deploy.given_up(reason, now)
        if deploy.kind is Kind.RELOAD:
            notify("READY=1")  # as before
        logger.error("%s given up, the old workers stay: %s", deploy.title, reason)
        for worker in successors.values():
            self.retire(worker)
            if not worker.ready:
                # It has no clients, to whom one that is ready would say goodbye; and it may hang.
                worker.end_soon(now)
