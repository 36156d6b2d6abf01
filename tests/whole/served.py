"""`lastcall serve` in its own process and session, with its log as a stream of events."""

import contextlib
import http.client
import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

CHECKOUT = Path(__file__).parent.parent.parent
PATIENCE = 20.0
"""Seconds until a test gives up on an event; only ever reached by a failure."""

APPLICATION = """
from tests.whole.supervised_app import lifespan

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"RELEASE"})
"""
"""What it serves says which release it is."""


class Served:
    """A running `lastcall serve`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @classmethod
    @contextlib.contextmanager
    def start(
        cls,
        *options: str,
        app: str = "tests.whole.supervised_app:app",
        pass_fds: tuple[int, ...] = (),
        directory: Path = CHECKOUT,
        below: tuple[str, ...] = (),
        **environment: str,
    ) -> Iterator[Self]:
        """Run it until the end of the block; whatever is left then is killed.

        *below* is a program with its arguments that starts it in turn.
        """
        clean = {key: value for key, value in os.environ.items() if "LASTCALL" not in key}
        process = subprocess.Popen(
            [*below, sys.executable, "-m", "lastcall", "serve", app, "--port", "0", *options],
            env=clean | {"PYTHONPATH": str(CHECKOUT), "PWD": str(directory)} | environment,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        served = cls(process)
        try:
            yield served
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            served._reader.join(PATIENCE)
            assert process.stdout is not None
            process.stdout.close()

    def hear(self, pattern: str) -> re.Match[str]:
        """Wait for the next line of the log in which *pattern* is found."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"never heard {pattern!r} in:\n" + "".join(self.log)
            if found := re.search(pattern, line):
                return found

    def hear_all(self, *patterns: str) -> None:
        """Wait for all *patterns*, in any order: those of several processes have none."""
        missing = set(patterns)
        while missing:
            line = self.hear("|".join(missing)).string
            missing -= {pattern for pattern in missing if re.search(pattern, line)}

    def ready(self, workers: int = 2) -> tuple[str, list[int]]:
        """Wait until it serves; where, and the pids of its workers."""
        pids = [int(self.hear(r"Worker \[(\d+)\] is ready")[1]) for _ in range(workers)]
        return self.hear(r"running on (?:unix socket )?(\S+)")[1], pids

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the master, or to the whole process group as a terminal does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def ended(self, within: float = PATIENCE) -> int:
        """Wait for the end; the exit status."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError("still runs:\n" + "".join(self.log)) from None

    def all_output(self) -> str:
        """Everything it and its workers have written; once all of them have ended."""
        self._reader.join(PATIENCE)
        return "".join(self.log)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            self._lines.put(line)
        self._lines.put(None)


@contextlib.contextmanager
def watched(pid: int) -> Iterator[int]:
    """A descriptor that stands for exactly this process."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_ended(descriptor: int, within: float = PATIENCE) -> bool:
    """Whether the process that `watched` gave ends in time."""
    return bool(select.select([descriptor], [], [], within)[0])


def is_gone(pid: int) -> bool:
    """Whether no process has this pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@contextlib.contextmanager
def request_in_flight(url: str, served: Served) -> Iterator[http.client.HTTPConnection]:
    """A request whose body is complete only when the test says so: it keeps a worker draining."""
    where = urlsplit(url)
    with contextlib.closing(
        http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    ) as held:
        held.putrequest("POST", "/")
        held.putheader("Content-Length", "1")
        held.endheaders()
        served.hear("request begun")
        yield held


def finish(held: http.client.HTTPConnection) -> int:
    """Complete the request; the pid of the worker that answered."""
    held.send(b"x")
    return int(held.getresponse().read())
