"""How long a worker may take to leave: our own setting, or whoever would kill it earlier."""

from collections.abc import Iterable
from dataclasses import dataclass

KILL_MARGIN = 5.0
"""Seconds before a kill by which the last client has to be closed.

Three of them are for clients to answer the close (`DrainPolicy.close_wait`), the others for the
application's own shutdown.
"""


@dataclass(frozen=True, slots=True)
class StopLimit:
    """Leaving has to be over *seconds* after the signal, because of what *name* names."""

    seconds: float
    name: str
    """As the operator knows it: ``--timeout-graceful-shutdown``."""
    kills: bool = True
    """Whether the process is killed then; otherwise it is only not waited for."""


def limit_in_force(own: StopLimit, others: Iterable[StopLimit]) -> StopLimit:
    """The smallest of all, less a margin where it is a kill; a tie goes to our own setting."""
    shortened = (
        StopLimit(max(0.0, each.seconds - KILL_MARGIN), each.name) if each.kills else each
        for each in others
    )
    return min((own, *shortened), key=lambda limit: limit.seconds)
