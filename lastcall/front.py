"""The process that was started first, after a newer master has taken over.

Whoever started it watches it: a shell, a container whose first process it is, a process manager.
So it stays, passes signals on to the master of the moment, and ends as that one does. It is one
process, however many upgrades follow: masters between leave, and what they leave behind becomes
its child.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable

from lastcall.control_socket import masters_in
from lastcall.exit_status import FAILED
from lastcall.process_identity import ProcessIdentity
from lastcall.run_directory import RunDirectory

_PR_SET_CHILD_SUBREAPER = 36


class Front:
    """Stands for the masters of one family."""

    def __init__(self, directory: RunDirectory, master: ProcessIdentity) -> None:
        """Stand in front of *master*, and of whoever follows it in *directory*."""
        self._directory = directory
        self._master = master
        self._statuses: dict[int, int] = {}
        _adopt_orphans()

    @property
    def has_ended(self) -> bool:
        """Whether the last master is gone; only when we have no children of another kind."""
        self._look()
        self.reap(())
        if self._master.pid in self._statuses:
            return True
        try:
            # Of a child it is its status that counts: for a moment it can be dead without one.
            os.waitid(os.P_PID, self._master.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return not self._master.is_running()
        return False

    @property
    def status(self) -> int:
        """What the last master has exited with."""
        return self._statuses.get(self._master.pid, FAILED)

    def pass_on(self, number: signal.Signals) -> None:
        """Give a signal to the master of the moment."""
        self._look()
        self._master.signal(number)

    def reap(self, own: Iterable[int]) -> None:
        """See the end of children other than *own*, which somebody else waits for."""
        known = set(own)
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in known:
                    return
                _, status = os.waitpid(ended.si_pid, 0)
                code = os.waitstatus_to_exitcode(status)
                self._statuses[ended.si_pid] = code if code >= 0 else FAILED

    def _look(self) -> None:
        """Follow an upgrade: the youngest master is the one of the moment.

        One that starts is not to be seen in the directory before it can take over.
        """
        for other in masters_in(self._directory):
            if other.started > self._master.started or not self._master.is_running():
                self._master = other


def _adopt_orphans() -> None:
    """Become the parent of what our children leave behind, as far as the system can do that."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # noqa: PLC0415  (a Python without it can do all the rest)

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
