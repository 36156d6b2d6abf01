"""What the rounds of chaos came to, so far; kept, so that a later session can go on with it."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.deploys.crowd import CUT, Report


@dataclass(slots=True)
class Rounds:
    """How many there were, and what became of the clients."""

    kinds: Counter[str] = field(default_factory=Counter)
    """By what was done, and to whom."""
    undisturbed: int = 0
    """Clients, summed over the rounds."""
    closed: Counter[int] = field(default_factory=Counter)
    reset: int = 0
    heard: int = 0
    recovery: dict[str, float] = field(default_factory=dict)
    """Seconds from a death until all workers were ready again: the longest of each master."""
    stop: dict[str, float] = field(default_factory=dict)
    """Seconds from the last signal until every process was gone: the same."""
    seconds: float = 0.0
    """All of it, starts included."""

    @classmethod
    def kept(cls, figures: dict[str, Any]) -> "Rounds":
        """Go on with what `figures` gave."""
        closed = Counter({int(code): count for code, count in figures["closed"].items()})
        return cls(**{**figures, "kinds": Counter(figures["kinds"]), "closed": closed})

    @property
    def figures(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {**asdict(self), "kinds": dict(self.kinds), "closed": dict(self.closed)}

    @property
    def count(self) -> int:
        """How many."""
        return self.kinds.total()

    def add(self, what: str, report: Report) -> None:
        """Count a round."""
        self.kinds[what] += 1
        self.undisturbed += report.clients
        self.reset += report.codes[CUT]
        self.closed += report.codes
        del self.closed[CUT]
        self.heard += report.heard

    @property
    def longest(self) -> str:
        """Of recoveries and of stops, in words."""
        ready, gone = (
            ", ".join(f"{seconds:.1f} s under {name}" for name, seconds in sorted(each.items()))
            for each in (self.recovery, self.stop)
        )
        return f"all workers ready again within {ready}; everything gone within {gone}"

    def recovered(self, runner: str, seconds: float) -> None:
        """After a death, so many later, all workers were ready."""
        self.recovery[runner] = max(self.recovery.get(runner, 0.0), round(seconds, 2))

    def gone(self, runner: str, seconds: float) -> None:
        """So many after the last signal there was no process any more."""
        self.stop[runner] = max(self.stop.get(runner, 0.0), round(seconds, 2))
