"""`scripts/instructions`: count the instructions of the hot paths, and notice when they grow.

Times say what a machine was doing; instructions say what the program does, and hardly vary. They
depend on how the interpreter was built, so what is kept is their ratio to a yardstick: a loop that
has nothing to do with us, counted in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ROOT

KEPT = ROOT / "benchmarks" / "instructions.json"
YARDSTICK = "yardstick"
NO_PATHS = (YARDSTICK, "Program termination")
EXACT = ("read ", "write ")
"""How the names of paths begin that no timer disturbs: they may grow by 2 %, the others by 15 %."""


def main() -> None:
    """Count, compare, or keep."""
    parser = argparse.ArgumentParser(prog="scripts/instructions", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep these counts as the new ones")
    parser.add_argument("--profile", type=Path, help="leave callgrind's files there")
    asked = parser.parse_args()
    ratios = to_yardstick(count(asked.profile))
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    python = "{}.{}".format(*sys.version_info)
    if asked.write:
        KEPT.write_text(json.dumps({**kept, python: ratios}, indent=1, sort_keys=True) + "\n")
        return
    for name, ratio in ratios.items():
        before = kept.get(python, {}).get(name)
        change = f"{ratio / before - 1:+.1%}" if before else "new"
        print(f"{name:48} {ratio:9.4f} {change}")
    if grown(ratios, kept.get(python, {})):
        sys.exit(1)


def grown(ratios: dict[str, float], kept: dict[str, float]) -> list[str]:
    """The paths that cost more than they may."""
    return [
        name
        for name, ratio in ratios.items()
        if name in kept and ratio > kept[name] * (1.02 if name.startswith(EXACT) else 1.15)
    ]


def to_yardstick(counts: dict[str, int]) -> dict[str, float]:
    """Each path as a multiple of the yardstick."""
    return {n: round(c / counts[YARDSTICK], 4) for n, c in counts.items() if n not in NO_PATHS}


def count(keep: Path | None = None) -> dict[str, int]:
    """Instructions of each path."""
    with tempfile.TemporaryDirectory(prefix="lcb-") as name:
        directory = keep or Path(name)
        library = Path(name) / "counting.so"
        source = ROOT / "benchmarks" / "counting.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)  # noqa: S607  (any compiler)
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet"]
        command += [f"--callgrind-out-file={directory}/counts"]
        command += [sys.executable, "-m", "benchmarks.hot_paths", str(library)]
        subprocess.run(command, check=True, cwd=ROOT, env=environment())
        counts: dict[str, int] = {}
        for path in directory.glob("counts.*[0-9]"):
            what, number = read(path)
            counts[what] = min(number, counts.get(what, number))
        return counts


def environment() -> dict[str, str]:
    """The same for everybody: where the environment lies in memory shifts everything after it."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def read(path: Path) -> tuple[str, int]:
    """Name and instructions of one count."""
    lines = path.read_text().splitlines()
    name = next(line for line in lines if line.startswith("desc: Trigger: "))
    total = next(line for line in lines if line.startswith("totals: "))
    return name.rpartition(": ")[2], int(total.split()[1])


if __name__ == "__main__":
    main()
