"""One worker as its master sees it: a process, its place, what it said last, how it ended."""

import logging
import math
import multiprocessing
import os
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import uvicorn

from lastcall.process_identity import is_stopped_on_purpose
from lastcall.restart_policy import Backoff, WorkerLimits
from lastcall.uvicorn_server import LEFT, READY, WORN, run_worker

CLEAN = frozenset({0, -signal.SIGTERM, -signal.SIGINT})
"""Exit statuses of a worker that did what it was asked; by signal: before Python could hear it."""
DYING_TIME = 5.0
"""Seconds from the last word to SIGKILL: a hung worker writes down where it hangs."""

logger = logging.getLogger("lastcall")

_spawn = multiprocessing.get_context("spawn")


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A worker, from its start until its end has been seen."""

    process: SpawnProcess
    messages: Connection
    started_at: float
    generation: int = 0
    ready: bool = False
    retiring: bool = False
    """It was told to leave, because another has taken its place or there is none any more."""
    worn_at: float = math.inf
    """From when on it should be replaced: its lifetime is over, or its limit of requests."""
    last_beat: float | None = None
    """When its event loop was last heard of; None while that is not expected."""
    is_known_stopped: bool = False
    kill_at: float = math.inf

    @classmethod
    def start(
        cls,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        *,
        generation: int,
        limits: WorkerLimits,
        now: float,
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
        lifetime = limits.lifetime_of_one(random.random())  # noqa: S311  (no secret)
        worn_at = math.inf if lifetime is None else now + lifetime
        return cls(process, messages, now, generation, worn_at=worn_at)

    @property
    def pid(self) -> int:
        """Of this process; another's once its end has been seen."""
        return self.process.pid or 0

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self.process.exitcode

    def hear(self, *, now: float) -> bool:
        """Read a message; whether the worker just became ready. Only when there is one."""
        try:
            message = self.messages.recv_bytes()
        except (EOFError, OSError):
            self.messages.close()
            return False
        # Whatever it says; but what happens after its loop has ended may take its time.
        self.last_beat = None if message == LEFT else now
        if message == WORN:
            self.worn_at = now
        if message != READY:
            return False
        self.ready = True
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless its end has been seen: then the pid may be a stranger's."""
        if self.status is None:
            os.kill(self.pid, number)

    def retire(self) -> None:
        """Ask it to leave; its drain has its own limit."""
        self.retiring = True
        self.signal(signal.SIGTERM)

    def excuse(self, now: float) -> None:
        """Do not count the time until *now* as silence: it was the master that did not listen."""
        if self.last_beat is not None:
            self.last_beat = now

    def end_soon(self, now: float) -> None:
        """Kill it if it has not left a few seconds from *now*."""
        self.kill_at = min(self.kill_at, now + DYING_TIME)

    def look_after(self, silence: float | None, now: float) -> None:
        """Kill it if that is due; abort it if its event loop was silent for longer than *silence*.

        Not if it was stopped by a signal or is looked at by a debugger: somebody knows.
        """
        if now >= self.kill_at:
            self.kill_at = math.inf
            self.signal(signal.SIGKILL)
        heard = now if silence is None or self.last_beat is None else self.last_beat
        is_silent = silence is not None and now - heard > silence
        was_stopped, self.is_known_stopped = self.is_known_stopped, False
        if not is_silent:
            return
        if is_stopped_on_purpose(self.pid):
            self.is_known_stopped = True
            if not was_stopped:
                logger.warning("Worker [%d] is stopped, or debugged: left alone", self.pid)
        elif was_stopped:
            self.last_beat = now  # it was let go just now, and gets as long as anybody
        else:
            logger.error("Worker [%d] hangs: not a turn of its loop in %g s", self.pid, silence)
            self.last_beat = None
            self.end_soon(now)
            self.signal(signal.SIGABRT)

    def close(self) -> None:
        """Let go of what the master held for it, after its end."""
        self.messages.close()
        self.process.close()


@dataclass(slots=True)
class Place:
    """One of the N places for a worker: who stands in it, or when the next one starts."""

    number: int
    due: float | None
    worker: WorkerProcess | None = None
    backoff: Backoff = field(default_factory=Backoff)
    recycle_after: float = -math.inf

    @property
    def worn_at(self) -> float:
        """From when on another worker should stand here; not while this one is starting."""
        if self.worker is None or not self.worker.ready:
            return math.inf
        return max(self.worker.worn_at, self.recycle_after)


def how_it_ended(worker: WorkerProcess) -> str:
    """Say it in words; only after its end."""
    status = worker.status or 0
    if status < 0:
        return f"Worker [{worker.pid}] was ended by {signal.Signals(-status).name}"
    return f"Worker [{worker.pid}] left with exit status {status}"


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
