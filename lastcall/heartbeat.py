"""`Server is running...`: each worker tells its own clients, at ticks of the wall clock."""

import time
from collections.abc import Callable

import anyio

from lastcall.connection_manager import ConnectionManager


def next_tick(now: float, interval: float, last: int | None) -> int:
    """The number of the first multiple of *interval* after *now* that is not the *last* one."""
    tick = int(now // interval) + 1
    return tick + 1 if tick == last else tick


async def run_heartbeat(
    connections: ConnectionManager,
    interval: float,
    text: str,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Tell every client *text* once an *interval*, until cancelled.

    Ticks of the wall clock, so that a client that moves to another worker keeps its rhythm.
    """
    tick = None
    while True:
        # A timer may fire a moment early, which must not make two heartbeats of one.
        now = clock()
        tick = next_tick(now, interval, tick)
        await anyio.sleep(tick * interval - now)
        connections.notify_all(text)
