"""How one worker is, for people: what its file says, and what the system tells of its process."""

import os
from pathlib import Path
from typing import ClassVar

import msgspec

from lastcall.drain_report import DrainReport
from lastcall.worker_record import WorkerRecord


class WorkerStatus(msgspec.Struct, kw_only=True):
    """One worker: what its master knows, what its file says, what the system tells."""

    pid: int
    state: str
    """starting, ready, retiring; under other masters what the worker's own file says."""
    place: int | None = None
    generation: int | None = None
    uptime: float | None = None
    connections: int | None = None
    """None: its file does not say, for instance because the application is not Lastcall's."""
    draining: bool = False
    """It tells its clients that it leaves."""
    rss: int | None = None
    pss: int | None = None
    """Bytes of memory; shared ones as its part of them."""
    version: str = ""
    drain: DrainReport | None = None
    """What it does to its clients while it leaves, or did."""


class StatusAnswer(msgspec.Struct, kw_only=True):
    """What a worker says to who asks those of all hosts how they are."""

    QUESTION: ClassVar[str] = "status"

    host: str
    master: str
    """See `WorkerRecord.master`."""
    worker: WorkerStatus
    knows: list[str]
    """The names of the others that it waits for when it asks something, see `Peers`."""


def by_file(record: WorkerRecord) -> WorkerStatus:
    """What a worker's file and the system say of it."""
    rss, pss = memory(record.pid)
    return WorkerStatus(
        pid=record.pid,
        state=record.state,
        connections=record.connections,
        draining=record.state in ("draining", "done"),
        uptime=_age(record.started),
        rss=rss,
        pss=pss,
        version=record.version,
        drain=record.drain,
    )


def _age(started: int) -> float | None:
    """Seconds since a start in clock ticks since boot."""
    try:
        now = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return None
    return max(0.0, now - started / os.sysconf("SC_CLK_TCK")) if started else None


def memory(pid: int) -> tuple[int | None, int | None]:
    """Resident and proportional memory of a process in bytes; None where nobody tells."""
    rss = _field(Path(f"/proc/{pid}/status"), "VmRSS:")
    return rss, _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
