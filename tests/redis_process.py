"""A real Redis on a free port, that tests stop, pause, kill and start again."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.server_process import START_TIMEOUT, free_port, wait_until

needs_redis = pytest.mark.program("redis-server")


def answer_of(port: int, *words: str, password: str = "") -> str:
    """What the Redis at *port* answers: a line, or a string of several; empty if nothing."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as connection,
            connection.makefile("rb") as answer,
        ):
            if password:
                connection.sendall(_packed("AUTH", password))
                answer.readline()
            connection.sendall(_packed(*words))
            line = answer.readline().decode().strip()
            if line.startswith("$") and line != "$-1":
                return answer.read(int(line[1:])).decode()
            return line
    except OSError:
        return ""


class RedisProcess:
    """One server; what it stored is on disk as soon as it has answered."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run, with what was stored before; returns when it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self._directory), "--save", "", "--appendonly", "yes"]
        command += ["--appendfsync", "no", *self._options]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: self.ask("PING") == "+PONG", START_TIMEOUT, self._log)

    def ask(self, *words: str, password: str = "") -> str:
        """The first line of the answer to a command; empty if there is none."""
        return answer_of(self.port, *words, password=password)

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def info(self, name: str) -> int:
        """A figure that it tells of itself."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(_packed("INFO", "everything"))
            with connection.makefile("rb") as answer:
                length = int(answer.readline()[1:])
                lines = answer.read(length).decode().splitlines()
        return int(dict(line.split(":", 1) for line in lines if ":" in line)[name])

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Let it hang: connections stay, answers do not come."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")


def _packed(*words: str) -> bytes:
    packed = [f"*{len(words)}\r\n", *(f"${len(w)}\r\n{w}\r\n" for w in words)]
    return "".join(packed).encode()


@contextmanager
def run_redis(*options: str) -> Iterator[RedisProcess]:
    """Run a Redis until the block is left."""
    with TemporaryDirectory(prefix="lc-redis-") as directory:
        server = RedisProcess(Path(directory), *options)
        try:
            server.start()
            yield server
        finally:
            server.kill()
