"""What a session of load runs came to, as it is kept in `benchmarks/results/`."""

import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.candidates import FLOOR, Candidate
from benchmarks.processes import ROOT
from benchmarks.runs import Figures, Rows, Scale

RESULTS = ROOT / "benchmarks" / "results"
CENTRIFUGE_RESULTS = RESULTS / "centrifuge"
ENGINE_RESULTS = RESULTS / "engines"


@dataclass(frozen=True, slots=True)
class Session:
    """One session: what was run, where, and all figures of all its rounds.

    Attributes:
        rows: row, server, round: the figures. A round in which the server failed has none.
        failures: what went wrong, in words, by server.
    """

    date: str
    machine: dict[str, str]
    commit: str
    scale: dict[str, float]
    versions: dict[str, str]
    load_before: float
    rows: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, server: str, number: int, rows: Rows) -> None:
        """Note what *server* came to in round *number*, which counts from 0."""
        for row, figures in rows.items():
            rounds = self.rows.setdefault(row, {}).setdefault(server, [])
            rounds += [{}] * (number - len(rounds))  # rounds in which it failed
            rounds.append(figures)

    def servers(self, row: str) -> list[str]:
        """Who has figures in *row*, in the order of the session."""
        return [name for name, rounds in self.rows.get(row, {}).items() if any(rounds)]

    def figure(self, row: str, server: str, name: str) -> float:
        """The median over the rounds."""
        return median(figures[name] for figures in self.rows[row][server] if figures)

    def largest(self, row: str, server: str, name: str) -> float:
        """The largest of the rounds; for what must not happen once."""
        return max(figures[name] for figures in self.rows[row][server] if figures)

    def ratios(self, row: str, server: str, name: str, other: str = FLOOR) -> list[float]:
        """The figure as a multiple of *other*'s of the same round, in ascending order."""
        pairs = zip(self.rows[row][server], self.rows[row][other], strict=False)
        return sorted(one[name] / two[name] for one, two in pairs if one and two and two[name])

    def write(self, path: Path) -> None:
        """Keep it."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def new_session(scale: Scale, compared: list[Candidate]) -> Session:
    """A session that begins now, on this machine."""
    return Session(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine(),
        commit=commit(),
        scale=asdict(scale),
        versions={each.name: each.version for each in compared},
        load_before=round(os.getloadavg()[0], 2),
    )


def read_session(path: Path) -> Session:
    """The session that was written to *path*."""
    return Session(**json.loads(path.read_text()))


def newest(results: Path = RESULTS, pattern: str = "*.json") -> Path:
    """The file that the page is rendered from: their names order by the date."""
    return max(results.glob(pattern))


def machine() -> dict[str, str]:
    """What it was measured on."""
    cpu = re.search(r"^model name\s*: (.*)$", _text("/proc/cpuinfo"), flags=re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text("/proc/meminfo"), flags=re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _text(path: str) -> str:
    return Path(path).read_text()


def commit() -> str:
    """What was measured."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() or "unknown"
