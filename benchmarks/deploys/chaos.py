"""kill -9 at random, in the middle of hand-overs and under load: who may notice what.

A *life* is one server, from its start until it is gone. In each of its rounds workers are told to
leave, and in the middle of it somebody is killed, or stopped for a while. Then the promises are
checked. The last round ends the server: by a stop in which somebody is killed, or by the master's
own death.
"""

import math
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.deploys.crowd import CUT, Crowd, Report
from benchmarks.deploys.interruptions import sequencer
from benchmarks.deploys.processes import client_ports, process_with
from benchmarks.deploys.restarts import OWN, STOCK, Scale, served
from benchmarks.deploys.results import Outcome, Part, say
from benchmarks.deploys.rounds import Rounds
from lastcall.errors import InsufficientState, ServerShutdown
from tests.server_process import ServerProcess

RUNNERS = {"lastcall serve": OWN, "uvicorn": (*STOCK[:-1], "20")}
"""The stock master may ask a worker how it is in the moment of its death; then it waits so long for
the answer, before it looks at anybody."""
SCALE = Scale(workers=3, clients=120, rooms=4, rate=200)
SETTINGS: dict[str, Any] = {"shutdown_timeout": 4, "shutdown_notice_interval": 1}
ROUNDS_OF_A_LIFE = 8
GIVE_UP = 40.0
CLEAN = {ServerShutdown.code, InsufficientState.code}


class BrokenPromiseError(Exception):
    """Something happened that never may; says what, and how to see it again."""


def live(runner: str, program: Path, rounds: int, seed: int, done: Rounds) -> None:
    """One server's life of *rounds* rounds.

    Raises:
        BrokenPromiseError: something happened that never may.
    """
    chance = random.Random(seed)  # noqa: S311  (a schedule, not a secret)
    with served(RUNNERS[runner], program, SCALE, **SETTINGS) as (server, crowd):
        life = _Life(runner, server, crowd, chance, done)
        try:
            for _ in range(rounds - 1):
                life.round()
            life.end()
        except (AssertionError, RuntimeError) as error:
            raise BrokenPromiseError(
                f"{error}\n{runner}, seed {seed}; {life.history}\n{server.describe()}"
            ) from error


class _Life:
    """A server, its crowd, and what has been done to them."""

    def __init__(
        self, runner: str, server: ServerProcess, crowd: Crowd, chance: random.Random, done: Rounds
    ) -> None:
        self.history: list[str] = []
        self._runner = runner
        self._server = server
        self._crowd = crowd
        self._chance = chance
        self._done = done
        self._mortal: set[int] = set()
        """Ports of clients of processes that were killed in this round: they may be reset."""
        self._leaving: set[int] = set()
        """Workers that were killed or told to leave in this round."""

    def round(self) -> None:
        """Tell workers to leave, and kill or stop somebody in the middle of it."""
        server, chance = self._server, self._chance
        self._begin()
        ready = server.worker_pids()
        leaving = self._tell_to_leave(ready)
        self._leaving |= leaving
        victim = self._victim(ready, leaving)
        role = "sender" if victim in leaving else "receiver"
        since = time.monotonic()
        if chance.random() < 0.2 and victim != sequencer(server):
            self._note(f"stop the {role} {victim}")
            os.kill(victim, signal.SIGSTOP)
            time.sleep(chance.uniform(0.1, 2))
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGCONT)
            what = f"{role} stopped"
        else:
            self._note(f"kill the {role} {victim}")
            self._kill(victim)
            what = f"{role} killed"
        self._until(self._has_recovered)
        seconds = time.monotonic() - since
        self._done.recovered(self._runner, seconds)
        say(f"{self._runner}: {what}, all are ready after {seconds:.1f} s")
        self._judge(what)

    def end(self) -> None:
        """End the server, and kill somebody in the middle of it."""
        self._begin()
        if self._chance.random() < 0.5:
            with self._masters_death() as stranger:
                self._end_soon("master killed", stranger)
        else:
            self._stop()
            self._end_soon("stop", None)

    def _begin(self) -> None:
        """As many clients as ever, and talk."""
        missing = SCALE.clients - self._crowd.report().clients
        if missing:
            self._crowd.connect(missing)
            self._crowd.report()
        self._mortal.clear()
        self._leaving.clear()
        self.history.clear()
        time.sleep(self._chance.uniform(0, 0.2))

    def _tell_to_leave(self, ready: list[int]) -> set[int]:
        """Signal one worker, or the master to replace all; return when it is interesting."""
        server, chance = self._server, self._chance
        if chance.random() < 0.5:
            leaving = chance.choice(ready)
            self._note(f"SIGTERM to {leaving}")
            os.kill(leaving, signal.SIGTERM)
            time.sleep(0.25 + chance.uniform(-0.05, 0.1))
            return {leaving}
        self._note("SIGHUP")
        server.send_signal(signal.SIGHUP)
        if chance.random() < 0.3:
            time.sleep(chance.uniform(0, 1.5))  # whoever is starting, or has begun to leave
        else:
            self._until(lambda: bool(self._draining()))
            time.sleep(0.25 + chance.uniform(-0.05, 0.15))
        return set(self._draining())

    def _victim(self, ready: list[int], leaving: set[int]) -> int:
        alive = [*leaving, *self._server.worker_pids()]
        senders = [pid for pid in alive if pid in leaving]
        receivers = [pid for pid in alive if pid not in leaving]
        wanted = self._chance.choice([senders, receivers])
        return self._chance.choice(wanted or alive or ready)

    def _draining(self) -> list[int]:
        records = self._server.records().items()
        return [pid for pid, record in records if record.get("state") == "draining"]

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)  # so that nothing changes hands while we look
            self._mortal |= client_ports(pid, self._server.port)
            os.kill(pid, signal.SIGKILL)
            self._leaving.add(pid)

    def _has_recovered(self) -> bool:
        """Whether as many workers serve as should, and nothing of the others is left."""
        server, records = self._server, self._server.records()
        states = [record.get("state") for record in records.values()]
        if self._leaving & {*records}:  # a file outlives its worker for a moment
            return False
        if states != ["ready"] * SCALE.workers or server.records("DONE"):
            return False
        return not self._stale()

    def _stale(self) -> list[str]:
        """Files of processes that do not run any more; their last reports may stay."""
        names = [path.name for path in self._server.run_dir.glob("*/*") if path.suffix != ".LEFT"]
        pids = {name: "".join(filter(str.isdigit, name.split(".")[0])) for name in names}
        return [name for name, pid in pids.items() if pid and not Path(f"/proc/{pid}").exists()]

    def _judge(self, what: str) -> None:
        """Whether every client was treated as promised."""
        missing = self._crowd.settle()
        report = self._crowd.report()
        self._done.add(f"{self._runner}: {what}", report)
        assert not missing, f"{missing} messages never came to clients that nobody disturbed"
        assert not report.lost, f"lost: {report}"
        self._judge_ends(report)

    def _judge_ends(self, report: Report) -> None:
        assert not report.mistakes, f"doubled, or in another order: {report}"
        strangers = [each for each in report.ends if each.port not in self._mortal]
        cut = [each for each in strangers if each.code == CUT]
        assert not cut, f"{len(cut)} clients were cut that no killed worker had: {report}"
        assert {each.code for each in strangers} <= CLEAN, f"unclean codes: {report}"

    def _stop(self) -> None:
        server, chance = self._server, self._chance
        send = chance.choice([server.send_signal, server.send_signal_to_group])
        workers = server.worker_pids()
        is_killed = chance.random() < 0.7
        self._note(f"SIGTERM by {send.__name__}")
        send(signal.SIGTERM)
        if is_killed:
            time.sleep(chance.choice([0, chance.uniform(0, 1)]))
            victim = chance.choice(workers)
            self._note(f"kill {victim}")
            self._kill(victim)

    @contextmanager
    def _masters_death(self) -> Iterator["subprocess.Popen[bytes] | None"]:
        """Kill the master in the middle of a hand-over; a stranger gets its pid."""
        server = self._server
        self._tell_to_leave(server.worker_pids())
        self._note("kill the master")
        server.send_signal(signal.SIGKILL)
        server.process.wait(10)
        with process_with(server.process.pid) as stranger:
            yield stranger

    def _end_soon(self, what: str, stranger: "subprocess.Popen[bytes] | None") -> None:
        server, since = self._server, time.monotonic()
        self._until(server.group_is_gone)
        seconds = time.monotonic() - since
        self._done.gone(self._runner, seconds)
        say(f"{self._runner}: {what}, all are gone after {seconds:.1f} s")
        assert stranger is None or stranger.poll() is None, "a stranger was told to stop"
        server.wait(1)
        assert not server.leftovers(), f"left behind: {server.leftovers()}"
        report = self._crowd.report()
        self._done.add(f"{self._runner}: {what}", report)
        assert not report.clients, f"nobody serves them, and nobody closed them: {report}"
        self._judge_ends(report)

    def _until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + GIVE_UP
        while not condition():
            assert time.monotonic() < deadline, f"not within {GIVE_UP:g} s; {self._stale()}"
            time.sleep(0.005)

    def _note(self, what: str) -> None:
        self.history.append(f"{time.monotonic():.3f} {what}")


def lives(
    program: Path,
    rounds: int,
    seed: int,
    minutes: float = math.inf,
    before: Rounds | None = None,
) -> Rounds:
    """As many servers as it takes for *rounds* rounds, under masters of either kind in turns.

    No new one begins after so many *minutes*. What was done *before* counts.

    Raises:
        BrokenPromiseError: something happened that never may.
    """
    done, runners = before or Rounds(), list(RUNNERS)
    end = time.monotonic() + 60 * minutes
    while (left := rounds - done.count) > 0 and time.monotonic() < end:
        number, since = seed + done.count, time.monotonic()
        live(runners[0], program, min(left, ROUNDS_OF_A_LIFE), number, done)
        runners.reverse()
        done.seconds += time.monotonic() - since
        say(f"{done.count} of {rounds} rounds, {done.seconds / done.count:.1f} s each")
    return done


def measure(
    program: Path, rounds: int, seed: int, minutes: float, before: Rounds | None = None
) -> Part:
    """Go through *rounds* rounds, those *before* included, and judge."""
    try:
        done = lives(program, rounds, seed, minutes, before)
    except BrokenPromiseError as error:
        say(str(error))
        raise
    closed = ", ".join(f"{count} with {code}" for code, count in sorted(done.closed.items()))
    outcomes = [
        Outcome(
            f"{rounds} rounds of kill -9 in the middle of a hand-over: every client "
            "undisturbed, closed in order, or reset with the killed process that had it; no "
            "process and no file is left, nothing hangs, the master is told and no stranger",
            f"{done.count} rounds: "
            f"undisturbed {done.undisturbed:,}, closed {closed or 'none'}, reset {done.reset:,}; "
            f"of {done.heard:,} messages none lost, doubled or out of order; {done.longest}",
            reached=done.count >= rounds,
        )
    ]
    notes = _NOTES.format(
        kinds=", ".join(f"{count} {what}" for what, count in sorted(done.kinds.items())),
        scale=SCALE,
        timeout=SETTINGS["shutdown_timeout"],
        each=done.seconds / max(1, done.count),
    )
    command = f"scripts/bench deploys chaos --seed {seed}" + (" --go-on" if before else "")
    return Part("chaos", outcomes, command, notes, done.figures)


_NOTES = """\
- The rounds: {kinds}.
- {scale.workers} workers, {scale.clients} clients, {scale.rate:g} messages a second,
  `LASTCALL_SHUTDOWN_TIMEOUT` {timeout} s. In each round a worker gets SIGTERM, or the master
  SIGHUP; a quarter of a second later, give or take a tenth, a worker on either side of the
  hand-over is killed, or stopped for up to two seconds. A server's last round is a stop with a
  kill in it, or the master's own death, after which a stranger gets the master's pid.
- A round took {each:.0f} s, its part of the server's start and end included.
- Whose a client was when its worker was killed is read from the kernel. A reset of anybody else
  would be a failure, and so would be any message that an undisturbed client did not get, or got
  twice.
"""
