"""`Server is running...`: each worker tells its own clients, at ticks of the wall clock."""

import time

import anyio

from lastcall.connection_manager import ConnectionManager


def seconds_to_tick(now: float, interval: float) -> float:
    """How long from *now* (seconds since the epoch) to the next multiple of *interval*."""
    return interval - now % interval


async def run_heartbeat(connections: ConnectionManager, interval: float, text: str) -> None:
    """Tell every client *text* once an *interval*, until cancelled.

    Ticks of the wall clock, so that a client that moves to another worker keeps its rhythm.
    """
    while True:
        await anyio.sleep(seconds_to_tick(time.time(), interval))
        connections.notify_all(text)
