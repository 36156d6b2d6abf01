"""`python -m benchmarks.engines NAME`: measure, print targets and tables, keep the figures."""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.candidates import Candidate
from benchmarks.engines.engine import MEASURED, Engine
from benchmarks.engines.page import engine_targets
from benchmarks.engines.runs import RUNS
from benchmarks.engines.scale import QUICK, EngineScale
from benchmarks.load import build
from benchmarks.page import write_page
from benchmarks.results_file import ENGINE_RESULTS, Session, new_session, newest, read_session
from benchmarks.runs import ROUNDS, Tools
from benchmarks.table import tables
from tests.engines import ENGINES


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("engine", choices=MEASURED)
    parser.add_argument("rows", nargs="*", help=f"{', '.join(RUNS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="a moment: does it still run?")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="medians of this many")
    parser.add_argument("--write", action="store_true", help="keep the figures, and write the page")
    parser.add_argument("--go-on", action="store_true", help="with the session that was kept last")
    asked = parser.parse_args()
    if asked.write and (asked.quick or asked.rows):
        parser.error("--write keeps whole sessions only: the page needs every row")
    scale = QUICK if asked.quick else EngineScale(rounds=asked.rounds)
    kept = newest(ENGINE_RESULTS, f"{asked.engine}-*.json") if asked.go_on else None
    session = measure(asked.engine, scale, asked.rows or [*RUNS], kept)
    print(engine_targets(session), tables(session), sep="\n\n")
    if asked.write:
        name = datetime.now(UTC).strftime(f"{asked.engine}-%Y-%m-%d-%H%M.json")
        ENGINE_RESULTS.mkdir(exist_ok=True)
        session.write(kept or ENGINE_RESULTS / name)
        write_page()


def measure(name: str, scale: EngineScale, rows: list[str], kept: Path | None = None) -> Session:
    """Run *rows* so many rounds on one engine, those compared one after the other.

    They are added to a session that was *kept*: a round of all rows takes minutes.
    """
    with (
        ENGINES[name]() as process,
        tempfile.TemporaryDirectory(prefix="lcb-") as directory,
    ):
        engine = Engine(name, process, MEASURED[name])
        tools = Tools(*(build(each, Path(directory)) for each in ("load", "floor")))
        session = read_session(kept) if kept else new_session(scale, compared(engine))
        before = int(session.scale["rounds"]) if kept else 0
        session.scale["rounds"] = before + scale.rounds
        for number in range(before, before + scale.rounds):
            for row in rows:
                for server, figures in RUNS[row](engine, tools, scale):
                    said = f"{number + 1}/{before + scale.rounds} {row}: {server}"
                    print(said, file=sys.stderr, flush=True)
                    if isinstance(figures, str):
                        session.failures[server] = f"{row}: {figures}"
                    else:
                        session.add(server, number, figures)
    return session


def compared(engine: Engine) -> list[Candidate]:
    """What takes part beside Lastcall."""
    return [engine.candidate, *engine.measured.peers(engine.url)]


if __name__ == "__main__":
    main()
