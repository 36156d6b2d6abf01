"""What is measured of an engine: each run yields, for each of those compared, figures by row."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.candidates import BARE, ONE_WORKER, OVER_BUS, OVER_ENGINE, Candidate, lastcall
from benchmarks.engines.engine import Engine
from benchmarks.engines.hearing import hearing
from benchmarks.engines.scale import EngineScale
from benchmarks.load import Envelope, Load
from benchmarks.processes import LOAD_CORE, ROOT, SERVER_CORE, Server, pin_server
from benchmarks.runs import SETTLE, Figures, Rows, Tools, loaded, phase, placed, running

type Measured = Iterator[tuple[str, Rows | str]]
"""Who was measured, and the figures, or why there are none."""

WORKER_APP = "benchmarks.engines.worker_app:app"
KEPT = json.dumps({"made": {"history_size": 1000}})


def publishing(engine: Engine, _tools: Tools, scale: EngineScale) -> Measured:
    """Publish as much as goes through one worker, and through the engine's own client."""
    engine.move_to(LOAD_CORE)  # no load generator is there now
    candidate = lastcall(
        ONE_WORKER, "uvloop", app=WORKER_APP, broker_url=engine.url, namespaces=KEPT
    )
    with placed(candidate) as place, running(place) as server:

        def worker(seconds: float) -> dict[str, float]:
            url = f"http://127.0.0.1:{server.port}/publish/{seconds}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                figures: dict[str, float] = json.load(answer)
                return figures

        worker(SETTLE)
        yield ONE_WORKER, {"publishing": _published(engine, worker, scale.seconds)}
    yield BARE, {"publishing": _published(engine, lambda for_: _bare(engine, for_), scale.seconds)}


def _bare(engine: Engine, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", engine.measured.client, engine.url, str(seconds)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
        preexec_fn=pin_server,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _published(
    engine: Engine, publish: Callable[[float], dict[str, float]], seconds: float
) -> Figures:
    cpu, commands = engine.cpu_seconds, engine.commands
    done = publish(seconds)
    count = done["published"]
    return {
        "publications": count / done["seconds"],
        "cpu_us": done["cpu_s"] / count * 1e6,
        "engine_us": (engine.cpu_seconds - cpu) / count * 1e6,
        "commands": (engine.commands - commands) / count,
    }


def over_two_workers(engine: Engine, tools: Tools, scale: EngineScale) -> Measured:
    """Publish to clients on two workers, which only hear of each other by the engine or the bus."""
    engine.move_to(SERVER_CORE)  # the load generator never sleeps
    compared = [
        lastcall(OVER_BUS, "uvloop", workers=2),
        lastcall(OVER_ENGINE, "uvloop", workers=2, broker_url=engine.url),
        *engine.measured.peers(engine.url),
    ]
    for candidate in compared:
        try:
            yield candidate.name, _shared(engine, candidate, tools, scale)
        except RuntimeError as error:
            yield candidate.name, str(error)


def _shared(engine: Engine, candidate: Candidate, tools: Tools, scale: EngineScale) -> Rows:
    with loaded(candidate, tools) as (server, load):
        time.sleep(2 * SETTLE)  # one worker takes connections before the other one does
        load.connect(scale.few)
        load.prepare_to_publish()
        # So few that what is seen is the way between the workers, not the queue for the core.
        way = phase(server, load, f"rate {scale.slow_rate} {scale.seconds}")
        _connect(load, scale.clients - scale.few, scale)
        load.tell("window 1 0.2")
        crowd = _Crowd(engine, server, load, scale)
        return {"hosts, few": way, "hosts": crowd.publish(1), "hosts, eight": crowd.publish(8)}


def _connect(load: Load, number: int, scale: EngineScale) -> float:
    """Connect some after the other: who must ask an engine first cannot take all at once."""
    steps, rest = divmod(number, scale.at_once)
    return sum(load.connect(some) for some in [scale.at_once] * steps + [rest] * (rest > 0))


@dataclass(frozen=True, slots=True)
class _Crowd:
    engine: Engine
    server: Server
    load: Load
    scale: EngineScale

    def publish(self, window: int) -> Figures:
        """Keep so many publications under way; with what each cost the engine."""
        cpu = self.engine.cpu_seconds
        figures = phase(self.server, self.load, f"window {window} {self.scale.seconds}")
        cpu = self.engine.cpu_seconds - cpu
        publications = figures["received"] / self.scale.clients
        return figures | {"engine_us": cpu / publications * 1e6 if publications else 0.0}


def subscriptions(engine: Engine, tools: Tools, scale: EngineScale) -> Measured:
    """Connect clients to one worker that hear one channel each, and then many."""
    engine.move_to(SERVER_CORE)
    for each in (1, scale.each):
        name = "one channel each" if each == 1 else f"{each} channels each"
        candidate = lastcall(name, "uvloop", app=WORKER_APP, broker_url=engine.url)
        with _connectable(candidate, tools, each) as (server, load):
            yield name, {"subscriptions": _subscribed(engine, server, load, scale, each)}


@contextlib.contextmanager
def _connectable(candidate: Candidate, tools: Tools, each: int) -> Iterator[tuple[Server, Load]]:
    path = Envelope(path=f"/hears/{each}")
    with loaded(dataclasses.replace(candidate, envelope=path), tools) as (server, load):
        load.connect(1)
        time.sleep(SETTLE)
        yield server, load


def _subscribed(
    engine: Engine, server: Server, load: Load, scale: EngineScale, each: int
) -> Figures:
    channels = scale.subscribers * each
    memory, cpu = server.memory, server.cpu_seconds
    engine_memory, engine_cpu = engine.memory, engine.cpu_seconds
    seconds = _connect(load, scale.subscribers, scale)
    cpu, engine_cpu = server.cpu_seconds - cpu, engine.cpu_seconds - engine_cpu
    time.sleep(SETTLE)
    figures = {
        "seconds": seconds,
        "channels": float(channels),
        "cpu_us": cpu / channels * 1e6,
        "engine_us": engine_cpu / channels * 1e6,
        "bytes": (server.memory - memory) / scale.subscribers,
        "engine_bytes": (engine.memory - engine_memory) / channels,
    }
    return figures | _idle(engine, server, scale.seconds)


def _idle(engine: Engine, server: Server, seconds: float) -> dict[str, Any]:
    cpu, engine_cpu = server.cpu_seconds, engine.cpu_seconds
    time.sleep(seconds)
    return {
        "idle_percent": (server.cpu_seconds - cpu) / seconds * 100,
        "engine_idle_percent": (engine.cpu_seconds - engine_cpu) / seconds * 100,
    }


RUNS: dict[str, Callable[[Engine, Tools, EngineScale], Measured]] = {
    "publishing": publishing,
    "hosts": over_two_workers,
    "subscriptions": subscriptions,
    "hearing": hearing,
}
