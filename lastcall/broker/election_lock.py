"""A lock for which many stand, and which the kernel frees when its owner ends, however it ends.

A POSIX record lock, not `flock`: a forked child would keep that one. Record locks have two traps:
they belong to the process, so two owners inside one would both get it, and closing *any*
descriptor of the file drops them. Hence one descriptor a file and process, kept here.
"""

import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

from lastcall.forked_child import forget, keep_from_children

_FLOCK = "hhqqi"
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""
_NOTE_BYTES = 4096


@dataclass(slots=True)
class _LockFile:
    descriptor: int
    users: int = 0
    holder: "ElectionLock | None" = None


_open_files: dict[Path, _LockFile] = {}
_one_at_a_time = threading.Lock()


class ElectionLock:
    """Held by one at a time, among processes and within this one. Blocking calls, but short."""

    def __init__(self, path: Path) -> None:
        """Name the file; its directory must exist when the lock is first used."""
        self.path = path.absolute()
        self._file: _LockFile | None = None

    def acquire(self, note: str = "") -> bool:
        """Take the lock if it is free, and leave *note* for whoever asks; never waits.

        Raises:
            OSError: the file cannot be made or written.
        """
        import fcntl  # noqa: PLC0415  (not on Windows)

        with _one_at_a_time:
            file = self._open()
            if file.holder is not None:
                return file.holder is self
            while True:
                try:
                    fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):
                    return False
                if self._names(file.descriptor):
                    break
                # Its last owner removed the file: a lock on it keeps nobody out any more. Opened
                # before the other is closed: where that fails, we still have one to come back with.
                fresh = _open(self.path)
                _close(file)
                file.descriptor = fresh
            file.holder = self
            os.ftruncate(file.descriptor, 0)
            os.pwrite(file.descriptor, note.encode(), 0)
            return True

    def owner(self) -> int | None:
        """The pid of the other process that holds the lock; 0: one that we cannot name."""
        import fcntl  # noqa: PLC0415  (not on Windows)

        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        with _one_at_a_time:
            try:
                file = self._open()
            except FileNotFoundError:
                return None  # somebody removed the directory
            if file.holder is not None:
                return os.getpid()
            answer = fcntl.fcntl(file.descriptor, fcntl.F_GETLK, asked)
        kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
        return None if kind == fcntl.F_UNLCK else int(pid)

    def note(self) -> str:
        """What the last owner left."""
        with _one_at_a_time:
            return os.pread(self._open().descriptor, _NOTE_BYTES, 0).decode(errors="replace")

    def is_in_place(self) -> bool:
        """Whether others who want the lock still find the file that we hold."""
        with _one_at_a_time:
            return self._file is None or self._names(self._file.descriptor)

    def release(self) -> None:
        """Give the lock back and remove its file, if we hold it; forget about it in any case."""
        with _one_at_a_time:
            file, self._file = self._file, None
            if file is None:
                return
            if file.holder is self:
                # While it is held: whoever locked it after us would lose the file otherwise.
                if self._names(file.descriptor):
                    self.path.unlink(missing_ok=True)
                file.holder = None
                self._unlock(file)
            file.users -= 1
            if not file.users:
                _open_files.pop(self.path, None)
                _close(file)

    def _open(self) -> _LockFile:
        if self._file is None:
            if self.path not in _open_files:
                _open_files[self.path] = _LockFile(_open(self.path))
            self._file = _open_files[self.path]
            self._file.users += 1
        return self._file

    def _names(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _unlock(self, file: _LockFile) -> None:
        import fcntl  # noqa: PLC0415  (not on Windows)

        fcntl.lockf(file.descriptor, fcntl.LOCK_UN)


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    keep_from_children(descriptor)
    return descriptor


def _close(file: _LockFile) -> None:
    forget(file.descriptor)
    os.close(file.descriptor)


if hasattr(os, "register_at_fork"):
    # A child has none of these locks, and its descriptors were taken away.
    os.register_at_fork(after_in_child=_open_files.clear)
