"""What a run came to, as it is kept in `conformance/results.json`."""

import json
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.processes import ROOT
from conformance.cases import GROUPS, group_of, incomplete
from conformance.fuzzing_client import Candidate, Findings
from conformance.verdicts import OK, problems
from lastcall import __version__

RESULTS = ROOT / "conformance" / "results.json"


@dataclass(slots=True)
class Row:
    """What one way to serve the echo came to.

    Attributes:
        outcomes: by case.
        seconds: by the patterns of a batch.
        peak_memory: the same, in bytes.
        trouble: what the server wrote into its log, and what went wrong with the run itself.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: dict[str, int] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """All that must not be, in sentences."""
        return [*problems(self.outcomes), *self.trouble]


@dataclass(slots=True)
class Results:
    """One run: when, of what, and what each row of it came to."""

    date: str
    commit: str
    versions: dict[str, str]
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, candidate: Candidate, patterns: tuple[str, ...], found: Findings) -> None:
        """Note what a batch came to."""
        row = self.rows.setdefault(candidate.name, Row())
        row.outcomes |= found.outcomes
        batch = " ".join(patterns)
        row.seconds[batch], row.peak_memory[batch] = found.seconds, found.peak_memory
        if found.log:
            row.trouble.append(f"the server wrote: {found.log}")
        row.trouble += incomplete(found.outcomes, patterns)

    def outcomes_of(self, number: int) -> dict[str, dict[str, str]]:
        """By row: the outcomes of one group."""
        return {
            name: {c: found for c, found in row.outcomes.items() if group_of(c) == number}
            for name, row in self.rows.items()
        }

    def exceptions(self) -> dict[str, dict[str, list[str]]]:
        """By case and outcome: in which rows it was not OK."""
        found: dict[str, dict[str, list[str]]] = {}
        for name, row in self.rows.items():
            for case, outcome in row.outcomes.items():
                if outcome != OK:
                    found.setdefault(case, {}).setdefault(outcome, []).append(name)
        return found

    def problems(self) -> list[str]:
        """All that must not be, in sentences that name the row."""
        missing = (each for each in GROUPS if not any(self.outcomes_of(each.number).values()))
        return [
            *(f"{name}: {each}" for name, row in self.rows.items() for each in row.problems()),
            *(f"no case of {group.number}.* was run" for group in missing),
        ]

    def write(self, path: Path = RESULTS) -> None:
        """Keep it."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def new_results(suite: str) -> Results:
    """A run that begins now, with that version of the test suite."""
    versions = {
        "autobahntestsuite": suite,
        "lastcall": __version__,
        "Python": platform.python_version(),
    }
    for package in ("uvicorn", "uvloop", "httptools", "starlette"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return Results(datetime.now(UTC).strftime("%Y-%m-%d"), _commit(), versions)


def _commit() -> str:
    """The last one that touched the package, and whether the checkout differs from it."""
    last = _git("log", "-1", "--format=%h", "--", "lastcall").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", "lastcall").returncode
    return (last or "unknown") + (", changed" if changed else "")


def _git(*words: str) -> "subprocess.CompletedProcess[str]":
    command = ["git", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def read_results(path: Path = RESULTS) -> Results:
    """What was kept."""
    kept = json.loads(path.read_text())
    kept["rows"] = {name: Row(**row) for name, row in kept["rows"].items()}
    return Results(**kept)


def table(results: Results) -> str:
    """Markdown: groups down, ways to serve across; how many cases are OK, and what the rest is."""
    lines = [
        "| cases | " + " | ".join(results.rows) + " |",
        "|---|" + "---|" * len(results.rows),
    ]
    for group in GROUPS:
        counts = [_counts(found) for found in results.outcomes_of(group.number).values()]
        if any(counts):
            cells = (each or "-" for each in counts)
            lines.append(f"| {group.number}.* {group.what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _counts(outcomes: dict[str, str]) -> str:
    kinds = sorted(set(outcomes.values()), key=lambda kind: (kind != OK, kind))
    each = list(outcomes.values())
    return ", ".join(f"{each.count(kind)} {kind if kind == OK else kind.lower()}" for kind in kinds)
