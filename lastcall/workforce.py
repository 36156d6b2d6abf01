"""The workers of a master: N places that are kept filled, without waiting for anybody."""

import logging
import math
import signal

from lastcall.exit_status import CANNOT_START, FAILED
from lastcall.replacement import Replacements, StartWorker
from lastcall.restart_policy import WorkerLimits
from lastcall.worker_process import CLEAN, Place, WorkerProcess, how_it_ended

OVERSLEPT = 3.0
"""Seconds between two steps after which it was the master that was stopped, not its workers."""

logger = logging.getLogger("lastcall")


class Workforce:
    """Starts workers, and others after them. Is told what has happened, and what time it is."""

    def __init__(
        self, start: StartWorker, size: int, limits: WorkerLimits, generation: int = 1
    ) -> None:
        """Prepare *size* places; nothing starts before the first `step`."""
        self.places = [Place(number, due=-math.inf) for number in range(1, size + 1)]
        self.replacements = Replacements(start, limits, generation)
        self.status = 0
        """What the server shall exit with."""
        self.is_stopping = False
        self.is_complete = False
        """Whether the server's start has once succeeded."""
        self.has_one_try = False
        """Whether no worker may end before the start is complete: somebody else serves as yet."""
        self._start = start
        self._limits = limits
        self._last_step = math.inf

    @property
    def workers(self) -> list[WorkerProcess]:
        """Everyone who was started and whose end has not been seen."""
        standing = [place.worker for place in self.places if place.worker is not None]
        return standing + self.replacements.workers

    @property
    def has_ended(self) -> bool:
        """Whether everybody was asked to leave and nobody is left."""
        return self.is_stopping and not self.workers

    @property
    def next_step(self) -> float:
        """When something is due at the latest; but call `step` every second, for what is not."""
        due = [place.due for place in self.places if place.due is not None]
        return min([*(due if self._may_start else []), self.replacements.deadline])

    def step(self, now: float) -> None:
        """Do what is due."""
        self._look_after_all(now)
        if self.is_stopping:
            return
        for place in self.places:
            if place.due is not None and place.due <= now and self._may_start:
                self._fill(place, now)
        self.replacements.step(self.places, now)

    def scale(self, size: int, now: float) -> None:
        """Have *size* places, one at least; who stands in one too many retires."""
        size = max(1, size)
        if self.is_stopping or size == len(self.places):
            return
        logger.info("From %d to %d workers", len(self.places), size)
        for number in range(len(self.places) + 1, size + 1):
            self.places.append(Place(number, due=now))
        removed, self.places = self.places[size:], self.places[:size]
        for place in removed:
            self.replacements.remove_place(place.number)
            if place.worker is not None:
                self.replacements.retire(place.worker)

    def stop(self, why: str, now: float) -> None:
        """Start nobody any more. Who is here is signalled by whoever asks for the stop."""
        self.is_stopping = True
        self.replacements.abandon(why, now)
        for place in self.places:
            place.due = None
            if place.worker is not None and self._is_for_nothing(place.worker):
                place.worker.end_soon(now)

    def step_back(self, now: float) -> list[WorkerProcess]:
        """Start nobody any more, and give away the places: who stood in them, to be retired."""
        replaced = [place.worker for place in self.places if place.worker is not None]
        self.stop("another master took over", now)
        for place in self.places:
            place.worker = None
        return replaced

    def signal_all(self, number: signal.Signals) -> None:
        """Send *number* to everybody."""
        for worker in self.workers:
            worker.signal(number)

    def became_ready(self, worker: WorkerProcess) -> bool:
        """*worker* serves now; whether this made the server's start complete."""
        logger.info("Worker [%d] is ready", worker.pid)
        if self.is_complete or self.is_stopping:
            return False
        self.is_complete = all(place.worker and place.worker.ready for place in self.places)
        return self.is_complete

    def look_for_ended(self, now: float) -> None:
        """See who has ended, and what follows."""
        for worker in self.workers:
            if worker.status is None:
                continue
            pid = worker.pid
            for place in self.places:
                if place.worker is worker:
                    place.worker = None
                    self._left_its_place(place, worker, worker.status, now)
                    break
            else:
                self._left_without_place(worker, worker.status, now)
            self.replacements.note_end(pid, now)
            worker.close()

    @property
    def _may_start(self) -> bool:
        """Whether one more may start now: not all at once while another master's workers serve."""
        if self.is_complete or not self.has_one_try:
            return True
        standing = [place.worker for place in self.places if place.worker is not None]
        return sum(not worker.ready for worker in standing) < self._limits.starting

    def _look_after_all(self, now: float) -> None:
        overslept, self._last_step = now - self._last_step > OVERSLEPT, now
        for worker in self.workers:
            if overslept:
                worker.excuse(now)
            worker.look_after(self._limits.silence, now)

    def _fill(self, place: Place, now: float) -> None:
        try:
            place.worker = self._start(generation=self.replacements.generation, now=now)
        except OSError as error:
            place.due = now + place.backoff.after(0)
            logger.error("Worker %d cannot be started now: %s", place.number, error)  # noqa: TRY400  (the system's state, no bug of ours to trace)
        else:
            place.due = None

    def _left_without_place(self, worker: WorkerProcess, status: int, now: float) -> None:
        self.replacements.ended(worker, now)
        if self.is_stopping and _has_failed(worker, status):
            self.status = self.status or FAILED

    def _left_its_place(self, place: Place, worker: WorkerProcess, status: int, now: float) -> None:
        how = how_it_ended(worker)
        if self.is_stopping:
            logger.info("%s; %d left", how, len(self.workers))
            if _has_failed(worker, status):
                self.status = self.status or FAILED
        elif not worker.ready and self._cannot_start(status):
            logger.error("%s before it was ready: the server cannot start", how)
            self.status = CANNOT_START
            self.stop("the server cannot start", now)
            self.signal_all(signal.SIGTERM)
        elif status in CLEAN and worker.ready:
            logger.info("%s; a new one takes its place", how)
            place.due = now
        else:
            delay = place.backoff.after(now - worker.started_at)
            logger.error("%s; a new one takes its place in %g s", how, delay)
            place.due = now + delay

    def _is_for_nothing(self, worker: WorkerProcess) -> bool:
        """Whether it may hang in its start, and nobody would miss it."""
        return self.has_one_try and not self.is_complete and not worker.ready

    def _cannot_start(self, status: int) -> bool:
        if self.has_one_try and not self.is_complete:
            return True
        others_serve = self.is_complete and any(worker.ready for worker in self.workers)
        return status == CANNOT_START and not others_serve


def _has_failed(worker: WorkerProcess, status: int) -> bool:
    """Whether *worker* ended badly in a stop: who never served anybody only did not start."""
    return status not in CLEAN and (worker.ready or status == -signal.SIGKILL)
