"""A real NATS on a free port, that tests stop, pause, kill and start again."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.server_process import START_TIMEOUT, free_port, wait_until

needs_nats = pytest.mark.program("nats-server")


class NatsProcess:
    """One server with JetStream; what it stored is in files as soon as it has answered."""

    def __init__(self, directory: Path, config: str = "") -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._directory = directory
        self.has_jetstream = True
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run, with what was stored before; returns when it answers."""
        path = self._directory / "nats.conf"
        lines = [f"listen: 127.0.0.1:{self.port}", self._config]
        if self.has_jetstream:
            lines.append(f"jetstream {{ store_dir: {self._directory / 'store'} }}")
        path.write_text("\n".join(lines))
        command = ["nats-server", "--config", str(path)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers, START_TIMEOUT, self._log)

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def forget(self) -> None:
        """Lose what it stored, while it does not run."""
        shutil.rmtree(self._directory / "store")

    def pause(self) -> None:
        """Let it hang: connections stay, answers do not come."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            # It has many threads, each of which stops when it is its turn.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")


@contextmanager
def run_nats(config: str = "") -> Iterator[NatsProcess]:
    """Run a NATS until the block is left."""
    with TemporaryDirectory(prefix="lc-nats-") as directory:
        server = NatsProcess(Path(directory), config)
        server.start()
        try:
            yield server
        finally:
            server.kill()
