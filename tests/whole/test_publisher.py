"""Another process of the host publishes: to all workers, through reloads and deaths, or is told."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.server_process import ROOT, ServerProcess, run_server, wait_until

pytestmark = pytest.mark.whole

SERVE = (sys.executable, "-m", "lastcall", "serve")
QUIET: dict[str, Any] = {"announcements": "false", "heartbeat_interval": 0}


class Publishing:
    """The other process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def publish(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def publishing(server: ServerProcess, timeout: float = 10) -> Iterator[Publishing]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.whole.publishing", str(timeout)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LASTCALL_RUN_DIR": str(server.run_dir),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Publishing(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_every_client_of_every_worker_hears_it() -> None:
    with run_server(command=SERVE, workers=2, **QUIET) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.websocket_url, proxy=None)) for _ in range(6)]
        publisher = stack.enter_context(publishing(server))
        first = int(publisher.publish("one"))
        assert int(publisher.publish("two")) == first + 1
        assert int(publisher.publish("two")) == first + 1  # its key was used
        for client in clients:
            assert [client.recv(10), client.recv(10)] == ["one", "two"]

        # Reload: all workers, and with them the sequencer, are others.
        before = set(server.worker_pids())
        server.send_signal(signal.SIGHUP)
        assert publisher.publish("three").isdigit()
        wait_until(lambda: len(set(server.worker_pids()) - before) == 2, 30, server.describe)
        assert publisher.publish("four").isdigit()
        # Each worker in turn, so the sequencer too, without a word.
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
            assert publisher.publish(f"after {pid}").isdigit()
            server.wait_workers(2)


def test_publisher_hears_of_a_server_that_stops() -> None:
    with run_server(command=SERVE, workers=2, shutdown_timeout=1, **QUIET) as server:
        with publishing(server, timeout=1) as publisher:
            assert publisher.publish("one").isdigit()
            server.send_signal(signal.SIGTERM)
            # An attached publisher keeps nobody from leaving, and leaves nothing behind.
            assert server.wait(20) == 0
            assert publisher.publish("two").startswith("failed not accepted within 1 s")
        assert server.leftovers() == []


def test_two_servers_are_one_too_many() -> None:
    with (
        run_server(command=SERVE, workers=2, **QUIET) as server,
        run_server(command=SERVE, workers=2, directory=server.run_dir.parent, **QUIET),
        publishing(server, timeout=1) as publisher,
    ):
        assert "several servers run here" in publisher.publish("one")
