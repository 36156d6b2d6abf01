"""One worker as its master sees it: a process, whether it is ready, how it ended."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import uvicorn

from lastcall.uvicorn_server import READY, run_worker

CLEAN = frozenset({0, -signal.SIGTERM, -signal.SIGINT})
"""Exit statuses of a worker that did what it was asked; by signal: before Python could hear it."""

_spawn = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class WorkerProcess:
    """A worker, from its start until its end has been seen."""

    process: SpawnProcess
    messages: Connection
    started_at: float
    ready: bool = False

    @classmethod
    def start(
        cls, config: uvicorn.Config, sockets: list[socket.socket], *, now: float
    ) -> "WorkerProcess":
        """Start one in a fresh interpreter; it inherits these sockets and nothing else.

        Raises:
            OSError: the system has no room for another process.
        """
        messages, sender = _spawn.Pipe(duplex=False)
        process = _spawn.Process(target=run_worker, args=(config, sockets, sender))
        try:
            with _ctrl_c_blocked():
                process.start()
        except OSError:
            messages.close()
            raise
        finally:
            sender.close()
        return cls(process, messages, now)

    @property
    def pid(self) -> int:
        """Of this process; another's once its end has been seen."""
        return self.process.pid or 0

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self.process.exitcode

    def hear(self) -> bool:
        """Read a message; whether the worker just became ready. Only when there is one."""
        try:
            self.ready = self.messages.recv_bytes() == READY
        except (EOFError, OSError):
            self.messages.close()
            return False
        return self.ready

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless its end has been seen: then the pid may be a stranger's."""
        if self.status is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of what the master held for it, after its end."""
        self.messages.close()
        self.process.close()


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Let a new process start with SIGINT blocked, until it can end without a traceback."""
    # Started now: it would unblock SIGINT again if it were started inside.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
