"""What was measured of deploys, as it is kept in `benchmarks/results/deploys`, one file a part."""

import json
import platform
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lastcall
from benchmarks.processes import ROOT
from benchmarks.results_file import commit, machine

RESULTS = ROOT / "benchmarks" / "results" / "deploys"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target, what was measured, and whether that is enough."""

    target: str
    measured: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the targets, measured in one go."""

    name: str
    outcomes: list[Outcome]
    command: str
    """What measures it again."""
    notes: str
    """How it was measured; Markdown."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Whatever else is worth keeping."""
    date: str = ""
    commit: str = ""
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def write(self) -> Path:
        """Keep it, with what it was measured on."""
        now = datetime.now(UTC)
        kept = asdict(self) | {
            "date": now.strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit(),
            "machine": machine(),
            "versions": versions(),
        }
        path = RESULTS / f"{self.name}-{now:%Y-%m-%d-%H%M}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(kept, indent=1) + "\n")
        return path


def versions() -> dict[str, str]:
    """What runs here."""
    packages = {name: version(name) for name in ("uvicorn", "uvloop", "fastapi")}
    python = {"python": platform.python_version(), "lastcall": lastcall.__version__}
    return python | packages


def newest_parts() -> list[Part]:
    """The newest file of each part, by name."""
    newest = {}
    for path in sorted(RESULTS.glob("*.json")):
        kept = json.loads(path.read_text())
        kept["outcomes"] = [Outcome(**each) for each in kept["outcomes"]]
        newest[kept["name"]] = Part(**kept)
    return [newest[name] for name in sorted(newest)]


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(line, file=sys.stderr, flush=True)
