"""Hosts on one engine: each a server of its own, with directories of its own."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.deploys.restarts import replace
from tests.server_process import ServerProcess, run_server

SERVE = (sys.executable, "-m", "lastcall", "serve", "main:app")
SETTINGS: dict[str, Any] = {
    "insecure": True,
    "heartbeat_interval": 0,
    "announcements": False,
    "shutdown_timeout": 60,
    "namespaces": json.dumps(
        {"kept": {"history_size": 10_000, "history_ttl": 600, "force_recovery": True}}
    ),
}
LEFT_WITHIN = 90.0


class Fleet:
    """Use `fleet_on`."""

    def __init__(self, stack: contextlib.ExitStack, hosts: int, workers: int, url: str) -> None:
        """Start them."""
        self._stack = stack
        self._workers = workers
        self._settings: dict[str, Any] = SETTINGS | {"broker_url": url}
        self.hosts = [self._run() for _ in range(hosts)]

    def url(self, place: int) -> str:
        """Where clients connect to the host at *place*."""
        return f"ws://127.0.0.1:{self.hosts[place].port}/connection/websocket"

    def kill(self, place: int) -> None:
        """End master and workers at once, as when the power fails."""
        os.killpg(self.hosts[place].process.pid, signal.SIGKILL)

    def start(self, place: int) -> None:
        """Start a host that has ended anew, with nothing left from before."""
        self.hosts[place] = self._run(self.hosts[place].port)

    def roll(self, place: int) -> float:
        """Replace the workers, which hand their clients over; the seconds it took."""
        host = self.hosts[place]
        return replace(host, self._workers, lambda: host.send_signal(signal.SIGHUP))

    def stop(self, place: int) -> None:
        """Let it leave in order: its clients are released, and go elsewhere."""
        self.hosts[place].send_signal(signal.SIGTERM)
        self.hosts[place].wait(LEFT_WITHIN)

    @property
    def log(self) -> str:
        """What the hosts wrote, those that were killed aside."""
        return "\n".join(host.log for host in self.hosts)

    def _run(self, port: int | None = None) -> ServerProcess:
        running = run_server(command=SERVE, workers=self._workers, port=port, **self._settings)
        return self._stack.enter_context(running)


@contextlib.contextmanager
def fleet_on(url: str, hosts: int, workers: int) -> Iterator[Fleet]:
    """Run hosts on the engine at *url* until the block is left."""
    with contextlib.ExitStack() as stack:
        yield Fleet(stack, hosts, workers, url)
