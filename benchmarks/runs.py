"""What is measured: each run starts a server of its own, loads it, and returns figures by row."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.candidates import FASTAPI, LASTCALL, LASTCALL_ASYNCIO, Candidate, lastcall
from benchmarks.load import Load, load_on
from benchmarks.processes import Server, free_port, serving

type Figures = dict[str, float]
type Rows = dict[str, Figures]

ONE_OF_MANY = "one worker"
TWO_WORKERS = "two workers"
NOBODY_DEAF = "nobody deaf"
ONE_DEAF = "one deaf"

SETTLE = 0.5
"""Seconds between the last step of a run and a measurement of what is left of it."""


FASTER = 10
"""Times that idle clients are asked for a sign of life more often than uvicorn's defaults say."""

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is asked for; the same of every server."""

    rounds: int = ROUNDS
    seconds: float = 2.0
    clients: int = 1000
    many: int = 5000
    most: int = 10_000
    rate: int = 500
    few: int = 20
    slow_rate: int = 50
    missed: int = 50
    rooms: int = 500


QUICK = Scale(rounds=1, seconds=0.3, clients=20, many=50, most=60, missed=5, rooms=10)


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that were compiled for this session."""

    load: Path
    floor: Path


def fan_out(candidate: Candidate, tools: Tools, scale: Scale) -> Rows:
    """Publish to a thousand clients: one at a time, eight under way, and at a rate."""
    with loaded(candidate, tools) as (server, load):
        load.connect(scale.clients)
        load.prepare_to_publish()
        return {
            "one in flight": phase(server, load, f"window 1 {scale.seconds}"),
            "eight in flight": phase(server, load, f"window 8 {scale.seconds}"),
            "offered": phase(server, load, f"rate {scale.rate} {scale.seconds}"),
        }


def many_clients(candidate: Candidate, tools: Tools, scale: Scale) -> Rows:
    """Connect thousands, let them idle, publish to them, and see them all leave at once."""
    first = scale.many // 50
    with loaded(candidate, tools) as (server, load):
        load.connect(first)
        time.sleep(SETTLE)
        memory, cpu = server.memory, server.cpu_seconds
        seconds = load.connect(scale.many - first)
        connecting = server.cpu_seconds - cpu
        time.sleep(SETTLE)
        connected = scale.many - first
        rows = {
            "idle": {"bytes": (server.memory - memory) / connected},
            "connects": {
                "connects": connected / seconds,
                "cpu_us": connecting / connected * 1e6,
            },
        }
        load.prepare_to_publish()
        rows["many"] = phase(server, load, f"window 8 {scale.seconds}")
        load.connect(scale.most - scale.many)
        server.wait_until_idle()
        cpu = server.cpu_seconds
        load.tell("abandon")
        server.wait_until_idle()
        rows["leaving"] = {"cpu_us": (server.cpu_seconds - cpu) / scale.most * 1e6}
        return rows


def keepalive(candidate: Candidate, tools: Tools, scale: Scale) -> Rows:
    """Let thousands do nothing but answer the server's pings, for what would be a minute."""
    with loaded(candidate, tools) as (server, load):
        load.connect(scale.many)
        load.tell(f"idle {40 / FASTER}")  # until everybody has been asked, and asked again
        cpu = server.cpu_seconds
        answer = load.tell(f"idle {60 / FASTER}")
        cpu = server.cpu_seconds - cpu
        if answer["pinged"] < scale.many or answer["closed"]:
            raise RuntimeError(f"{scale.many} clients should only have been pinged: {answer}")
        return {"keepalive": {"cpu_us": cpu / scale.many * 1e6}}


def workers(candidate: Candidate, tools: Tools, scale: Scale) -> Rows:
    """Twice as many clients, on one worker or on two that share the core and a bus."""
    with loaded(candidate, tools) as (server, load):
        time.sleep(2 * SETTLE)  # one worker takes connections before the other one does
        load.connect(scale.few)
        load.prepare_to_publish()
        # So few that what is seen is the way between the workers, not the queue for the core.
        way = phase(server, load, f"rate {scale.slow_rate} {scale.seconds}")
        load.connect(2 * scale.clients - scale.few)
        load.tell("window 1 0.2")
        return {
            "workers, few": way,
            "workers": phase(server, load, f"window 1 {scale.seconds}"),
        }


def deaf_client(candidate: Candidate, tools: Tools, scale: Scale) -> Rows:
    """Publish slowly to clients one of which may never read."""
    with loaded(candidate, tools) as (server, load):
        if candidate.name == ONE_DEAF:
            load.connect(1, deaf=True)
        load.connect(scale.clients - 1)
        load.prepare_to_publish()
        figures = phase(server, load, f"rate {scale.rate // 2} {scale.seconds}")
        if candidate.name == ONE_DEAF:
            _fill(load)
            figures["close_code"] = float(load.tell("deaf")["close_code"])
        return {"deaf": figures}


def _fill(load: Load) -> None:
    """Publish what is more than the kernel's buffer (4 MiB at most) and then the backlog hold."""
    load.tell("size 60000")
    published = 0
    for _ in range(20):
        if published < 100:
            published += load.tell("window 1 1")["published"]


@dataclass(frozen=True, slots=True)
class Run:
    """A kind of run, and whom it is done with."""

    run: Callable[[Candidate, Tools, Scale], Rows]
    candidates: list[Candidate]


def all_runs(compared: list[Candidate]) -> list[Run]:
    """Every run of a session, in order."""
    pair = [
        lastcall(ONE_OF_MANY, "uvloop"),
        lastcall(TWO_WORKERS, "uvloop", workers=2),
    ]
    asking = ("--ws-ping-interval", str(20 / FASTER), "--ws-ping-timeout", str(20 / FASTER))
    asked = [
        dataclasses.replace(each, command=(*each.command, *asking))
        for each in compared
        if each.name in (LASTCALL, LASTCALL_ASYNCIO, FASTAPI)
    ]
    deaf = [
        lastcall(NOBODY_DEAF, "uvloop"),
        lastcall(ONE_DEAF, "uvloop"),
    ]
    return [
        Run(fan_out, compared),
        Run(many_clients, compared),
        Run(keepalive, asked),
        Run(workers, pair),
        Run(deaf_client, deaf),
    ]


def phase(server: Server, load: Load, command: str) -> Figures:
    """Do *command*; what its deliveries cost the server, and how late they were."""
    cpu = server.cpu_seconds
    answer = load.tell(command)
    cpu = server.cpu_seconds - cpu
    received = answer["received"]
    return {
        "deliveries": received / answer["seconds"] if received else 0.0,
        "cpu_us": cpu / received * 1e6 if received else 0.0,
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
        "received": received,
        "lost": answer["expected"] - received,
        "out_of_order": answer["out_of_order"],
    }


@contextlib.contextmanager
def loaded(candidate: Candidate, tools: Tools) -> Iterator[tuple[Server, Load]]:
    """The server, running, and clients for it."""
    with (
        placed(candidate) as place,
        running(place) as server,
        load_on(tools.load, place.port, candidate.envelope) as load,
    ):
        yield server, load


@dataclass(frozen=True, slots=True)
class Place:
    """A server that can be started: more than once, with what it has kept."""

    candidate: Candidate
    port: int
    directory: Path


@contextlib.contextmanager
def placed(candidate: Candidate) -> Iterator[Place]:
    """A port and directories for *candidate*."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="lcb-") as name:
        directory = Path(name)
        for each in ("run", "state"):
            (directory / each).mkdir(mode=0o700)
        filled = _fill_in(candidate, port, directory)
        (directory / "config").write_text(filled.config)
        yield Place(filled, port, directory)


@contextlib.contextmanager
def running(place: Place) -> Iterator[Server]:
    """Run the server until the block is left."""
    candidate, log = place.candidate, place.directory / "log"
    with serving(candidate.command, place.port, candidate.environment, log) as server:
        yield server


def _fill_in(candidate: Candidate, port: int, directory: Path) -> Candidate:
    def fill(text: str) -> str:
        return text.replace("PORT", str(port)).replace("DIRECTORY", str(directory))

    return dataclasses.replace(
        candidate,
        command=tuple(map(fill, candidate.command)),
        environment={key: fill(value) for key, value in candidate.environment.items()},
        config=fill(candidate.config),
    )
