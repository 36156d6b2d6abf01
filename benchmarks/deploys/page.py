"""`docs/deploys-measured.md`, rendered from the newest file of each part."""

from collections.abc import Sequence

from benchmarks.deploys.results import Outcome, Part
from benchmarks.processes import ROOT
from benchmarks.table import grid

PAGE = ROOT / "docs" / "deploys-measured.md"

_PAGE = """\
# Deploys, measured

<!-- Generated: scripts/bench deploys --page, from the files in benchmarks/results/deploys -->

What a restart, a reload, a stop and a sudden death do to clients, with figures. Measured by
`scripts/bench deploys --write`; CI runs a shortened form of each row
(`tests/whole/test_deploys.py`). A miss stays in the table.

{targets}

{parts}"""

_PART = """\
## {title}

{notes}

Measured {date} at commit `{commit}` by `{command}`: {machine}; {versions}.
"""


def render(parts: Sequence[Part]) -> str:
    """The page."""
    outcomes = [outcome for part in parts for outcome in part.outcomes]
    return _PAGE.format(
        targets=targets(outcomes), parts="\n".join(_render_part(part) for part in parts)
    )


def targets(outcomes: Sequence[Outcome]) -> str:
    """A table of targets and what was measured."""
    lines = [[each.target, each.measured, "yes" if each.reached else "**no**"] for each in outcomes]
    return grid(["what", "measured", "reached"], lines)


def _render_part(part: Part) -> str:
    cores = f"{part.machine['cores']} cores"
    machine = [part.machine["cpu"], cores, part.machine["memory"], part.machine["kernel"]]
    return _PART.format(
        title=part.name.replace("-", " ").capitalize(),
        notes=part.notes.rstrip(),
        date=part.date,
        commit=part.commit,
        command=part.command,
        machine=", ".join(machine),
        versions=", ".join(f"{name} {number}" for name, number in part.versions.items()),
    )
