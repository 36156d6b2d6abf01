"""Runs the fuzzing client against our server, and keeps what it says."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Server, free_port, serving
from conformance.verdicts import outcome

BATCH_TIMEOUT = 7200.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to serve the echo."""

    path: str
    loop: str

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return f"{self.path}, {self.loop}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of one batch.

    Attributes:
        outcomes: by case.
        seconds: how long it took, most of it in the client.
        peak_memory: bytes of the server at its largest (RSS); 0 where the system does not say.
        log: what the server wrote beside its first line.
    """

    outcomes: dict[str, str]
    seconds: float
    peak_memory: int
    log: str


def run_batch(wstest: Path, candidate: Candidate, patterns: Sequence[str]) -> Findings:
    """Try the cases of *patterns* on a server of their own.

    Raises:
        RuntimeError: the server did not start, or the client did not come to an end.
    """
    with tempfile.TemporaryDirectory(prefix="autobahn-") as name:
        directory, port = Path(name), free_port()
        log = directory / "server.log"
        command = (
            *(sys.executable, "-m", "uvicorn", "conformance.echo:app", "--port", str(port)),
            *("--loop", candidate.loop, "--no-access-log", "--log-level", "warning"),
        )
        environment = {
            "LASTCALL_RUN_DIR": f"{directory}/run",
            "LASTCALL_STATE_DIR": f"{directory}/state",
        }
        with serving(command, port, environment, log) as server:
            started = time.monotonic()
            cases = _drive(wstest, f"ws://127.0.0.1:{port}/{candidate.path}", patterns, directory)
            seconds = round(time.monotonic() - started, 1)
            memory = _peak_memory(server)
        return Findings(
            {case: outcome(each["behavior"], each["behaviorClose"]) for case, each in cases},
            seconds,
            memory,
            "\n".join(line for line in log.read_text().splitlines() if "started under" not in line),
        )


def _drive(
    wstest: Path, url: str, patterns: Sequence[str], directory: Path
) -> list[tuple[str, dict[str, Any]]]:
    specification = {
        "outdir": str(directory / "reports"),
        "options": {"failByDrop": False},
        "servers": [{"agent": "echo", "url": url}],
        "cases": list(patterns),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path = directory / "specification.json"
    path.write_text(json.dumps(specification))
    try:
        done = subprocess.run(
            [wstest, "-m", "fuzzingclient", "-s", path],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BATCH_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"the fuzzing client was not done after {BATCH_TIMEOUT:.0f} s"
        ) from error
    index = directory / "reports" / "index.json"
    if done.returncode != 0 or not index.exists():
        raise RuntimeError(f"the fuzzing client gave up:\n{done.stdout[-2000:]}")
    cases = json.loads(index.read_text())["echo"]
    return sorted(cases.items(), key=lambda item: [int(part) for part in item[0].split(".")])


def _peak_memory(server: Server) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        if found := re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE):
            return int(found[1]) * 1024
    return 0
