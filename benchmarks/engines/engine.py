"""The engines that can be measured; a new one is a line in `MEASURED`."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nats
from redis import Redis

from benchmarks.candidates import PEERS, Candidate, uvicorn
from benchmarks.load import Envelope
from benchmarks.processes import ROOT, cpu_seconds_of, memory_of
from tests.engines import EngineProcess

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
"""Made by `scripts/install peers`; what is not there does not take part."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What there is to know of an engine beside how it is started (`tests/engines.py`)."""

    title: str
    version: Callable[[str], str]
    """What runs at a URL."""
    client: str
    """A module that publishes with the engine's own client: `python -m CLIENT URL SECONDS`."""
    commands: Callable[[str], int]
    """How many commands the engine at a URL has done, those of its scripts included."""
    peers: Callable[[str], Iterator[Candidate]]
    """Who else can share it: servers of two workers."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that runs, and is measured."""

    name: str
    process: EngineProcess
    measured: Measured = field(repr=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.process.url

    @property
    def cpu_seconds(self) -> float:
        """What it has used."""
        return cpu_seconds_of(self.process.pid)

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return memory_of(self.process.pid)

    @property
    def commands(self) -> int:
        """How many it has done."""
        return self.measured.commands(self.url)

    @property
    def candidate(self) -> Candidate:
        """The engine itself, for the list of what was compared."""
        return Candidate(self.measured.title, self.measured.version(self.url), ())

    def move_to(self, core: int) -> None:
        """Let it run on one core, all of its threads."""
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def redis_version(url: str) -> str:
    """As it says itself."""
    with Redis.from_url(url) as redis:
        return f"redis-server {redis.info('server')['redis_version']}"


def redis_commands(url: str) -> int:
    """Those inside scripts are counted as well."""
    with Redis.from_url(url) as redis:
        return int(redis.info("stats")["total_commands_processed"])


def redis_peers(url: str) -> Iterator[Candidate]:
    """Those that the peers' environment has."""
    versions = _versions("channels-redis", "django", "python-socketio", "broadcaster", "redis")
    if "channels-redis" in versions:
        words = f"channels-redis {versions['channels-redis']}, Django {versions['django']}"
        for name, layer in (
            ("channels-redis", "channels_redis.core.RedisChannelLayer"),
            ("channels-redis, pub/sub layer", "channels_redis.pubsub.RedisPubSubChannelLayer"),
        ):
            yield _peer(name, words, "django_channels", url, LAYER=layer)
    if "python-socketio" in versions:
        words = f"python-socketio {versions['python-socketio']}, AsyncRedisManager"
        envelope = Envelope(
            path="/socket.io/?EIO=4&transport=websocket",
            hello="40",
            before='42["message","',
            after='"]',
        )
        yield _peer("python-socketio", words, "socketio_redis", url, envelope)
    if "broadcaster" in versions:
        yield _peer("broadcaster", f"broadcaster {versions['broadcaster']}", "broadcaster_app", url)


def nats_version(url: str) -> str:
    """As it says itself."""

    async def ask() -> str:
        async with await nats.connect(url) as client:
            version = client.connected_server_version
            return f"nats-server {version.major}.{version.minor}.{version.patch}"

    return asyncio.run(ask())


def nats_commands(url: str) -> int:
    """Messages that were appended to our stream, and questions to JetStream."""

    async def ask() -> int:
        async with await nats.connect(url) as client:
            jetstream = client.jetstream()
            asked = (await jetstream.account_info()).api.total
            return asked + (await jetstream.stream_info("lastcall")).state.last_seq

    return asyncio.run(ask())


def _peer(
    name: str, version: str, app: str, url: str, envelope: Envelope | None = None, **more: str
) -> Candidate:
    return Candidate(
        name,
        version,
        (*uvicorn(f"{app}:app", str(PEERS_PYTHON)), "--app-dir", str(PEERS), "--workers", "2"),
        envelope or Envelope(),
        {"ENGINE_URL": url, **more},
    )


def _versions(*packages: str) -> dict[str, str]:
    """Which of them the peers' environment has."""
    if not PEERS_PYTHON.exists():
        return {}
    command = [
        str(PEERS_PYTHON),
        "-m",
        "pip",
        "list",
        "--format",
        "json",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {each["name"].lower().replace("_", "-"): each for each in json.loads(done.stdout)}
    return {name: found[name]["version"] for name in packages if name in found}


MEASURED = {
    "redis": Measured(
        "Redis", redis_version, "benchmarks.engines.bare_redis", redis_commands, redis_peers
    ),
    "nats": Measured(
        "NATS", nats_version, "benchmarks.engines.bare_nats", nats_commands, lambda _url: iter(())
    ),
}
