"""`scripts/bench centrifuge`: what the Centrifuge protocol costs beside plain text; recovery.

The same runs as for the other servers, with plain text and JSON in turns; and a restart after which
thousands of clients come back that have missed something.
"""

import argparse
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.candidates import API_KEY, CENTRIFUGE, PLAIN, Candidate, centrifuge, lastcall
from benchmarks.load import build, load_on
from benchmarks.page import write_page
from benchmarks.processes import Server
from benchmarks.results_file import CENTRIFUGE_RESULTS, Session, new_session
from benchmarks.runs import (
    QUICK,
    ROUNDS,
    Rows,
    Run,
    Scale,
    Tools,
    fan_out,
    many_clients,
    placed,
    running,
)
from benchmarks.table import tables
from benchmarks.targets import centrifuge_targets

type Command = dict[str, dict[str, str]]
"""Of the server API."""

ONE_CHANNEL = "one channel for all"
MANY_CHANNELS = "each channel for a few"
AT_ONCE = 1000
"""Commands in a batch of the server API."""
MARK = "~#{number:08x}{time:016x}"
"""What `load.c` looks for in a publication."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench centrifuge", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few clients: does it still run?")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="medians of this many")
    parser.add_argument("--write", action="store_true", help="keep the figures, and write the page")
    asked = parser.parse_args()
    session = measure(QUICK if asked.quick else Scale(rounds=asked.rounds))
    print(centrifuge_targets(session), tables(session), sep="\n\n")
    if asked.write:
        name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M")
        CENTRIFUGE_RESULTS.mkdir(exist_ok=True)
        session.write(CENTRIFUGE_RESULTS / f"{name}.json")
        write_page()


def measure(scale: Scale) -> Session:
    """Run everything *scale.rounds* times, plain text and JSON one after the other."""
    pair = [lastcall(PLAIN, "uvloop"), centrifuge(CENTRIFUGE)]
    # One worker alone would keep its history in memory.
    returning = [
        centrifuge(name, recovers=True, broker_url="unix:") for name in (ONE_CHANNEL, MANY_CHANNELS)
    ]
    session = new_session(scale, pair)
    with tempfile.TemporaryDirectory(prefix="lcb-") as directory:
        tools = Tools(*(build(name, Path(directory)) for name in ("load", "floor")))
        for number in range(scale.rounds):
            for run in (Run(fan_out, pair), Run(many_clients, pair), Run(recovery, returning)):
                for candidate in run.candidates:
                    said = f"{number + 1}/{scale.rounds} {run.run.__name__}: {candidate.name}"
                    print(said, file=sys.stderr, flush=True)
                    session.add(candidate.name, number, run.run(candidate, tools, scale))
    return session


def recovery(candidate: Candidate, tools: Tools, scale: Scale) -> Rows:
    """Publish, restart, and let everybody come back at once from before what was published."""
    rooms = 1 if candidate.name == ONE_CHANNEL else scale.rooms
    with placed(candidate) as place:
        with running(place) as server:
            for commands in _publications(rooms, scale.missed):
                _batch(server, commands)
            server.stop()
        with (
            running(place) as server,
            load_on(tools.load, place.port, candidate.envelope) as load,
        ):
            server.wait_until_idle()
            server.forget_peak()
            before, cpu = server.peak_memory, server.cpu_seconds
            answer = load.tell(f"recover {scale.many} {scale.missed} {rooms}")
            cpu = server.cpu_seconds - cpu
            return {
                "recovery": {
                    "seconds": answer["seconds"],
                    "p50_ms": answer["p50_ms"],
                    "p99_ms": answer["p99_ms"],
                    "cpu_s": cpu,
                    "before_mib": before / 2**20,
                    "peak_mib": server.peak_memory / 2**20,
                    "lost": answer["expected"] - answer["received"],
                    "out_of_order": answer["out_of_order"],
                }
            }


def _publications(rooms: int, missed: int) -> Iterator[list[Command]]:
    """*missed* publications of 128 bytes for each room, in batches."""
    commands: list[Command] = []
    for number in range(missed):
        data = MARK.format(number=number, time=0).ljust(128, "x")
        commands += [
            {"publish": {"channel": f"bench:{room}", "data": data}} for room in range(rooms)
        ]
    for start in range(0, len(commands), AT_ONCE):
        yield commands[start : start + AT_ONCE]


def _batch(server: Server, commands: list[Command]) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/api/batch",
        json.dumps({"commands": commands}).encode(),
        {"X-API-Key": API_KEY, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  (our own address)
        replies = json.load(answer)["replies"]
    if not all("publish" in reply for reply in replies):
        raise RuntimeError(f"not everything was published: {replies}")


if __name__ == "__main__":
    main()
