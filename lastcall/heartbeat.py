"""`Server is running...`: each worker tells its own clients, at ticks of the wall clock."""

import time
from collections.abc import Callable

import anyio

from lastcall.connection import Connection
from lastcall.connection_manager import ConnectionManager


def next_tick(now: float, interval: float, last: int | None) -> int:
    """The number of the first multiple of *interval* after *now* that is not the *last* one."""
    tick = int(now // interval) + 1
    return tick + 1 if tick == last else tick


class Heart:
    """Tells every client of this worker once an interval that the server is running.

    At ticks of the wall clock, which are the same for all workers of a host: a client that moves
    keeps its rhythm, and hears a tick in the middle of its move once.
    """

    def __init__(
        self,
        connections: ConnectionManager,
        interval: float,
        text: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Tell *connections* of *text* every *interval* seconds; 0: never."""
        self._connections = connections
        self._interval = interval
        self._text = text
        self._clock = clock
        # Whoever comes hears of the next tick, and has missed none of those before.
        self._told = clock() // interval * interval if interval else 0.0
        self._ahead: dict[Connection, float] = {}
        """Who has heard a later one elsewhere: this worker's timer may be the slower one."""

    async def run(self) -> None:
        """Beat until cancelled."""
        tick = None
        while True:
            # A timer may fire a moment early, which must not make two heartbeats of one.
            now = self._clock()
            tick = next_tick(now, self._interval, tick)
            await anyio.sleep(tick * self._interval - now)
            self.beat(tick * self._interval)

    def beat(self, at: float) -> None:
        """Tell all of the tick *at* that time who are here and have not heard it elsewhere."""
        self._told = at
        ahead, self._ahead = self._ahead, {}
        self._connections.beat(self._text, besides={each for each in ahead if ahead[each] >= at})

    def told_to(self, connection: Connection) -> float:
        """The time of the tick that *connection* has heard of last, or would have."""
        return max(self._told, self._ahead.get(connection, 0.0))

    def arrived(self, connection: Connection, told: float | None) -> None:
        """*connection* can be spoken to, here or here again; it was *told* of this tick last.

        None: its last worker did not say, and may have been of a release that does not know.
        """
        if not self._interval or told is None:
            return
        if told > self._told:
            self._ahead[connection] = told
        elif told < self._told and connection.ended_by is None:
            connection.notify(self._text)
