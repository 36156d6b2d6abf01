"""Ends a sequencer that hangs: it keeps the lock of the bus, but answers nothing.

Why this may kill: see docs/decisions/host-bus.md.
"""

import logging
import os
import signal

import anyio.to_thread

from lastcall.broker.election_lock import ElectionLock
from lastcall.process_identity import ProcessIdentity

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds of silence after which a sequencer is taken to hang."""


class Watchdog:
    """Counts the silence of whoever holds *lock*, in ticks of *interval* seconds."""

    def __init__(self, lock: ElectionLock, interval: float) -> None:
        """Watch whoever holds *lock*."""
        self._lock = lock
        self._interval = interval
        self._last_tick = 0.0
        self._silence = 0.0
        self._suspect: ProcessIdentity | None = None

    def heard(self) -> None:
        """Something was said, or somebody else is asked from here on."""
        self._silence = 0.0
        self._suspect = None

    async def tick(self, now: float) -> bool:
        """Count one more interval of silence; whether to leave and elect anew."""
        late = now - self._last_tick > 2 * self._interval
        self._last_tick = now
        if late:
            # We hung ourselves: what was said meanwhile may still be waiting to be read.
            return False
        self._silence += self._interval
        if self._silence <= self._interval:
            return False
        holder = await anyio.to_thread.run_sync(self._lock.owner)
        if holder is None:
            # It resigned, or it died and its connection lives on somewhere.
            return True
        if self._suspect is None:
            self._suspect = await anyio.to_thread.run_sync(_identity, holder)
        if self._silence < PATIENCE:
            return False
        suspect = self._suspect
        self.heard()
        await anyio.to_thread.run_sync(self._end, suspect)
        return True

    def _end(self, suspect: ProcessIdentity | None) -> None:
        # The lock proves that it is a worker of this server, and the identity held since the
        # silence began that it is still the same process: no stranger, no quick successor.
        if suspect is None or _identity(self._lock.owner()) != suspect:
            return
        logger.error(
            "worker %d carries this host's publications and has not answered for %.0f seconds;"
            " it is ended so that another worker can",
            suspect.pid,
            PATIENCE,
        )
        try:
            suspect.signal(signal.SIGKILL)
        except PermissionError:
            logger.exception("worker %d cannot be ended", suspect.pid)


def _identity(pid: int | None) -> ProcessIdentity | None:
    """The process with *pid*, unless it is ourselves or one that we cannot see."""
    return ProcessIdentity.of(pid) if pid and pid != os.getpid() else None
