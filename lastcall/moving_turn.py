"""One batch at a time, of all workers that leave together: they share the machine's cores.

Four that move at once take as long as four in turn, but every client waits for all of them.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from lastcall.forked_child import forget, keep_from_children

PATIENCE = 0.25
"""Seconds to wait for the turn: whoever has it may be stopped. Then it goes on without."""
LOOK_TIME = 0.002
"""Seconds between two looks; a batch takes some of these."""


class Turn:
    """A lock that the kernel frees when its owner dies. A courtesy: nothing depends on it."""

    def __init__(self, path: Path) -> None:
        """Name its file, which is made when it is first used, and goes with its directory."""
        self._path = path

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Be the one who moves, if that is possible within a moment."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            yield
            return
        keep_from_children(descriptor)
        try:
            with anyio.move_on_after(PATIENCE):
                while not _lock(descriptor):  # noqa: ASYNC110  (other processes have no event)
                    await anyio.sleep(LOOK_TIME)
            yield
        finally:
            forget(descriptor)
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    import fcntl  # noqa: PLC0415  (not on every platform)

    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
