"""A process on one core: start it, wait for its port, ask the kernel what it used."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVER_CORE, LOAD_CORE = 0, 1
START_TIMEOUT = 30.0


def pin(core: int) -> None:
    """Keep this process and its children on one of the machine's cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pin_server() -> None:
    """Run in a server's process before it becomes the server."""
    pin(SERVER_CORE)


def pin_load() -> None:
    """Run in the load generator's process before it becomes that."""
    pin(LOAD_CORE)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that takes connections, with all its child processes."""

    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def cpu_seconds(self) -> float:
        """User and system time that its processes have used."""
        return sum(cpu_seconds_of(pid) for pid in self._pids())

    @property
    def memory(self) -> int:
        """Bytes that it holds: pages that processes share are divided among them (PSS)."""
        return sum(memory_of(pid) for pid in self._pids())

    @property
    def peak_memory(self) -> int:
        """The most bytes that it held since `forget_peak`, shared pages counted in each process."""
        return sum(_in_bytes(Path(f"/proc/{pid}/status"), "VmHWM") for pid in self._pids())

    def forget_peak(self) -> None:
        """Let `peak_memory` begin with what it holds now."""
        for pid in self._pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        """Stop it as an operator does, and wait until it has ended."""
        self.process.terminate()
        self.process.wait(START_TIMEOUT)

    def wait_until_idle(self) -> None:
        """Wait until it has done nothing to speak of for a moment."""
        for _ in range(100):
            before = self.cpu_seconds
            time.sleep(0.3)
            if self.cpu_seconds - before < 0.01:
                return

    def _pids(self) -> list[int]:
        found = [self.process.pid]
        for pid in found:
            found += _children(pid)
        return found


def cpu_seconds_of(pid: int) -> float:
    """User and system time that one process has used."""
    # What clock_getcpuclockid(3) returns: the time of all threads, in nanoseconds. The times in
    # /proc/<pid>/stat are the same in steps of 10 ms.
    return time.clock_gettime(~pid << 3 | 2)


def memory_of(pid: int) -> int:
    """Bytes that one process holds, with its share of what it shares."""
    return _in_bytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss")


def _in_bytes(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in tasks for child in path.read_text().split()]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    command: Sequence[str], port: int, environment: Mapping[str, str], log: Path
) -> Iterator[Server]:
    """Run *command* on the server's core until the block is left.

    Raises:
        RuntimeError: it does not take connections in time; with what it wrote.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=pin_server,  # noqa: PLW1509  (this process has one thread)
        )
    try:
        _wait_for_port(process, port, log)
        yield Server(process, port)
    finally:
        # The server's whole group, and nothing but it: it was started as a session of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} takes no connections:\n{log.read_text(errors='replace')}")
