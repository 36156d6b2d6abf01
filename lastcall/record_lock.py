"""Locks that the kernel frees when their process ends, however it ends.

POSIX record locks (`lockf`) on whole files: a free lock is a dead owner, whatever runs with that
pid now, and a child that the application forked does not keep it, as it would keep a `flock`. The
price: closing *any* descriptor of a file drops its lock, so a process must never open a file that
it has locked. `look` takes care of that.

`fcntl` is imported where it is used: one worker runs on platforms that do not have it.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

_READ_LIMIT = 4096
_PATIENCE = 100  # milliseconds, for what takes less than one


def has_record_locks() -> bool:
    """Whether this platform has them; where not, a worker is alone."""
    try:
        import fcntl  # noqa: F401, PLC0415  (that is the question)
    except ImportError:
        return False
    return True


class RecordLock:
    """A file that this process made and holds locked until it releases it or ends."""

    _held: ClassVar[dict[tuple[int, int, int], int]] = {}
    """Descriptors by (pid, device, inode): a forked child inherits the dict, but holds no lock."""

    def __init__(self, path: Path) -> None:
        """Make the file, or empty the one that is there, and lock it.

        Raises:
            OSError: that cannot be done, or another process holds the lock.
        """
        import fcntl  # noqa: PLC0415  (not on every platform)

        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise
        self._inode = inode(os.fstat(self._descriptor))
        self._held[os.getpid(), *self._inode] = self._descriptor

    @classmethod
    def held_here(cls, status: os.stat_result) -> int | None:
        """Return the descriptor of a file that this process itself holds locked."""
        return cls._held.get((os.getpid(), *inode(status)))

    def write(self, content: bytes) -> None:
        """Put *content* in place of what begins the file, in one step and without opening it.

        Raises:
            OSError: the disk is full or broken.
        """
        os.pwrite(self._descriptor, content, 0)

    def touch(self) -> None:
        """Give a sign of life.

        Raises:
            OSError: the disk is broken.
        """
        os.utime(self._descriptor)

    def is_at(self, path: Path) -> bool:
        """Whether *path* still names this file: a cleaner of /tmp may have removed it."""
        try:
            return inode(path.lstat()) == self._inode
        except OSError:
            return False

    def release(self) -> None:
        """Let the lock go; call it once."""
        del self._held[os.getpid(), *self._inode]
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a look at a file under a record lock showed."""

    held: bool
    """The lock is taken: the process that made the file lives."""
    touched: float
    """When its owner last gave a sign of life, by the wall clock."""
    content: bytes
    """As much as a record may have; the start of it, if somebody else wrote more."""


def look(path: Path) -> Sighting | None:
    """Look at a file without harming its lock; None if there is no such file (any more).

    Raises:
        OSError: it cannot be opened, for instance because it is another user's.
    """
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return None
        own = RecordLock.held_here(status)
        if own is not None:
            return Sighting(
                held=True, touched=status.st_mtime, content=os.pread(own, _READ_LIMIT, 0)
            )
        return _probe(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextlib.contextmanager
def directory_lock(path: Path, *, shared: bool) -> Iterator[bool]:
    """Hold a lock on a directory itself; False if it cannot be had, or not within 0.1 s.

    Only `flock` can lock a directory. Everybody holds it for moments, so nobody waits long but for
    one that was stopped (SIGSTOP) meanwhile. It is unlocked by name: a child that was forked in
    such a moment keeps the descriptor.
    """
    import fcntl  # noqa: PLC0415  (not on every platform)

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        yield _lock_directory(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def inode(status: os.stat_result) -> tuple[int, int]:
    """Return what makes a file this file, under whatever name."""
    return status.st_dev, status.st_ino


def _probe(path: Path) -> Sighting:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        touched = os.fstat(descriptor).st_mtime
        return Sighting(_is_locked(descriptor), touched, os.pread(descriptor, _READ_LIMIT, 0))
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    import fcntl  # noqa: PLC0415  (not on every platform)

    try:
        # Asking for a shared lock: two that ask at once must not take each other for the owner.
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return True
    return False


def _lock_directory(descriptor: int, path: Path, kind: int) -> bool:
    import fcntl  # noqa: PLC0415  (not on every platform)

    for _ in range(_PATIENCE):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            # Locked is what was opened; by now another directory may have the name.
            return inode(os.fstat(descriptor)) == inode(path.lstat())
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return False
    return False
