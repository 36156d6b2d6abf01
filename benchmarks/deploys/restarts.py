"""What a rolling restart does to those who are connected, and to those who come meanwhile."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.deploys.crowd import Crowd, Report, crowd_on, quantile
from benchmarks.deploys.results import Outcome
from tests.server_process import ROOT, ServerProcess, run_server, wait_until

ROOMS = "benchmarks.deploys.rooms:app"
OWN = (sys.executable, "-m", "lastcall", "serve")
STOCK = (sys.executable, "-m", "uvicorn", "--timeout-worker-healthcheck", "60")
"""By itself it gives a restart up if a new worker is not ready in five seconds."""

REPLACED_WITHIN = 60.0
NEWCOMERS = 20
"""New clients a second, all the while."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is asked of the server."""

    workers: int = 4
    clients: int = 2000
    rooms: int = 20
    rate: float = 100
    """Messages a second, of all clients together."""
    restarts: int = 20


QUICK = Scale(workers=2, clients=100, rooms=2, rate=50, restarts=2)


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart: how long it took, and what the clients had of it."""

    seconds: float
    report: Report


@dataclass(frozen=True, slots=True)
class Restarts:
    """A row of them, with the same clients."""

    quiet: Report
    """As long a time in which nothing happened, for comparison."""
    restarts: Sequence[Restart]
    end: Report
    """What was still missing when everybody had had time to hear everything."""

    @property
    def reports(self) -> list[Report]:
        """Everything from the first restart on."""
        return [*(each.report for each in self.restarts), self.end]

    def sum(self, name: str) -> int:
        """A count over all restarts."""
        return sum(getattr(each, name) for each in self.reports)

    @property
    def disconnects(self) -> int:
        """How many connections ended."""
        return sum(len(each.ends) for each in self.reports)

    @property
    def failures(self) -> list[str]:
        """Why newcomers were not served."""
        return [why for each in self.reports for why in each.failures]

    def pause(self, share: float) -> float:
        """What *share* of all pauses did not exceed: of each client, in each restart."""
        return quantile([one for each in self.restarts for one in each.report.pauses], share)


@contextlib.contextmanager
def served(
    runner: Sequence[str], program: Path, scale: Scale, cwd: Path = ROOT, **settings: Any
) -> Iterator[tuple[ServerProcess, Crowd]]:
    """A server with rooms, and a crowd in them that talks."""
    settings = {"announcements": False, "heartbeat_interval": 0, "shutdown_timeout": 60} | settings
    with (
        run_server(command=[*runner, ROOMS], workers=scale.workers, cwd=cwd, **settings) as server,
        crowd_on(program, server.port, "/rooms", scale.rooms) as crowd,
    ):
        crowd.connect(scale.clients)
        crowd.talk(scale.rate)
        yield server, crowd


def rolling_restarts(
    runner: Sequence[str], program: Path, scale: Scale, say: Callable[[str], object] = print
) -> Restarts:
    """Restart by SIGHUP again and again, under load."""
    with served(runner, program, scale) as (server, crowd):
        return again_and_again(
            server, crowd, scale, lambda _: server.send_signal(signal.SIGHUP), say
        )


def again_and_again(
    server: ServerProcess,
    crowd: Crowd,
    scale: Scale,
    how: Callable[[int], object],
    say: Callable[[str], object],
) -> Restarts:
    """Replace all workers, *how* the number of the time says, while clients talk and come."""
    crowd.newcomers(NEWCOMERS)
    time.sleep(2)
    crowd.report()
    time.sleep(5)
    quiet = crowd.report()
    restarts = []
    for number in range(scale.restarts):
        restarts.append(restart(server, crowd, scale.workers, partial(how, number)))
        say(f"{restarts[-1].seconds:.1f} s: {restarts[-1].report}")
    crowd.newcomers(0)
    time.sleep(1)
    crowd.settle()
    end = crowd.report()
    crowd.leave()
    server.send_signal(signal.SIGTERM)
    server.wait(30)
    return Restarts(quiet, restarts, end)


def restart(
    server: ServerProcess, crowd: Crowd, workers: int, how: Callable[[], object]
) -> Restart:
    """Replace all workers, and see what the crowd says of it."""
    seconds = replace(server, workers, how)
    time.sleep(1)  # whoever was forgotten would be missed by now
    return Restart(seconds, crowd.report())


def replace(server: ServerProcess, workers: int, how: Callable[[], object]) -> float:
    """Wait until all workers that there were are gone and others there; the seconds it took."""
    old = {*server.worker_pids()}
    since = time.monotonic()
    how()

    def is_over() -> bool:
        return len(server.worker_pids()) == workers and not old & {
            *server.records(),
            *server.records("DONE"),
        }

    wait_until(is_over, REPLACED_WITHIN, server.describe)
    return time.monotonic() - since


def judge(runner: str, done: Restarts, scale: Scale) -> list[Outcome]:
    """What the targets say of it."""
    seconds = [each.seconds for each in done.restarts]
    under = f"`{runner}`, {scale.workers} workers, SIGHUP {scale.restarts} times"
    outcomes = everybody_stays(under, done, scale)
    told = done.sum("told")
    took = f"{min(seconds):.1f} to {max(seconds):.1f} s"
    if runner == "lastcall serve":
        outcomes.append(short_pause(under, done))
    else:
        measured = f"{took}; {told} heard the notice"
        outcomes.append(Outcome(f"{under}: seconds", measured, max(seconds) < 30))
    return outcomes


def everybody_stays(under: str, done: Restarts, scale: Scale) -> list[Outcome]:
    """Whether nobody was disturbed who was here, and nobody who came."""
    wrong = {name: done.sum(name) for name in ("lost", "doubled", "out_of_order", "other_stories")}
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in wrong.items())
    clients = f"{scale.clients:,} clients, {scale.rate:g} messages a second"
    return [
        Outcome(
            f"{under}: {clients}: nobody disconnected, nothing lost, doubled or out of order",
            f"{done.disconnects} disconnected, {counts}; {done.sum('heard'):,} messages heard",
            not done.disconnects and not any(wrong.values()),
        ),
        Outcome(
            f"{under}: {NEWCOMERS} new clients a second all the while: none fails",
            f"{len(done.failures)} of {done.sum('newcomers') + len(done.failures):,} failed",
            not done.failures,
        ),
    ]


def short_pause(under: str, done: Restarts) -> Outcome:
    """Whether clients could have noticed by the silence."""
    pause, seconds = done.pause(0.99), [each.seconds for each in done.restarts]
    took = f"{min(seconds):.1f} to {max(seconds):.1f} s each"
    measured = f"{pause * 1e3:.0f} ms (longest {done.pause(1) * 1e3:.0f} ms); {took}"
    return Outcome(f"{under}: p99 pause at most 50 ms", measured, pause <= 0.05)


def figures(done: Restarts) -> dict[str, Any]:
    """What is kept of it."""
    return {
        "seconds": [round(each.seconds, 2) for each in done.restarts],
        "p99_ms": [round(each.report.pause(0.99) * 1e3, 1) for each in done.restarts],
        "longest_ms": [round(each.report.pause(1) * 1e3, 1) for each in done.restarts],
        "told": [each.report.told for each in done.restarts],
        "quiet_p99_ms": round(done.quiet.pause(0.99) * 1e3, 1),
        "quiet_longest_ms": round(done.quiet.pause(1) * 1e3, 1),
        "failures": done.failures,
    }


def notes(scale: Scale, figures: dict[str, dict[str, Any]]) -> str:
    """How it was measured."""
    per_room = scale.clients // scale.rooms
    quiet = (f"{each['quiet_p99_ms']} ms under {name}" for name, each in figures.items())
    return _NOTES.format(
        clients=scale.clients,
        rooms=scale.rooms,
        per_room=per_room,
        rate=scale.rate,
        deliveries=scale.rate * per_room,
        quiet=", ".join(quiet),
    )


_NOTES = """\
- {clients:,} clients in {rooms} rooms of {per_room} (`benchmarks/deploys/rooms.py`). Together
  they say {rate:g} messages a second, in turns; whoever is in the same room hears each:
  {deliveries:,.0f} deliveries a second. If everybody heard everybody, this machine would be
  busy with that alone.
- A message carries its client's number and its own. Every client checks of every other in its
  room that the next one comes next; in the end, that all have heard all of it, in the same
  order.
- A *pause* is the longest time for which a client heard nothing in the time of one restart,
  less the time between two messages of its room. The 99th percentile is over all clients and
  restarts. With nothing going on at all it is {quiet}: server and clients share the machine's
  cores.
- A new client connects, hears one message and leaves; anything else is a failure.
"""
