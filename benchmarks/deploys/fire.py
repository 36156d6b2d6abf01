"""Recovery under fire: clients of the SDKs' protocol, while workers and servers die under them.

Each has every offset of its channels once and in order, or was told that it was not recovered.
"""

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.deploys.arson import SETTINGS, Arson, Place
from benchmarks.deploys.hearing import Heard, Listener
from benchmarks.deploys.results import Outcome, Part, say
from tests.light_client import LightClient
from tests.sdk.node_client import (
    http_stream_protobuf_sdk,
    http_stream_sdk,
    node_protobuf_sdk,
    node_sdk,
    sse_sdk,
)
from tests.sdk.python_client import python_protobuf_sdk, python_sdk
from tests.sdk.story import Sdk

SDKS: dict[str, Sdk] = {
    "python": python_sdk,
    "python in Protobuf": python_protobuf_sdk,
    "node": node_sdk,
    "node in Protobuf": node_protobuf_sdk,
    "node over SSE": sse_sdk,
    "node over an HTTP stream": http_stream_sdk,
    "node over an HTTP stream in Protobuf": http_stream_protobuf_sdk,
}
PATIENCE = 90.0
"""Seconds until all clients are back and have caught up, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many hear how much, and for how long."""

    workers: int = 3
    clients: int = 500
    channels: int = 20
    heard: int = 2
    """Channels that each client hears."""
    rate: float = 200
    """Publications a second, of all clients together."""
    minutes: float = 5
    sdks: tuple[str, ...] = tuple(SDKS)


QUICK = Scale(clients=40, channels=4, rate=100, minutes=0.25, sdks=("python",))


@dataclass(slots=True)
class Burnt:
    """What became of everybody."""

    disturbances: dict[str, int]
    longest: float
    """Seconds until all workers were ready again, at most."""
    seconds: float
    clients: int
    returns: int
    published: int
    """Publications that were acknowledged."""
    heard: int
    gaps: int
    missing: int
    """Acknowledged, and not heard by who was never told of a gap."""
    doubled: int
    complaints: list[str]

    @property
    def is_flawless(self) -> bool:
        """Whether everybody has everything once and in order, or was told."""
        return not (self.missing or self.doubled or self.complaints) and self.published > 0


async def burn(directory: Path, scale: Scale, seed: int) -> Burnt:
    """Let a server in *directory* burn, by the chance of *seed*, and see who missed what.

    Raises:
        AssertionError: workers never became ready, or a client never heard the end.
    """
    chance = random.Random(seed)  # noqa: S311  (a schedule, not a secret)
    place = Place(directory, scale.workers)
    arson = Arson(place, chance)
    try:
        await asyncio.to_thread(place.start)
        async with crowd(place.url, scale, seed) as clients, sdks(place.url, scale) as listeners:
            await all_hear(clients, listeners, "begin", place)
            since = time.monotonic()
            await disturb(clients, arson, scale, chance)
            seconds = time.monotonic() - since
            await all_hear(clients, listeners, "end", place)
            return judge(clients, listeners, arson, seconds)
    finally:
        await asyncio.to_thread(place.close)


@asynccontextmanager
async def crowd(url: str, scale: Scale, seed: int) -> AsyncIterator[list[LightClient]]:
    """Light clients, each in some of the channels, that come back whenever they are cut."""
    names = [f"fire:{number}" for number in range(scale.channels)]
    clients = [
        LightClient(url, [(names * 2)[(n + k) % scale.channels] for k in range(scale.heard)], n)
        for n in range(seed, seed + scale.clients)
    ]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(client.until_subscribed() for client in clients))
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def sdks(url: str, scale: Scale) -> AsyncIterator[list[Listener]]:
    """Clients of the official SDKs, each in a channel."""
    async with contextlib.AsyncExitStack() as stack:
        listeners = []
        for number, name in enumerate(scale.sdks):
            client = await stack.enter_async_context(SDKS[name](url))
            listeners.append(Listener(name, client, f"fire:{number % scale.channels}"))
            await listeners[-1].begin()
        yield listeners


async def disturb(
    clients: Sequence[LightClient], arson: Arson, scale: Scale, chance: random.Random
) -> None:
    """Disturb the server for as long as *scale* says, while clients talk."""
    talking = asyncio.create_task(talk(clients, scale.rate))
    try:
        end = time.monotonic() + 60 * scale.minutes
        while time.monotonic() < end:
            await asyncio.to_thread(arson.disturb)
            await asyncio.sleep(chance.uniform(0, 3))  # the schedule, not a wait
            say(f"{max(0, end - time.monotonic()):.0f} s left: {dict(arson.done)}")
        await asyncio.to_thread(arson.wait_ready)
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


async def talk(clients: Sequence[LightClient], rate: float) -> None:
    """Say a number after the other; who has no connection just then says nothing."""
    since, number = time.monotonic(), 0
    while True:
        client = clients[number % len(clients)]
        channels = [*client.heard]
        await client.publish(channels[number // len(clients) % len(channels)], number)
        number += 1
        await asyncio.sleep(max(0, since + number / rate - time.monotonic()))  # the rate


async def all_hear(
    clients: Sequence[LightClient], listeners: Sequence[Listener], word: str, place: Place
) -> None:
    """Publish *word* in every channel until it is stored, and wait until everybody has heard it."""
    speakers = {channel: client for client in clients for channel in client.heard}
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(
                *(say_surely(client, channel, word) for channel, client in speakers.items())
            )
            await asyncio.gather(
                *(client.until_like(each, word) for client in clients for each in client.heard),
                *(listener.until_like(word) for listener in listeners),
            )
    except TimeoutError:
        deaf = [
            f"client {number}, {client.is_connected=}, {channel} up to {heard.offset}"
            for number, client in enumerate(clients)
            for channel, heard in client.heard.items()
            if not client.has_heard(channel, word)
        ]
        said = f"{len(deaf)} have not heard {word!r}, such as {deaf[:10]}"
        raise AssertionError(f"{said}: {place.server.describe()}") from None


async def say_surely(client: LightClient, channel: str, word: str) -> None:
    """Publish *word* until it comes back."""
    attempts = 0
    while not client.has_heard(channel, word):
        await client.publish(channel, f"{word}, {attempts}")
        attempts += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.until_like(channel, word), 1)


def judge(
    clients: Sequence[LightClient], listeners: Sequence[Listener], arson: Arson, seconds: float
) -> Burnt:
    """Count what everybody has heard."""
    acknowledged: dict[str, set[Any]] = defaultdict(set)
    for client in clients:
        for channel, data in client.acknowledged:
            acknowledged[channel].add(data)
    everybody = [Heard.of(each) for each in clients] + [each.heard() for each in listeners]
    heard = [(one.gaps, channel, data) for one in everybody for channel, data in one.data.items()]
    return Burnt(
        disturbances=dict(arson.done),
        longest=arson.longest,
        seconds=seconds,
        clients=len(everybody),
        returns=sum(one.returns for one in everybody),
        published=sum(map(len, acknowledged.values())),
        heard=sum(len(data) for _, _, data in heard),
        gaps=sum(one.gaps for one in everybody),
        missing=sum(len(acknowledged[name] - {*data}) for gaps, name, data in heard if not gaps),
        doubled=sum(len(data) - len({*data}) for _, _, data in heard),
        complaints=[each for one in everybody for each in one.complaints],
    )


def measure(directory: Path, scale: Scale, seed: int) -> Part:
    """Let it burn, and judge."""
    burnt = asyncio.run(burn(directory, scale, seed))
    for complaint in burnt.complaints[:20]:
        say(complaint)
    target = (
        f"{scale.clients} clients and {len(scale.sdks)} SDKs, {scale.rate:g} publications a second "
        f"in {scale.channels} channels, {scale.minutes:g} minutes of kill -9, restarts, reloads "
        "and upgrades: everybody has every offset once, in order, or was told `recovered: false`"
    )
    measured = (
        f"{sum(burnt.disturbances.values())} disturbances, {burnt.returns:,} reconnects; "
        f"{burnt.heard:,} publications heard: {burnt.missing} missing, {burnt.doubled} doubled, "
        f"{len(burnt.complaints)} complaints; {burnt.gaps} times told of a gap"
    )
    figures = {name: getattr(burnt, name) for name in Burnt.__slots__ if name != "complaints"}
    command = f"scripts/bench deploys fire --burn {scale.minutes:g} --seed {seed}"
    outcome = Outcome(target, measured, burnt.is_flawless)
    return Part("fire", [outcome], command, notes(scale, burnt), figures)


def notes(scale: Scale, burnt: Burnt) -> str:
    """How it was measured."""
    kinds = ", ".join(f"{count} {what}" for what, count in sorted(burnt.disturbances.items()))
    return _NOTES.format(
        scale=scale,
        burnt=burnt,
        kinds=kinds,
        deliveries=scale.rate * scale.clients * scale.heard / scale.channels,
        timeout=SETTINGS["shutdown_timeout"],
        sdks=", ".join(scale.sdks),
    )


_NOTES = """\
- `lastcall serve` with {scale.workers} workers, one server after the other on the same port and
  directories; `LASTCALL_SHUTDOWN_TIMEOUT` {timeout} s. In {burnt.seconds:.0f} s: {kinds}.
- The next of these comes up to three seconds after all workers are ready, so it may come in the
  middle of a reload. At most {burnt.longest:.1f} s had to be waited for that.
- The clients are as light as they can be (`tests/light_client.py`), and come back as the SDKs do.
  Each hears {scale.heard} of the channels: {deliveries:,.0f} deliveries a second. They publish
  in turns, and say nothing while they are disconnected; {burnt.published:,} publications were
  acknowledged.
- The SDKs, each in one channel: {sdks}.
- *Missing* is what was acknowledged and not heard by who was never told of a gap; *complaints* are
  offsets out of order or after a gap that nobody was told of, and clients that stayed away.
"""
