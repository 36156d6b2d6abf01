"""A real server in its own process group, on a free port, with directories of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 30.0
"""Generous: the machine may be busy with other tests."""


def free_port() -> int:
    """A port that nobody listens on; it stays unlikely to be taken for a while."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class ServerProcess:
    """One running server and everything a test wants to ask or do to it."""

    process: "subprocess.Popen[bytes]"
    port: int
    run_dir: Path
    state_dir: Path
    log_path: Path
    killed: list[int] = field(default_factory=list)

    @property
    def websocket_url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def log(self) -> str:
        """Everything the server wrote so far."""
        return self.log_path.read_text(errors="replace")

    def get(self, path: str, timeout: float = 5) -> tuple[int, dict[str, str], str]:
        """Status, headers (lower case) and body of a GET over a new connection."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return response.status, headers, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                headers = {name.lower(): value for name, value in error.headers.items()}
                return error.code, headers, error.read().decode()

    def records(self, kind: str = "ALIVE") -> dict[int, dict[str, object]]:
        """The coordination files of one kind, by pid."""
        found: dict[int, dict[str, object]] = {}
        for path in self.run_dir.glob(f"*/*.{kind}"):
            with contextlib.suppress(OSError, ValueError):
                found[int(path.stem)] = json.loads(path.read_text())
        return found

    def worker_pids(self) -> list[int]:
        """The workers that have said they are ready."""
        return [pid for pid, record in self.records().items() if record.get("state") == "ready"]

    def wait_ready(self, workers: int) -> None:
        """Return when *workers* workers take connections; fail with the log if they do not."""
        self.wait_workers(workers)
        wait_until(self._is_ready, START_TIMEOUT, self.describe)

    def wait_workers(self, workers: int) -> None:
        """Return when *workers* workers have said that they are ready."""

        def are_ready() -> bool:
            assert self.process.poll() is None, self.describe()
            return len(self.worker_pids()) >= workers

        wait_until(are_ready, START_TIMEOUT, self.describe)

    def health(self, kind: str) -> int:
        """The status of `/health/live` or `/health/ready`; 0 while nobody listens."""
        try:
            return self.get(f"/health/{kind}")[0]
        except OSError:
            return 0

    def refuses(self) -> bool:
        """Whether whoever comes now is refused."""
        with contextlib.suppress(OSError):  # a worker without clients has just ended
            return self.get("/")[0] == 503
        return False

    def _is_ready(self) -> bool:
        return self.health("ready") == 200

    def describe(self) -> str:
        return (
            f"status {self.process.poll()}, group {self._group()}, files {self.records()}, "
            f"log:\n{self.log}"
        )

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process that was started: the master, if there is one."""
        self.process.send_signal(number)

    def send_signal_to_group(self, number: signal.Signals) -> None:
        """Signal the whole process group, as a terminal's Ctrl-C does."""
        os.killpg(self.process.pid, number)

    def wait(self, timeout: float) -> int:
        """The exit status; fails with the log if the process is still there."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s: {self.describe()}") from None

    def group_is_gone(self) -> bool:
        """Whether no process of the group runs any more."""
        self.process.poll()
        return not self._group()

    def _group(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, _, rest = path.read_text().rpartition(")")
                state, _parent, group = rest.split()[:3]
                if int(group) == self.process.pid and state not in "ZX":
                    found.append(f"{name}) {state}")
        return found

    def leftovers(self) -> list[Path]:
        """What lies in the run directory: nothing, after a clean end."""
        return sorted(self.run_dir.rglob("*"))


def slowness() -> float:
    """How much longer than on an idle machine a Python process takes now; 1 at the least.

    A bound on how soon processes end is multiplied by it, so that it says something about us and
    not about who else uses the machine.
    """
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import fastapi"], cwd=ROOT, check=True)
    return max(1.0, (time.monotonic() - started) / 0.5)


def wait_until(condition, timeout: float, describe=lambda: "") -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Wait for something in another process, which has no event for us to wait on."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {describe()}")
        time.sleep(0.02)


@contextlib.contextmanager
def run_server(
    *arguments: str,
    command: Sequence[str] = (sys.executable, "-m", "uvicorn", "main:app"),
    workers: int = 1,
    port: int | None = None,
    directory: Path | None = None,
    wait: bool = True,
    cwd: Path = ROOT,
    **settings: object,
) -> Iterator[ServerProcess]:
    """Run a server until the block is left; *settings* are `LASTCALL_…` in lower case.

    A *command* that has no `--port` says where the port belongs by `{port}`.

    Whatever is left of its process group then is killed.
    """
    port = port or free_port()
    with contextlib.ExitStack() as stack:
        base = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lc-")))
        run_dir, state_dir = base / "run", base / "state"
        run_dir.mkdir(mode=0o700, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if "LASTCALL" not in key}
        environment |= {
            "LASTCALL_RUN_DIR": str(run_dir),
            "LASTCALL_STATE_DIR": str(state_dir),
            "PYTHONPATH": str(ROOT),
            **{f"LASTCALL_{name.upper()}": str(value) for name, value in settings.items()},
        }
        log_path = base / "log"
        line = [part.format(port=port) for part in command]
        if line == [*command]:
            line += ["--port", str(port)]
        line += arguments
        if workers > 1:
            line += ["--workers", str(workers)]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )
        server = ServerProcess(process, port, run_dir, state_dir, log_path)
        try:
            if wait:
                server.wait_ready(workers)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
