"""`python -m benchmarks.deploys`: restart, interrupt, kill, burn; print the table, keep figures."""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.deploys import chaos, fire, hosts, interruptions, restarts, upgrades
from benchmarks.deploys.crowd import build_crowd
from benchmarks.deploys.hosts_under_fire import SHORT
from benchmarks.deploys.hosts_under_fire import Scale as HostsScale
from benchmarks.deploys.page import PAGE, render, targets
from benchmarks.deploys.releases import build_releases
from benchmarks.deploys.results import Part, newest_parts, say
from benchmarks.deploys.rounds import Rounds
from tests.engines import ENGINES

PARTS = ("restarts", "upgrades", "interruptions", "chaos", "fire", "hosts")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench deploys", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all if none is named")
    parser.add_argument("--quick", action="store_true", help="a moment of each: does it still run?")
    parser.add_argument("--rounds", type=int, default=200, help="of chaos")
    parser.add_argument("--minutes", type=float, default=60, help="of chaos, at most")
    parser.add_argument("--go-on", action="store_true", help="with the chaos that was kept last")
    parser.add_argument("--times", type=int, default=20, help="of each interruption")
    parser.add_argument("--burn", type=float, default=5, help="minutes of fire")
    parser.add_argument("--engine", choices=ENGINES, default="redis", help="that hosts share")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--write", action="store_true", help="keep the figures, and write the page")
    parser.add_argument("--page", action="store_true", help="only write the page")
    asked = parser.parse_args()
    if not asked.page:
        with tempfile.TemporaryDirectory(prefix="lcd-") as directory:
            program = build_crowd(Path(directory))
            for name in asked.parts or PARTS:
                part = _MEASURES[name](program, asked)
                print(targets(part.outcomes), flush=True)
                if asked.write:
                    part.write()
    if asked.page or asked.write:
        PAGE.write_text(render(newest_parts()))


def measure_restarts(program: Path, asked: argparse.Namespace) -> Part:
    """Rows 1, 3 and 4: everybody stays, under our master and under the stock one."""
    scale = restarts.QUICK if asked.quick else restarts.Scale()
    outcomes, figures = [], {}
    for name, runner in (("lastcall serve", restarts.OWN), ("stock uvicorn", restarts.STOCK)):
        say(f"{scale.restarts} restarts of {name}")
        done = restarts.rolling_restarts(runner, program, scale, say)
        outcomes += restarts.judge(name, done, scale)
        figures[name] = restarts.figures(done)
    command = "scripts/bench deploys restarts"
    return Part("restarts", outcomes, command, restarts.notes(scale, figures), figures)


def measure_upgrades(program: Path, asked: argparse.Namespace) -> Part:
    """Row 2: the same with another version and another Python."""
    with tempfile.TemporaryDirectory(prefix="lcr-") as directory:
        releases = build_releases(Path(directory))
        scale = restarts.QUICK if asked.quick else upgrades.SCALE
        return upgrades.measure(releases, program, scale, say)


def measure_interruptions(program: Path, asked: argparse.Namespace) -> Part:
    """Row 5: a SIGTERM counts in every phase."""
    scale = restarts.QUICK if asked.quick else interruptions.SCALE
    times = 2 if asked.quick else asked.times
    return interruptions.measure(restarts.OWN, program, scale, times, asked.seed)


def measure_chaos(program: Path, asked: argparse.Namespace) -> Part:
    """Row 7: who is killed takes nobody along."""
    rounds = 6 if asked.quick else asked.rounds
    before = None
    if asked.go_on:
        (kept,) = (part for part in newest_parts() if part.name == "chaos")
        if not kept.figures:
            raise SystemExit(f"the chaos of {kept.date} has no figures to go on with")
        before = Rounds.kept(kept.figures)
    return chaos.measure(program, rounds, asked.seed, asked.minutes, before)


def measure_fire(_program: Path, asked: argparse.Namespace) -> Part:
    """Whoever is cut off comes back and misses nothing, or is told."""
    scale = fire.QUICK if asked.quick else replace(fire.Scale(), minutes=asked.burn)
    with tempfile.TemporaryDirectory(prefix="lcf-") as directory:
        return fire.measure(Path(directory), scale, asked.seed)


def measure_hosts(_program: Path, asked: argparse.Namespace) -> Part:
    """Hosts on one engine: nobody misses anything without being told."""
    return hosts.measure(asked.engine, SHORT if asked.quick else HostsScale())


_MEASURES = {
    "restarts": measure_restarts,
    "upgrades": measure_upgrades,
    "interruptions": measure_interruptions,
    "chaos": measure_chaos,
    "fire": measure_fire,
    "hosts": measure_hosts,
}

main()
