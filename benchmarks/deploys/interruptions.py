"""SIGTERM at the worst moments: how long until it is acted on."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.deploys.crowd import Crowd
from benchmarks.deploys.restarts import ROOMS, Scale, served
from benchmarks.deploys.results import Outcome, Part, say
from lastcall.broker.election_lock import ElectionLock
from tests.server_process import ServerProcess, run_server

SCALE = Scale(workers=4, clients=200, rooms=4, rate=100)
GIVE_UP = 30.0
SHORT: dict[str, Any] = {"shutdown_timeout": 3, "shutdown_notice_interval": 1}
"""The drain is not what is measured."""


class NotActedOnError(Exception):
    """A SIGTERM had no effect, or left something behind; says what."""


def during_a_restart(
    runner: Sequence[str], program: Path, scale: Scale, chance: random.Random
) -> float:
    """SIGTERM to the master while new workers are starting, or old ones are leaving."""
    with served(runner, program, scale, **SHORT) as (server, crowd):
        before = {*server.worker_pids()}
        server.send_signal(signal.SIGHUP)
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, 2))
        else:
            _wait(lambda: bool({*server.worker_pids()} - before), server)
            time.sleep(chance.uniform(0, 0.6))
        return _until_all_are_told(server, crowd)


def during_a_handover(
    runner: Sequence[str], program: Path, scale: Scale, chance: random.Random
) -> float:
    """SIGTERM to the master while one worker's clients are on their way to others."""
    with served(runner, program, scale, **SHORT) as (server, crowd):
        leaving = server.worker_pids()[0]
        had = connections(server, leaving)
        os.kill(leaving, signal.SIGTERM)
        _wait(lambda: connections(server, leaving) < had, server)
        time.sleep(chance.uniform(0, 0.05))
        return _until_all_are_told(server, crowd)


def during_a_start(runner: Sequence[str], scale: Scale, chance: random.Random) -> float:
    """SIGTERM to the master before it is ready: the time until every process is gone."""
    command = [*runner, ROOMS]
    with run_server(command=command, workers=scale.workers, wait=False, **SHORT) as server:
        time.sleep(chance.uniform(0.3, 2.5))
        since = time.monotonic()
        server.send_signal(signal.SIGTERM)
        _wait(server.group_is_gone, server)
        seconds = time.monotonic() - since
        _check_nothing_is_left(server)
        return seconds


def with_a_death(runner: Sequence[str], scale: Scale, chance: random.Random) -> float:
    """SIGTERM to the master at the moment in which a worker is killed: until all is gone."""
    command = [*runner, ROOMS]
    with run_server(command=command, workers=scale.workers, **SHORT) as server:
        victim = chance.choice([sequencer(server), *server.worker_pids()])
        since = time.monotonic()
        if chance.random() < 0.5:
            os.kill(victim, signal.SIGKILL)
            server.send_signal(signal.SIGTERM)
        else:
            server.send_signal(signal.SIGTERM)
            os.kill(victim, signal.SIGKILL)
        _wait(server.group_is_gone, server)
        seconds = time.monotonic() - since
        _check_nothing_is_left(server)
        return seconds


def sequencer(server: ServerProcess) -> int:
    """The worker that orders what all publish."""
    for path in server.run_dir.glob("*/bus.lock"):
        return ElectionLock(path).owner() or 0
    return 0


def connections(server: ServerProcess, pid: int) -> int:
    """How many the worker *pid* says it has."""
    record = server.records().get(pid)
    return int(str(record["connections"])) if record else 0


def _until_all_are_told(server: ServerProcess, crowd: Crowd) -> float:
    clients = crowd.report().clients
    since = time.monotonic()
    server.send_signal(signal.SIGTERM)
    told = 0
    while told < clients:
        if time.monotonic() - since > GIVE_UP:
            raise NotActedOnError(f"{told} of {clients} clients were told: {server.describe()}")
        told += crowd.report().told
        time.sleep(0.02)
    seconds = time.monotonic() - since
    crowd.talk(0)
    _wait(server.group_is_gone, server)
    _check_nothing_is_left(server)
    report = crowd.report()
    if set(report.codes) - {1012}:
        raise NotActedOnError(f"not everybody was closed in order: {report}")
    return seconds


def _wait(condition: Callable[[], object], server: ServerProcess) -> None:
    deadline = time.monotonic() + GIVE_UP
    while not condition():
        if time.monotonic() > deadline:
            raise NotActedOnError(f"not within {GIVE_UP:g} s: {server.describe()}")
        time.sleep(0.002)


def _check_nothing_is_left(server: ServerProcess) -> None:
    with contextlib.suppress(OSError):
        server.process.wait(5)
    if server.leftovers():
        raise NotActedOnError(f"left behind: {server.leftovers()}")


def measure(runner: Sequence[str], program: Path, scale: Scale, times: int, seed: int) -> Part:
    """Interrupt *times* times in each phase."""
    chance = random.Random(seed)  # noqa: S311  (a schedule, not a secret)
    phases: dict[str, Callable[[], float]] = {
        "a rolling restart": lambda: during_a_restart(runner, program, scale, chance),
        "a hand-over": lambda: during_a_handover(runner, program, scale, chance),
        "start-up": lambda: during_a_start(runner, scale, chance),
        "the death of a worker": lambda: with_a_death(runner, scale, chance),
    }
    outcomes, figures = [], {}
    for name, interrupt in phases.items():
        seconds = []
        for _ in range(times):
            seconds.append(interrupt())
            say(f"SIGTERM during {name}: {seconds[-1]:.2f} s")
        figures[name] = [round(each, 3) for each in seconds]
        outcomes.append(
            Outcome(
                f"SIGTERM during {name}, {times} times: acted on within 1 s",
                f"{max(seconds):.2f} s at most, {sorted(seconds)[times // 2]:.2f} s in the middle",
                max(seconds) <= 1,
            )
        )
    return Part(
        "interruptions",
        outcomes,
        "scripts/bench deploys interruptions",
        _NOTES.format(clients=scale.clients),
        {"seconds": figures},
    )


_NOTES = """\
- Under `lastcall serve`. *Acted on*: during a restart and a hand-over the time until each of
  {clients} clients has heard the notice; during start-up, from 0.3 to 2.5 s after it began, the
  time until every process is gone. The moments are random.
- *The death of a worker*: `kill -9` at the same moment, often of the one that orders what all
  publish; nobody is connected, and it is the time until every process is gone.
- Then everybody was closed with 1012, and nothing was left in the run directory.
"""
