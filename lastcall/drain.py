"""How a worker leaves, without a clock: when to tell clients, how many to close, when to go."""

import math
from dataclasses import dataclass

BATCH_TIME = 0.1
"""Seconds between two batches: even enough for load balancers, rare enough for the CPU."""
CREDIT = 0.2
"""Seconds of lateness that are made up for. After a longer one the pace is computed anew: it is
the clients' next server that would feel what we have slept through."""

MOMENT = 1e-6
"""Seconds; no time left is shorter, so that everything can be divided by it."""


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """What a drain goes by. Times in seconds, *release_rate* in clients a second."""

    timeout: float
    notice_interval: float
    release_rate: float
    """Of all workers that leave together. Exceeded only where the time is too short for it."""
    close_wait: float = 3.0
    """How long a closed client may take to answer, after the deadline, before it is cut."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, and when to ask again."""

    notify: bool = False
    release: int = 0
    """How many to close of those who come back by themselves."""
    close: int = 0
    """How many to close of the others."""
    abort: bool = False
    finished: bool = False
    wake_at: float = math.inf


class Drain:
    """One worker's leaving. Every call of `step` passes the time in; it never goes back.

    Who comes back by itself is released from the start. Who does not is left alone for as long as
    the pace allows. Both go at one pace, and one after the other: `release_rate`, as long as that
    is enough to be done by the deadline; else what is left, spread evenly over the time left.
    """

    def __init__(self, policy: DrainPolicy, started_at: float) -> None:
        """Start leaving at *started_at*."""
        self._policy = policy
        self._rate = policy.release_rate
        self._next_notice = started_at
        self._deadline = started_at + policy.timeout
        self._next_release = started_at
        self._is_releasing = False

    @property
    def deadline(self) -> float:
        """When the last client has to be closed."""
        return self._deadline

    def force(self, now: float) -> None:
        """Somebody is in a hurry: the deadline is now."""
        self._deadline = min(self._deadline, now)

    def share_rate(self, workers: int) -> None:
        """Know that so many *workers* leave together, this one included."""
        self._rate = self._policy.release_rate / max(1, workers)

    def step(
        self,
        *,
        now: float,
        open_connections: int,
        not_closed: int,
        returning: int = 0,
        spared: int = 0,
    ) -> Step:
        """Decide what is due.

        Args:
            now: the time.
            open_connections: clients that are still there, closed or not.
            not_closed: those of them that have not been sent a close yet.
            returning: those of them that come back by themselves and may be released.
            spared: others of them that another worker will probably take; nobody of them is closed
                before the deadline.
        """
        if open_connections == 0:
            return Step(finished=True)
        if now >= self._deadline + self._policy.close_wait:
            return Step(abort=True, finished=True)
        staying = not_closed - returning - spared
        if now >= self._deadline:
            release, close = returning, staying + spared
        else:
            release, close = self._due(now, returning, staying)
        if not_closed == release + close:
            over_at = self._deadline + self._policy.close_wait
            return Step(release=release, close=close, wake_at=over_at)
        notify = self._is_notice_due(now)
        wake_at = min(self._next_notice, self._next_batch(now, staying - close))
        return Step(notify=notify, release=release, close=close, wake_at=wake_at)

    def _is_notice_due(self, now: float) -> bool:
        if now < self._next_notice:
            return False
        # On the grid, so that lateness does not add up; what was missed is not made up for.
        interval = self._policy.notice_interval
        self._next_notice += ((now - self._next_notice) // interval + 1) * interval
        if self._next_notice <= now:  # the division may round to just below a whole number
            self._next_notice += interval
        return True

    def _due(self, now: float, returning: int, staying: int) -> tuple[int, int]:
        """How many to release and how many to close, before the deadline."""
        waiting = returning + staying
        wanted = waiting if now >= self._closing_from(staying) else returning
        # The time in which nobody had to be closed is no credit.
        credit = CREDIT if self._is_releasing else 0
        since = max(self._next_release, now - credit)
        due = 0
        if wanted and since <= now:
            pace = self._pace(since, waiting)
            due = min(int((now - since) * pace) + 1, wanted)
            self._next_release = since + due / pace
        elif wanted:
            # Appointed when fewer were here, or there was more time for them.
            self._next_release = min(since, now + 1 / self._pace(now, waiting))
        # Whoever still comes has as much time as the others had.
        self._is_releasing = due < wanted
        release = min(due, returning)
        return release, due - release

    def _pace(self, now: float, waiting: int) -> float:
        """Clients a second, with which all that wait from *now* on are out by the deadline."""
        return max(self._rate, waiting / max(MOMENT, self._deadline - now))

    def _closing_from(self, staying: int) -> float:
        """Until when those who do not come back by themselves are left alone."""
        return self._deadline - staying / self._rate

    def _next_batch(self, now: float, staying: int) -> float:
        if self._is_releasing:
            return min(self._deadline, max(now + BATCH_TIME, self._next_release))
        return self._closing_from(staying)
