"""How much is asked of an engine."""

from dataclasses import dataclass

from benchmarks.runs import Scale


@dataclass(frozen=True, slots=True)
class EngineScale(Scale):
    """As of the servers; and of what only engines have."""

    subscribers: int = 1000
    each: int = 100
    """Channels of each of them: 100,000 on one worker."""
    at_once: int = 50
    """Clients that connect together."""
    hearers: tuple[int, ...] = (3, 9)
    """Workers that hear what one of them publishes."""
    hearing_rates: tuple[int, ...] = (200, 2000)
    """Publications a second."""


QUICK = EngineScale(
    rounds=1, seconds=0.3, clients=40, subscribers=20, each=10, at_once=10, hearers=(3, 4)
)
