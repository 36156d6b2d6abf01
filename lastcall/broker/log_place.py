"""Where a server's log is: in the state directory, unless another server has that."""

import contextlib
import logging
import time
from pathlib import Path

from lastcall.broker.election_lock import ElectionLock
from lastcall.log_file import LogFile, boot_id, open_log_file, set_aside

logger = logging.getLogger(__name__)

LOG_NAME = "history.sqlite3"
LOCK_NAME = "history.lock"
PREDECESSOR_SECONDS = 5.0
"""How long the sequencer before us may take to be gone altogether."""
_POLL_SECONDS = 0.005


class LogPlace:
    """The log of the server that has *run_dir*; blocking calls, for the sequencer only.

    Two servers never share a log: *state_dir* is held by a record lock, and whoever comes second
    keeps its log in its run directory, to its end.
    """

    def __init__(self, run_dir: Path, state_dir: Path, boot: str | None = None) -> None:
        """Name the two directories; *boot* is this start of the machine, found if not given."""
        self._run_dir = run_dir
        self._state_dir = state_dir
        self._boot = boot
        self._lock = ElectionLock(state_dir / LOCK_NAME)
        self._file: LogFile | None = None

    def open(self) -> LogFile:
        """Open the log, or begin one.

        Raises:
            OSError, sqlite3.Error: it cannot be opened now.
        """
        own = self._run_dir / LOG_NAME
        # Once begun there, it stays there: the offsets of two logs must not follow each other.
        directory = self._run_dir if own.exists() or not self._hold() else self._state_dir
        self._boot = self._boot or boot_id()
        try:
            self._file = open_log_file(directory / LOG_NAME, self._boot)
        except BaseException:
            self._lock.release()
            raise
        return self._file

    def close(self, *, last: bool, clean: bool = True) -> None:
        """Close the log and let go of the directory; the *last* worker tidies up.

        Where nothing tells one start of the machine from another, it is always closed *clean*.
        """
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close(clean=clean or not self._boot)
        finally:
            self._lock.release()
            if last:
                # It ends with the run directory, in which it only was for want of a better place.
                for suffix in ("", "-wal", "-shm", ".set-aside"):
                    with contextlib.suppress(OSError):
                        Path(f"{self._run_dir / LOG_NAME}{suffix}").unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Give up a log that turned out to be damaged; the next `open` begins another."""
        if self._file is not None:
            path = self._file.path
            with contextlib.suppress(Exception):
                self._file.close()
            self._file = None
            logger.error("%s is damaged; history begins anew, see %s", path, set_aside(path))

    def _hold(self) -> bool:
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        patience = time.monotonic() + PREDECESSOR_SECONDS
        while not self._lock.acquire(str(self._run_dir)):
            # The sequencer before us may not be quite dead yet; its lock goes with it.
            ours = self._lock.note() in (str(self._run_dir), "")
            if not ours or time.monotonic() > patience:
                logger.warning(
                    "%s belongs to another running server (%s); history is kept in %s and ends"
                    " with this server. Give each server a directory by LASTCALL_STATE_DIR.",
                    self._state_dir,
                    self._lock.note(),
                    self._run_dir,
                )
                return False
            time.sleep(_POLL_SECONDS)
        return True
