"""When a supervisor starts a worker again, and what a stop signal means; without a clock."""

import math
from dataclasses import dataclass, field
from enum import Enum

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
HEALTHY_AFTER = 60.0
ONE_REQUEST = 0.5
LIFETIME_JITTER = 0.1


class Stop(Enum):
    """How workers are asked to stop, in the order of insistence."""

    LEAVE = "stopping"
    END = "ending at once"
    KILL = "killing"


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How long a worker may take for what, in seconds; None is for ever."""

    ready: float = 30
    """From its start until it is ready, when it is to take another's place."""
    silence: float | None = 30
    """Between two heartbeats of its event loop."""
    starting: int = 1
    """How many may start at the same time while others serve, who need the processor more."""
    lifetime: float | None = None
    """Until it is replaced, less a random tenth: workers of one age should not go together."""

    def ready_in_turn(self, workers: int) -> float:
        """Until so many are ready, when others serve meanwhile."""
        return self.ready * math.ceil(workers / self.starting)

    def lifetime_of_one(self, chance: float) -> float | None:
        """Draw one worker's lifetime; *chance* is from 0 to 1."""
        return None if self.lifetime is None else self.lifetime * (1 - LIFETIME_JITTER * chance)


@dataclass(slots=True)
class Backoff:
    """How long to wait before a worker is started again: longer each time, up to a bound."""

    _next: float = FIRST_DELAY

    def after(self, lived: float) -> float:
        """Seconds to wait after a worker that lived for *lived* seconds; a minute is health."""
        if lived >= HEALTHY_AFTER:
            self._next = FIRST_DELAY
        delay = self._next
        self._next = min(2 * delay, LONGEST_DELAY)
        return delay


@dataclass(slots=True)
class StopRequests:
    """What each SIGTERM and SIGINT to the master means for its workers.

    The first is a request to leave, however often it is repeated as SIGTERM: the last worker's
    message is one too. A SIGINT later than half a second after it means now, one more means at
    any price. Within half a second they are one request: a terminal sends Ctrl-C to the whole
    process group, and what started us may send SIGTERM on top.
    """

    _steps: list[Stop] = field(default_factory=lambda: list(Stop))
    _last: float | None = None

    def received(self, *, interrupt: bool, now: float) -> Stop | None:
        """What a SIGINT (*interrupt*) or SIGTERM asks of the workers; None: nothing new."""
        if self._last is not None and not (interrupt and now - self._last > ONE_REQUEST):
            return None
        self._last = now
        return self._steps.pop(0) if self._steps else None
