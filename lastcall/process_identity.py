"""Which process exactly: a pid alone may be somebody else's by now."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_STATE, _START_TIME = 0, 19
"""Places in /proc/<pid>/stat after the command name (proc(5): fields 3 and 22)."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid and when that process started, in clock ticks since boot (0 where no /proc tells)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has *pid* now; None if there is none, or only a zombie."""
        if not Path("/proc/self/stat").exists():
            return cls(pid, 0) if _answers(pid) else None
        try:
            # The command name stands in parentheses and may hold anything, parentheses included.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[_STATE] in "ZX" else cls(pid, int(fields[_START_TIME]))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` gave.

        Raises:
            ValueError: it is something else.
        """
        pid, started = text.split("-")
        return cls(int(pid), int(started))

    def __str__(self) -> str:
        """`<pid>-<started>`, fit for a file name or an environment variable."""
        return f"{self.pid}-{self.started}"

    def is_running(self) -> bool:
        """Whether this very process still runs."""
        return type(self).of(self.pid) == self

    def children(self) -> list[Self]:
        """The processes that it has started and that run; none where the system does not tell."""
        lists: list[str] = []
        if not self.is_running():
            return []
        with contextlib.suppress(OSError):
            # Each thread has a list of its own.
            lists = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/children")]
        found = [type(self).of(int(pid)) for pids in lists for pid in pids.split()]
        return [child for child in found if child is not None]

    def signal(self, number: signal.Signals) -> bool:
        """Send *number* to this very process, never a later one of its pid; False if gone."""
        if not hasattr(os, "pidfd_open"):
            if not self.is_running():
                return False
            os.kill(self.pid, number)
            return True
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                # Looked at after opening: now the descriptor cannot become another process.
                if self.is_running():
                    signal.pidfd_send_signal(descriptor, number)
                    return True
            finally:
                os.close(descriptor)
        return False


def is_stopped_on_purpose(pid: int) -> bool:
    """Whether a signal stopped the process (SIGSTOP, Ctrl-Z) or a debugger is attached to it."""
    with contextlib.suppress(OSError):
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        return fields["State"].strip()[0] in "Tt" or int(fields["TracerPid"]) != 0
    return False


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
