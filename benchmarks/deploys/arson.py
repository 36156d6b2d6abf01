"""What may happen to a server, at random: deaths, restarts, reloads and upgrades."""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.server_process import ServerProcess, free_port, run_server, wait_until

OWN = (sys.executable, "-m", "lastcall", "serve", "main:app")
FIRE = {"history_size": 300, "history_ttl": "10min", "force_recovery": True}
SETTINGS: dict[str, Any] = {
    "insecure": True,
    "namespaces": json.dumps({"fire": FIRE}),
    "announcements": False,
    "heartbeat_interval": 0,
    "shutdown_timeout": 4,
}
GIVE_UP = 60.0
"""Seconds until all workers have to be ready again, on a busy machine."""


class Place:
    """Where one server after the other serves: the same port, the same directories."""

    def __init__(self, directory: Path, workers: int) -> None:
        """Nobody serves there yet."""
        self.workers = workers
        self._directory = directory
        self._port = free_port()
        self._stack = contextlib.ExitStack()
        self._server: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Where clients of the SDKs' protocol connect."""
        return f"ws://127.0.0.1:{self._port}/connection/websocket"

    @property
    def server(self) -> ServerProcess:
        """The server that serves now.

        Raises:
            RuntimeError: there is none.
        """
        if self._server is None:
            raise RuntimeError("nobody serves here")
        return self._server

    def start(self) -> None:
        """Let a server serve here, with all its workers."""
        self._server = self._stack.enter_context(
            run_server(
                command=OWN,
                workers=self.workers,
                port=self._port,
                directory=self._directory,
                **SETTINGS,
            )
        )

    def stop(self, how: Callable[[ServerProcess], None]) -> None:
        """Let nobody serve here."""
        how(self.server)
        self.server.wait(GIVE_UP)
        self.close()

    def close(self) -> None:
        """Kill what is left."""
        self._server = None
        self._stack.close()


class Arson:
    """Disturbs the server of a place; plain calls, which wait, so they are for a thread."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        """Do by *chance* what is done."""
        self.done: Counter[str] = Counter()
        self.longest = 0.0
        """Seconds that it took until all workers were ready."""
        self._place = place
        self._chance = chance
        self._ways: dict[str, Callable[[], object]] = {
            "kill -9 of a worker": lambda: self._kill(1),
            "kill -9 of two workers": lambda: self._kill(2),
            "SIGTERM to a worker": self._leave,
            "reload": lambda: self._place.server.send_signal(signal.SIGHUP),
            "upgrade": lambda: self._place.server.send_signal(signal.SIGUSR2),
            "restart": lambda: self._begin_anew(lambda it: it.send_signal(signal.SIGTERM)),
            "kill -9 of everything": lambda: self._begin_anew(
                lambda it: it.send_signal_to_group(signal.SIGKILL)
            ),
        }

    def disturb(self) -> None:
        """Do something, and wait until as many workers are ready as should be.

        Those of before may be among them: the next disturbance may come in the middle of this one.
        """
        what = self._chance.choice([*self._ways])
        since = time.monotonic()
        self._ways[what]()
        self.wait_ready()
        self.longest = max(self.longest, time.monotonic() - since)
        self.done[what] += 1

    def wait_ready(self) -> None:
        """Wait until as many workers are ready as should be."""
        server = self._place.server
        wait_until(
            lambda: len(server.worker_pids()) >= self._place.workers, GIVE_UP, server.describe
        )

    def _kill(self, count: int) -> None:
        workers = self._place.server.worker_pids()
        for worker in self._chance.sample(workers, min(count, len(workers))):
            _signal(worker, signal.SIGKILL)

    def _leave(self) -> None:
        _signal(self._chance.choice(self._place.server.worker_pids()), signal.SIGTERM)

    def _begin_anew(self, how: Callable[[ServerProcess], None]) -> None:
        self._place.stop(how)
        self._place.start()


def _signal(worker: int, number: signal.Signals) -> None:
    # It may be leaving at this very moment, because of what was done before.
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, number)
