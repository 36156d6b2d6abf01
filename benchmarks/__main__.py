"""`python -m benchmarks`: measure, print the table, keep the figures."""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.candidates import candidates
from benchmarks.load import build
from benchmarks.page import write_page
from benchmarks.results_file import RESULTS, Session, new_session
from benchmarks.runs import QUICK, ROUNDS, Scale, Tools, all_runs
from benchmarks.table import tables


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "rows",
        nargs="*",
        help="fan_out, many_clients, keepalive, workers, deaf_client; all if none is named",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few clients for a moment: does it still run?"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="medians of this many")
    parser.add_argument("--only", action="append", help="a server by name; again for another")
    parser.add_argument(
        "--write", action="store_true", help="keep the figures in benchmarks/results"
    )
    parser.add_argument(
        "--page", action="store_true", help="only write docs/performance.md from the newest figures"
    )
    asked = parser.parse_args()
    if asked.write and (asked.quick or asked.rows or asked.only):
        parser.error("--write keeps whole sessions only: the page needs every row and server")
    if not asked.page:
        session = measure(
            QUICK if asked.quick else Scale(rounds=asked.rounds), asked.rows, asked.only
        )
        print(tables(session))
        if asked.write:
            name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M")
            session.write(RESULTS / f"{name}.json")
    if asked.page or asked.write:
        write_page()


def measure(scale: Scale, rows: list[str], only: list[str] | None) -> Session:
    """Run everything *scale.rounds* times, the servers of each row one after the other."""
    with tempfile.TemporaryDirectory(prefix="lcb-") as directory:
        tools = Tools(*(build(name, Path(directory)) for name in ("load", "floor")))
        compared = [each for each in candidates(tools.floor) if only is None or each.name in only]
        session = new_session(scale, compared)
        for number in range(scale.rounds):
            for run in all_runs(compared):
                if not rows or run.run.__name__ in rows:
                    for candidate in run.candidates:
                        _say(f"{number + 1}/{scale.rounds} {run.run.__name__}: {candidate.name}")
                        try:
                            session.add(candidate.name, number, run.run(candidate, tools, scale))
                        except RuntimeError as error:
                            session.failures[candidate.name] = f"{run.run.__name__}: {error}"
    return session


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


main()
