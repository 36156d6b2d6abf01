"""`python -m conformance`: run the fuzzing client, print a table, fail where something is wrong."""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import ROOT
from conformance.cases import COMPRESSED, QUICK, UNCOMPRESSED
from conformance.fuzzing_client import Candidate, run_batch
from conformance.page import PAGE, render
from conformance.results_file import Results, Row, new_results, read_results, table

CANDIDATES = tuple(
    Candidate(path, loop) for path in ("detached", "endpoint") for loop in ("uvloop", "asyncio")
)
COMPRESSING = (CANDIDATES[0], CANDIDATES[3])
"""The long cases of compression take each way and each loop once, unless everything is asked for:
a thousand messages more for each size tell nothing of what the other two do differently."""

type Batch = tuple[Candidate, tuple[str, ...]]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/autobahn", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a subset, in about a minute")
    parser.add_argument(
        "--everything", action="store_true", help="12.* and 13.* on all four: twice as long"
    )
    parser.add_argument(
        "--write", action="store_true", help="keep the results, and render docs/conformance.md"
    )
    parser.add_argument("--page", action="store_true", help="only render the page again")
    asked = parser.parse_args()
    if asked.page:
        PAGE.write_text(render(read_results()))
        return
    wstest = _wstest()
    said = subprocess.run([wstest, "-a"], capture_output=True, text=True, check=True).stdout
    results = new_results(said.split()[-1])
    for candidate, patterns in batches(quick=asked.quick, everything=asked.everything):
        _run(results, wstest, candidate, patterns)
        if asked.write:  # already now: the whole takes long
            results.write()
    print(table(results))
    if asked.write:
        PAGE.write_text(render(results))
    sys.exit("\n".join(results.problems()) or None)


def _wstest() -> Path:
    """The fuzzing client; it is installed first, or what is missing for that is said."""
    install = [str(ROOT / "scripts" / "install"), "autobahn"]
    done = subprocess.run(install, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return Path(done.stdout.strip()) / "wstest"


def batches(*, quick: bool, everything: bool) -> list[Batch]:
    """What is to be run, the long ones last."""
    if quick:
        return [(candidate, patterns) for patterns in QUICK for candidate in CANDIDATES]
    compressing = CANDIDATES if everything else COMPRESSING
    return [
        *((candidate, patterns) for patterns in UNCOMPRESSED for candidate in CANDIDATES),
        *((candidate, patterns) for patterns in COMPRESSED for candidate in compressing),
    ]


def _run(results: Results, wstest: Path, candidate: Candidate, patterns: tuple[str, ...]) -> None:
    """Note what came of one batch; one that cannot be run is a problem, and no end."""
    print(f"{candidate.name}: {' '.join(patterns)}", file=sys.stderr, flush=True)
    try:
        results.add(candidate, patterns, run_batch(wstest, candidate, patterns))
    except RuntimeError as error:
        results.rows.setdefault(candidate.name, Row()).trouble.append(str(error))


if __name__ == "__main__":
    main()
