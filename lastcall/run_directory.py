"""Who belongs together: the directory that the workers of one master share."""

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lastcall.errors import SettingsError
from lastcall.process_identity import ProcessIdentity
from lastcall.record_lock import directory_lock, look

_WORKER_FILE = re.compile(r"(?P<pid>[1-9]\d*)(-\d+)?\.(ALIVE|DONE|LEFT|MASTER)")
_SOCKET_PATH_LIMIT = (
    103  # sun_path has 108 bytes on Linux and 104 elsewhere, the final NUL included
)


@dataclass(frozen=True, slots=True)
class WorkerFile:
    """A worker's `<pid>.ALIVE`, `.DONE` or `.LEFT`, or a `<pid>.MASTER`, as it was seen."""

    path: Path
    pid: int
    lives: bool
    content: bytes
    touched: float = 0
    """When the worker last gave a sign of life, by the wall clock; 0: nobody knows."""


class RunDirectory:
    """`<base>/<master's pid>-<its start>/`: other servers' workers never get in, by no accident."""

    def __init__(self, path: Path) -> None:
        """Name the directory, without looking at it; see `open`."""
        self.path = path

    @classmethod
    def open(cls, master: ProcessIdentity, base: Path | None = None) -> Self:
        """Find or make the directory of *master*'s workers, below *base* or where it suits.

        Raises:
            SettingsError: it is not safe, not possible, or this platform has no record locks.
        """
        try:
            import fcntl  # noqa: F401, PLC0415  (one worker runs where there is none)
        except ImportError as error:
            raise SettingsError(
                "several workers need POSIX record locks, which this platform does not have: "
                "run one worker"
            ) from error
        directory = cls((default_base() if base is None else base.absolute()) / str(master))
        directory.make()
        return directory

    def make(self) -> None:
        """Make the directory if it is not there (any more).

        Raises:
            SettingsError: it cannot be made, or somebody else could change what is in it.
        """
        own = os.getuid()
        base = self.path.parent
        problem: str | None = "it vanishes as often as it is made"
        for _ in range(10):
            try:
                # Root may own the base: it can do everything anyway, and /tmp is a fair choice.
                _make_or_check(base, owners={own, 0})
                _make_or_check(self.path, owners={own})
            except FileNotFoundError:
                # The last worker to leave, or a cleaner, may remove what was just made.
                continue
            except OSError as error:
                problem = error.strerror
                break
            return
        raise SettingsError(
            f"LASTCALL_RUN_DIR: {base} cannot be used ({problem}): "
            "name a directory that this user may write"
        )

    def socket_path(self, name: str) -> Path:
        """Where a unix socket called *name* belongs.

        Raises:
            SettingsError: the path is longer than a socket's may be.
        """
        path = self.path / name
        if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
            raise SettingsError(
                f"LASTCALL_RUN_DIR: {self.path.parent} is too long: with it the path of a socket "
                f"is {len(os.fsencode(path))} bytes, and {_SOCKET_PATH_LIMIT} are allowed"
            )
        return path

    def worker_files(self, kind: str) -> list[WorkerFile]:
        """Return the ALIVE, DONE or LEFT files of workers; none if the directory is gone."""
        return self._files(kind)

    def _files(self, kind: str) -> list[WorkerFile]:
        try:
            names = os.listdir(self.path)  # noqa: PTH208  (half the price of iterdir)
        except OSError:
            return []
        seen = [_look_at(self.path / name) for name in names if name.endswith(kind)]
        return [file for file in seen if file is not None]

    def handover_path(self, pid: int) -> Path:
        """Where the worker *pid* listens for connections that are handed to it."""
        return self.path / f"handover-{pid}"

    def clear_after(self, pid: int) -> None:
        """Remove what a dead worker listened on, unless another has its pid by now."""
        if not any(file.lives and file.pid == pid for file in self.worker_files("ALIVE")):
            with contextlib.suppress(OSError):
                self.handover_path(pid).unlink()

    def master_files(self) -> list[WorkerFile]:
        """Return the files of masters of ours, living or not."""
        return self._files("MASTER")

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Make sure that the directory is there and that nobody removes it meanwhile.

        Raises:
            SettingsError: as `make`.
        """
        for _ in range(3):
            self.make()
            with directory_lock(self.path, shared=True) as locked:
                if locked:
                    yield
                    return
        # Whoever removes it has been stopped half-way: work on, and come back if it goes on.
        yield

    def sweep(self) -> None:
        """Remove the directories of other masters that are dead, and their workers with them.

        Every orderly end removes its own; this is for what `kill -9` of everybody left.
        """
        with contextlib.suppress(OSError):
            for entry in self.path.parent.iterdir():
                with contextlib.suppress(ValueError, OSError, SettingsError):
                    if not ProcessIdentity.parse(entry.name).is_running():
                        refuse_unsafe(entry, entry.lstat(), owners={os.getuid()})
                        type(self)(entry).remove_if_deserted()

    def remove_left(self, *, before: float) -> None:
        """Remove the last words of workers that were written before that time."""
        with contextlib.suppress(OSError):
            for path in self.path.glob("*.LEFT"):
                if path.lstat().st_mtime < before:
                    path.unlink(missing_ok=True)

    def remove_if_deserted(self) -> bool:
        """Remove the directory and all that is in it if no worker lives there; True if gone."""
        with directory_lock(self.path, shared=False) as locked:
            if locked and not self._is_inhabited():
                shutil.rmtree(self.path, ignore_errors=True)
        return not self.path.exists()

    def _is_inhabited(self) -> bool:
        # A DONE worker counts too: until it leaves, its parts may use the directory.
        kinds = ("ALIVE", "DONE", "MASTER")
        return any(file.lives for kind in kinds for file in self._files(kind))


def all_below(base: Path | None) -> list[RunDirectory]:
    """Every directory of a server below *base*, or where it would be by default."""
    base = default_base() if base is None else base.absolute()
    found = []
    with contextlib.suppress(OSError):
        for entry in sorted(base.iterdir()):
            with contextlib.suppress(ValueError):
                ProcessIdentity.parse(entry.name)
                found.append(RunDirectory(entry))
    return found


def default_base() -> Path:
    """/run/lastcall where this user may have it, else a directory of the user's own in /tmp.

    Neither XDG_RUNTIME_DIR, which ends with a login session, nor TMPDIR, in which two workers of
    one master might differ.
    """
    system = Path("/run/lastcall")
    with contextlib.suppress(OSError):
        system.mkdir(mode=0o700)
    with contextlib.suppress(OSError):
        status = system.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            return system
    return Path(f"/tmp/lastcall-{os.getuid()}")  # noqa: S108  (refuse_unsafe checks whose it is)


def _make_or_check(path: Path, *, owners: set[int]) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    refuse_unsafe(path, path.lstat(), owners=owners)


def refuse_unsafe(path: Path, status: os.stat_result, *, owners: set[int]) -> None:
    """Pass only a real directory of one of *owners* in which nobody else may exchange files.

    Raises:
        SettingsError: it is something else.
    """
    if stat.S_ISLNK(status.st_mode):
        problem = "is a symbolic link"
    elif not stat.S_ISDIR(status.st_mode):
        problem = "is not a directory"
    elif status.st_uid not in owners:
        problem = f"belongs to another user (uid {status.st_uid})"
    elif status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        problem = "may be written by other users"
    else:
        return
    raise SettingsError(
        f"LASTCALL_RUN_DIR: {path} {problem}: name a directory that only this user may write"
    )


def _look_at(path: Path) -> WorkerFile | None:
    name = _WORKER_FILE.fullmatch(path.name)
    if name is None:
        return None
    pid = int(name["pid"])
    try:
        seen = look(path)
    except OSError:
        # Root's file, or no descriptor left to open it with. A worker too many makes somebody wait,
        # one too few might stop the server: so it lives if any process has its pid.
        return WorkerFile(path, pid, lives=ProcessIdentity.of(pid) is not None, content=b"")
    if seen is None:
        return None
    return WorkerFile(path, pid, lives=seen.held, content=seen.content, touched=seen.touched)
