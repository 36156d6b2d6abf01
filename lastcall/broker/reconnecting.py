"""How a connection to an engine is kept up, and how an operator hears why it is not there."""

import logging
import random
from collections.abc import Awaitable, Callable

import anyio

from lastcall.logs import log_event

FIRST_RETRY, LAST_RETRY = 0.05, 1.0
"""Seconds between two attempts to connect, growing; spread, so that workers do not come at once."""


class Complaints:
    """Tells why an engine is away: once for each reason, not with every attempt.

    A wrong password is found by reading this.
    """

    def __init__(self) -> None:
        """Nothing is wrong yet."""
        self.last = ""

    def tell(self, problem: str) -> None:
        """This is why, now."""
        if problem != self.last:
            self.last = problem
            log_event("broker problem", "{problem}", level=logging.WARNING, problem=problem)

    def settled(self) -> None:
        """It is not away any more: the same reason is news again."""
        self.last = ""


async def keep_up(
    use: Callable[[], Awaitable[None]],
    failures: tuple[type[Exception], ...],
    away: Callable[[str], object],
    changed: Callable[[], object],
) -> None:
    """Connect, and *use* the connection until it is lost by one of *failures*; for ever.

    Says why by *away*, and then calls *changed*.
    """
    pause = FIRST_RETRY
    while True:
        started = anyio.current_time()
        try:
            await use()
        except* failures as problems:
            away(reason(problems))
        if anyio.current_time() - started > LAST_RETRY:
            pause = FIRST_RETRY
        changed()
        await anyio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  (no secret)
        pause = min(2 * pause, LAST_RETRY)


def reason(problems: BaseExceptionGroup[Exception]) -> str:
    """One of *problems*: that of the task that noticed first."""
    problem: BaseException = problems
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return str(problem) or "it does not answer in time"  # a TimeoutError has no words
