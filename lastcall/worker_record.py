"""What a worker says of itself in its file: to its siblings, to its operator, to its master."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from lastcall.drain_report import DrainReport
from lastcall.run_directory import WorkerFile

State = Literal["starting", "ready", "draining", "done", "unknown"]

RECORD_SIZE = 4096
"""Records are padded to one size, so that a shorter one leaves no tail of the one before."""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What a worker says of itself; what is not known of it has its default."""

    pid: int
    started: int = 0
    state: State = "unknown"
    connections: int = 0
    announced: Mapping[str, int] = field(default_factory=dict)
    """How many clients each channel has been told of: the others say it when they are gone."""
    since: str = ""
    """When the worker entered this state, by the wall clock."""
    arrived: str = ""
    master: str = ""
    """`<pid>-<start>` of the process that is told by the last worker; empty if nobody is."""
    version: str = ""
    drain: DrainReport | None = None
    """What it does to its clients while it leaves, or did."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """What its metrics are made of, a second old."""
    has_left: bool = False
    """Whether this was its last word."""

    @classmethod
    def read(cls, file: WorkerFile) -> "WorkerRecord":
        """Take what *file* says; of a file that makes no sense, the pid in its name."""
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            record = msgspec.json.decode(file.content, type=cls)
            if record.pid == file.pid:
                return record
        return cls(file.pid)

    def changed(self, **news: Any) -> "WorkerRecord":
        """Return this record with those of *news* that are not None."""
        # Copies, so that what its owner goes on counting in is not taken for what was written.
        known: dict[str, Any] = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in news.items()
            if value is not None
        }
        return dataclasses.replace(self, **known)

    def write(self) -> bytes:
        """Return what `read` takes, one field a line; what does not fit is left out."""
        content = b""
        without_counts = dataclasses.replace(self, counts={})
        for record in (self, without_counts, dataclasses.replace(without_counts, announced={})):
            content = msgspec.json.format(msgspec.json.encode(record))
            if len(content) < RECORD_SIZE:
                break
        return content.ljust(RECORD_SIZE - 1) + b"\n"
