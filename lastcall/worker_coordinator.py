"""ALIVE and DONE: who is here, who is ready, and the last one out tells the master.

A worker's file is its word to the others: `<pid>.ALIVE` under a record lock while it works,
`<pid>.DONE` when its drain is complete, nothing when it has left. The content is for people; what
decides is the name and the lock. docs/decisions/alive-files.md says why.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import lastcall
from lastcall.drain_report import DrainReport
from lastcall.errors import SettingsError
from lastcall.process_identity import ProcessIdentity
from lastcall.record_lock import RecordLock
from lastcall.run_directory import RunDirectory, WorkerFile
from lastcall.worker_record import State, WorkerRecord

logger = logging.getLogger(__name__)

SILENCE = 5.0
"""Seconds without a sign of life after which a worker is taken to hang."""
KEPT = 3600.0
"""Seconds for which a worker's last record is kept after it has left, while others are there."""


class Coordinator(Protocol):
    """Knows the other workers of this server. Calls are quick; what lies on disk stops none."""

    def arrive(self) -> None:
        """Be one of the workers from now on, *starting*.

        Raises:
            SettingsError: the run directory cannot be used; the start must not go on.
        """
        ...

    def update(
        self,
        *,
        state: State | None = None,
        connections: int | None = None,
        announced: Mapping[str, int] | None = None,
        drain: DrainReport | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> None:
        """Let the others know; cheap enough for every turn of the event loop."""
        ...

    def beat(self) -> None:
        """Give a sign of life, about once a second: who hangs lives, but accepts nobody."""
        ...

    def siblings(self) -> list[WorkerRecord]:
        """Return the other workers that live and are not done, a stopped one (SIGSTOP) included."""
        ...

    def ready_siblings(self) -> list[WorkerRecord]:
        """Return those that accept connections, as far as one can tell: not those that hang."""
        ...

    def expects_successor(self) -> bool:
        """Whether a younger worker is on its way that is not ready yet, as far as one can tell."""
        ...

    def known(self) -> list[WorkerRecord]:
        """Return what this worker says of itself, and then what all others say that lives or left.

        Those who left stay known for a while, so that what they did last can be seen.
        """
        ...

    def claim_dead(self) -> list[WorkerRecord]:
        """Return workers that died before they were done, each to one survivor and once."""
        ...

    def finish(self, *, stopping: bool) -> bool:
        """Say that the drain is complete; True if nobody else works any more, or will soon.

        If so and the server is *stopping*, the master is told. A worker that leaves for another
        reason (its limit of requests, a part that died) says so: the master should start another.
        To be called again is harmless; the master may then be told again.
        """
        ...

    def leave(self) -> None:
        """Be gone, finished or not; the last one out removes the run directory."""
        ...


class WorkerCoordinator:
    """Coordinates by files in the run directory; in a forked child of the worker, does nothing."""

    def __init__(self, run_dir: RunDirectory, master: ProcessIdentity | None) -> None:
        """Name who is told by the last worker; None: nobody is."""
        self._run_dir = run_dir
        self._master = master
        self._pid = os.getpid()
        self._lock: RecordLock | None = None
        self._name = str(self._pid)
        self._file = run_dir.path / f"{self._name}.ALIVE"
        self._record = WorkerRecord(self._pid)
        self._known: set[int] = set()
        """Pids of all that have ever been here: a process may outlive its file."""
        self._warned = False

    def arrive(self) -> None:
        """See `Coordinator.arrive`; the file is complete and locked before its name appears."""
        if self._lock is not None:
            return
        now = _now()
        identity = ProcessIdentity.of(self._pid)
        self._record = WorkerRecord(
            pid=self._pid,
            started=identity.started if identity else 0,
            state="starting",
            since=now,
            arrived=now,
            master=str(self._master or ""),
            version=lastcall.__version__,
        )
        try:
            self._lock = self._appear("ALIVE")
        except OSError as error:
            raise SettingsError(
                f"LASTCALL_RUN_DIR: cannot write in {self._run_dir.path} ({error.strerror})"
            ) from error

    def update(
        self,
        *,
        state: State | None = None,
        connections: int | None = None,
        announced: Mapping[str, int] | None = None,
        drain: DrainReport | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> None:
        """See `Coordinator.update`: one write, and none if nothing has changed."""
        if self._lock is None or self._is_forked():
            return
        record = self._record.changed(
            state=state, connections=connections, announced=announced, drain=drain, counts=counts
        )
        if record == self._record:
            return
        if record.state != self._record.state:
            record = dataclasses.replace(record, since=_now())
            self._reappear()
        self._record = record
        try:
            self._lock.write(self._record.write())
        except OSError as error:
            self._warn(f"cannot be written: {error}")

    def beat(self) -> None:
        """See `Coordinator.beat`: the time of the file is the sign."""
        if self._lock is not None and not self._is_forked():
            with contextlib.suppress(OSError):  # nothing is better than a worker that ends of it
                self._lock.touch()

    def siblings(self) -> list[WorkerRecord]:
        """See `Coordinator.siblings`."""
        return [WorkerRecord.read(file) for file in self._living()]

    def ready_siblings(self) -> list[WorkerRecord]:
        """See `Coordinator.ready_siblings`."""
        alert = [file for file in self._living() if file.touched > time.time() - SILENCE]
        return [record for record in map(WorkerRecord.read, alert) if record.state == "ready"]

    def leaves_to_others(self) -> bool:
        """Whether this worker leaves, and others are ready that stay."""
        return self._record.state in ("draining", "done") and bool(self.ready_siblings())

    def expects_successor(self) -> bool:
        """See `Coordinator.expects_successor`: it has no file before the application is imported.

        So the master is asked whom it has started. Processes that are older than this worker are
        its siblings, or serve the master itself.
        """
        if self._is_forked():
            return False
        for file in self._others():
            if file.lives and WorkerRecord.read(file).state == "starting":
                return True
        for kind in ("DONE", "LEFT"):
            self._known.update(file.pid for file in self._run_dir.worker_files(kind))
        own_start = self._record.started
        return self._master is not None and any(
            child.started > own_start and child.pid not in self._known
            for child in self._master.children()
        )

    def claim_dead(self) -> list[WorkerRecord]:
        """See `Coordinator.claim_dead`: who removes the file has claimed it."""
        if self._is_forked():
            return []
        self._reappear()
        dead = [file for file in self._others() if not file.lives and _remove(file)]
        for file in dead:
            self._run_dir.clear_after(file.pid)
        return [WorkerRecord.read(file) for file in dead]

    def finish(self, *, stopping: bool) -> bool:
        """See `Coordinator.finish`."""
        if self._lock is None or self._is_forked():
            return False
        self.update(state="done")
        # Rename before looking: two workers that leave together may then both tell the master,
        # which is harmless. The other way round, each could see the other alive and nobody would
        # tell. The lock is on the file, not on its name, and stays.
        self._rename_to_done()
        # A master that has just started somebody is not about to stop, whoever was killed before.
        is_last = not any(file.lives for file in self._others()) and not self.expects_successor()
        if is_last and stopping:
            self._tell_master()
        return is_last

    def leave(self) -> None:
        """See `Coordinator.leave`."""
        if self._lock is None or self._is_forked():
            return
        # The name goes before the lock, so that nobody takes this for a death.
        with contextlib.suppress(OSError):
            if self._lock.is_at(self._file):
                self._file.rename(self._file.with_suffix(".LEFT"))
        self._lock.release()
        self._lock = None
        self._run_dir.remove_left(before=time.time() - KEPT)
        self._run_dir.remove_if_deserted()

    def known(self) -> list[WorkerRecord]:
        """See `Coordinator.known`."""
        if self._is_forked():
            return []
        return [self._record, *records_in(self._run_dir, but=self._file)]

    def _living(self) -> list[WorkerFile]:
        if self._is_forked():
            return []
        self._reappear()
        return [file for file in self._others() if file.lives]

    def _others(self) -> list[WorkerFile]:
        files = self._run_dir.worker_files("ALIVE")
        self._known.update(file.pid for file in files)
        return [file for file in files if file.path != self._file]

    def _appear(self, kind: Literal["ALIVE", "DONE"]) -> RecordLock:
        with self._run_dir.kept():
            unborn = self._run_dir.path / f"{self._name}.NEW"
            lock = RecordLock(unborn)
            try:
                lock.write(self._record.write())
                self._file = self._free_name(kind)
                unborn.rename(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    unborn.unlink()
                lock.release()
                raise
        return lock

    def _free_name(self, kind: str) -> Path:
        # Taken is the name by a dead worker that had this pid, and whom somebody has yet to claim,
        # or by a second server inside this process.
        stem, number = self._name, 1
        taken = {path.stem for path in self._run_dir.path.iterdir() if path.suffix != ".NEW"}
        while stem in taken:
            number += 1
            stem = f"{self._name}-{number}"
        return self._run_dir.path / f"{stem}.{kind}"

    def _reappear(self) -> None:
        """Make the file anew if somebody has removed it: without it the others think us gone."""
        if self._lock is None or self._lock.is_at(self._file):
            return
        try:
            lock = self._appear("ALIVE" if self._file.suffix == ".ALIVE" else "DONE")
        except (OSError, SettingsError) as error:
            self._warn(f"has lost a worker's file for good: {error}")
            return
        self._warn("had lost a worker's file; it is back")
        self._lock.release()
        self._lock = lock

    def _rename_to_done(self) -> None:
        done = self._file.with_suffix(".DONE")
        with contextlib.suppress(OSError):
            self._file.rename(done)
        self._file = done
        self._reappear()
        if self._lock is not None and not self._lock.is_at(self._file):
            # The disk refuses both. To the others a free lock means what DONE would have meant.
            self._lock.release()
            self._lock = None

    def _tell_master(self) -> None:
        if self._master is None:
            return
        try:
            told = self._master.signal(signal.SIGTERM)
        except OSError as error:
            logger.warning("the master %s could not be told to stop: %s", self._master, error)
        else:
            logger.info("the last worker %s", "told the master" if told else "found no master")

    def _is_forked(self) -> bool:
        return os.getpid() != self._pid

    def _warn(self, what: str) -> None:
        # Once: it goes on as well as it can, and the log is not the place to say so every second.
        if not self._warned:
            self._warned = True
            logger.warning("run directory %s %s", self._run_dir.path, what)


def records_in(run_dir: RunDirectory, *, but: Path | None = None) -> list[WorkerRecord]:
    """Return what the workers of *run_dir* say that live or left lately, *but* one file's."""
    lately = time.time() - KEPT
    return [
        dataclasses.replace(WorkerRecord.read(file), has_left=kind == "LEFT")
        for kind in ("ALIVE", "DONE", "LEFT")
        for file in run_dir.worker_files(kind)
        if file.path != but and (file.lives if kind != "LEFT" else file.touched > lately)
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _remove(file: WorkerFile) -> bool:
    try:
        file.path.unlink()
    except OSError:
        return False
    return True


if TYPE_CHECKING:
    _: type[Coordinator] = WorkerCoordinator
