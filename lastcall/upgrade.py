"""A new master of what is installed now: started beside this one, on the same sockets."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from lastcall.host import MASTER_VARIABLE, UPGRADE_VARIABLE
from lastcall.process_identity import ProcessIdentity
from lastcall.working_directory import working_directory

READY = b"ready"
HANGING_UP = 0.2
"""Seconds that a new master which hung up gets to end, so that its exit status is known."""
STARTING_TIME = 10.0
"""Seconds for a master to get as far as to start its workers, beside their own time."""


class UpgradeToken(msgspec.Struct, kw_only=True):
    """What the old master passes to the new one in its environment.

    Releases that are neighbours pass it in both directions: a field that is added has a default.
    """

    old: str
    """Identity of who passes it: it is meant for its child, and for nobody further down."""
    outermost: str | None
    """Identity of the process that is watched from outside; None: a manager is told who it is."""
    sockets: list[int]
    report: int
    """Descriptor on which the new one says that it is ready; it hangs up if it will not be."""
    directory: str
    """The run directory that they share."""
    generation: int
    size: int
    """Workers, which may have been scaled."""

    @property
    def family(self) -> str:
        """Name of the family: the identity of its first master."""
        return Path(self.directory).name


def take_token() -> UpgradeToken | None:
    """Take the token out of the environment, if it was meant for this process."""
    text = os.environ.pop(UPGRADE_VARIABLE, None)
    if text is None:
        return None
    try:
        token = msgspec.json.decode(text, type=UpgradeToken)
        old = ProcessIdentity.parse(token.old)
    except (msgspec.DecodeError, ValueError):
        return None
    if old.pid != os.getppid() or not old.is_running():
        return None
    return token


@dataclass(slots=True, eq=False)
class NewMaster:
    """The new master as the old one sees it."""

    process: "subprocess.Popen[bytes]"
    report: socket.socket
    deadline: float
    kill_at: float = math.inf

    @classmethod
    def start(
        cls, command: list[str], directory: Path, token: UpgradeToken, *, deadline: float
    ) -> Self:
        """Start it; `report` of the token is filled in here.

        Raises:
            OSError: it cannot be started.
        """
        report, theirs = socket.socketpair()
        with theirs:
            token.report = theirs.fileno()
            environment = {**os.environ, UPGRADE_VARIABLE: msgspec.json.encode(token).decode()}
            environment.pop(MASTER_VARIABLE, None)
            descriptors = (*token.sockets, theirs.fileno())
            try:
                process = subprocess.Popen(  # noqa: S603  (what runs here already)
                    command, cwd=directory, env=environment, pass_fds=descriptors
                )
            except OSError:
                report.close()
                raise
        report.settimeout(0)
        return cls(process, report, deadline)

    @property
    def has_hung_up(self) -> bool:
        """Whether it has nothing more to say: it leaves, or is gone."""
        return self.report.fileno() < 0

    def is_ready(self) -> bool:
        """Read what it says; only when there is something, which may be that it hangs up."""
        with contextlib.suppress(OSError):
            if self.report.recv(len(READY)) == READY:
                return True
        self.report.close()
        return False

    def ended(self, *, wait: bool = False) -> int | None:
        """Exit status; None while it runs, for which it gets a moment if *wait*."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(HANGING_UP if wait else 0)
        return None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless its end has been seen."""
        self.process.send_signal(number)

    def leave(self, kill_at: float) -> None:
        """Ask it to leave; if it does not hang up at that, it is killed."""
        self.kill_at = kill_at
        self.signal(signal.SIGTERM)

    def look_after(self, now: float) -> None:
        """Kill it if that is due. Its workers notice, and leave in their own way."""
        if self.kill_at <= now and not self.has_hung_up:
            self.kill_at = math.inf
            self.signal(signal.SIGKILL)


def own_command() -> list[str]:
    """How this program was started, for whatever is installed there by now."""
    script = working_directory() / sys.argv[0]
    if script.suffix != ".py" and os.access(script, os.X_OK) and script.is_file():
        # Its first line names the Python that it belongs to, perhaps a newer one.
        return [str(script), *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]
