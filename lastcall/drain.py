"""How a worker leaves, without a clock: when to tell clients, how many to close, when to go."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """What a drain goes by. Times in seconds, *close_rate* in connections a second."""

    timeout: float
    notice_interval: float
    close_rate: float
    close_wait: float = 3.0
    """How long a closed client may take to answer, after the deadline, before it is cut."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, and when to ask again."""

    notify: bool = False
    close: int = 0
    abort: bool = False
    finished: bool = False
    wake_at: float = math.inf


class Drain:
    """One worker's leaving. Every call of `step` passes the time in; it never goes back."""

    def __init__(self, policy: DrainPolicy, started_at: float) -> None:
        """Start leaving at *started_at*."""
        self._policy = policy
        self._next_notice = started_at
        self._deadline = started_at + policy.timeout
        self._is_closing = False
        self._next_close = started_at

    @property
    def deadline(self) -> float:
        """When the last client has to be closed."""
        return self._deadline

    def force(self, now: float) -> None:
        """Somebody is in a hurry: the deadline is now."""
        self._deadline = min(self._deadline, now)

    def step(self, *, now: float, open_connections: int, not_closed: int) -> Step:
        """Decide what is due.

        Args:
            now: the time.
            open_connections: clients that are still there, closed or not.
            not_closed: those of them that have not been sent a close yet.
        """
        if open_connections == 0:
            return Step(finished=True)
        if now >= self._deadline + self._policy.close_wait:
            return Step(abort=True, finished=True)
        close = self._due_to_close(now, not_closed)
        notify = now >= self._next_notice and not_closed > close
        if notify:
            # On the grid, so that lateness does not add up; what was missed is not made up for.
            missed = (now - self._next_notice) // self._policy.notice_interval
            self._next_notice += (missed + 1) * self._policy.notice_interval
            if self._next_notice <= now:  # the division may round to just below a whole number
                self._next_notice += self._policy.notice_interval
        return Step(notify=notify, close=close, wake_at=self._wake_at(now, not_closed - close))

    def _due_to_close(self, now: float, not_closed: int) -> int:
        if now >= self._deadline:
            return not_closed
        rate = self._policy.close_rate
        if not self._is_closing:
            if now < self._deadline - not_closed / rate:
                return 0
            self._is_closing = True
            # The time in which nobody had to be closed is no credit.
            self._next_close = max(self._next_close, now)
        due = int((now - self._next_close) * rate) + 1 if now >= self._next_close else 0
        close = min(due, not_closed)
        self._next_close += close / rate
        # Whoever still comes has as much time as the others had.
        self._is_closing = close < not_closed
        return close

    def _wake_at(self, now: float, not_closed: int) -> float:
        if not_closed == 0:
            return self._deadline + self._policy.close_wait
        if self._is_closing:
            # Ten batches a second: even enough for load balancers, rare enough for the CPU.
            next_batch = max(now + 0.1, self._next_close)
            return min(self._deadline, self._next_notice, next_batch)
        closing_from = self._deadline - not_closed / self._policy.close_rate
        return min(self._next_notice, closing_from)
