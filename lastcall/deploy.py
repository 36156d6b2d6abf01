"""What a replacement of workers has done so far, for the log and for `lastcall status`."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class Kind(StrEnum):
    """What makes a master replace workers that serve."""

    RELOAD = "reload"
    RECYCLE = "recycling"
    UPGRADE = "upgrade"


class Phase(StrEnum):
    """How far it has come."""

    STARTING = "starting"
    RETIRING = "retiring"
    DONE = "done"
    GIVEN_UP = "given up"


@dataclass(slots=True)
class Deploy:
    """One replacement, from its request to the end of the last worker that it replaced."""

    number: int
    kind: Kind
    generation: int
    """Of the new workers."""
    began_at: float
    """By the master's clock, in seconds; only differences mean something."""
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """By the wall clock."""
    phase: Phase = Phase.STARTING
    reason: str = ""
    """Why it was given up."""
    retiring: set[int] = field(default_factory=set)
    """Pids of the workers that it replaced and that have not left yet."""
    replaced: list[int] = field(default_factory=list)
    """Pids of all workers that it has replaced, also when they are gone."""
    retired: int = 0
    """How many of them have left."""
    ready_after: float | None = None
    took: float | None = None

    @property
    def title(self) -> str:
        """What the log calls it."""
        return f"{self.kind.capitalize()} {self.number}"

    @property
    def is_starting(self) -> bool:
        """Whether it may still come to nothing."""
        return self.phase is Phase.STARTING

    def took_over(self, retiring: set[int], now: float) -> None:
        """The new workers are ready, and these are asked to leave."""
        self.ready_after = now - self.began_at
        self.phase, self.retiring = Phase.RETIRING, retiring
        self.replaced = sorted(retiring)
        self._look_whether_done(now)

    def given_up(self, reason: str, now: float) -> None:
        """The old workers stay."""
        self.phase, self.reason, self.took = Phase.GIVEN_UP, reason, now - self.began_at

    def worker_ended(self, pid: int, now: float) -> bool:
        """Whether this was the last that it had replaced."""
        if pid not in self.retiring:
            return False
        self.retiring.remove(pid)
        self.retired += 1
        return self._look_whether_done(now)

    def _look_whether_done(self, now: float) -> bool:
        if self.retiring:
            return False
        self.phase, self.took = Phase.DONE, now - self.began_at
        return True
