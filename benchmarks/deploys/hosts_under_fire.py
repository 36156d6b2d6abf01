"""Hosts on one engine, under fire: the engine is restarted, one host dies, another is rolled.

Clients publish all the while, and each of them checks every offset that it hears.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.deploys.fire import talk
from benchmarks.deploys.fleet import Fleet, fleet_on
from benchmarks.deploys.results import say
from tests.engines import EngineProcess
from tests.light_client import LightClient, Stories

PATIENCE = 90.0
"""Seconds until everybody has heard a word."""
AT_ONCE = 50
"""Clients that connect together in the beginning."""
ENGINE_IS_AWAY = 1.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is asked of the hosts."""

    hosts: int = 3
    workers: int = 2
    clients: int = 1500
    channels: int = 20
    rate: float = 200
    """Publications a second, of all clients together."""
    restarts: int = 5
    """Of the engine."""
    others: tuple[str, ...] = ("kill", "start", "roll", "stop")
    """What else happens, one between two restarts: to hosts, see `Fire.disturb`."""
    seconds: float = 5.0
    """Of peace before each."""


SHORT = Scale(
    hosts=2, clients=24, channels=4, rate=100, restarts=2, others=("kill", "roll"), seconds=0.5
)


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, and how long it was until everybody had heard what was said afterwards."""

    what: str
    seconds: float
    reconnects: int


@dataclass(frozen=True, slots=True)
class Fired:
    """What it came to."""

    steps: Sequence[Step]
    publications: int
    """Heard by somebody."""
    heard: int
    """By all together."""
    acknowledged: int
    lost: int
    """Acknowledged, and heard by nobody."""
    told: int
    """How often a client was told that it cannot have all."""
    complaints: Sequence[str]
    """What may never happen: an offset twice, out of order, or after a gap of which nobody told."""
    log: str


async def under_fire(engine: EngineProcess, scale: Scale) -> Fired:
    """Disturb engine and hosts under load.

    Raises:
        TimeoutError: somebody does not hear what is said.
    """
    with contextlib.ExitStack() as stack:
        running = fleet_on(engine.url, scale.hosts, scale.workers)
        fleet = await asyncio.to_thread(stack.enter_context, running)
        fire = Fire(engine, fleet, scale)
        async with fire.burning():
            steps = [await fire.step(what) for what in plan(scale)]
        return fire.result(steps)


def plan(scale: Scale) -> list[str]:
    """The restarts of the engine, and between them everything else."""
    turns = itertools.zip_longest(["engine"] * scale.restarts, scale.others)
    return [what for turn in turns for what in turn if what is not None]


class Fire:
    """A crowd that talks, and what is done to its servers."""

    def __init__(self, engine: EngineProcess, fleet: Fleet, scale: Scale) -> None:
        """Make the clients; each hears one channel, and is of one host."""
        self._engine, self._fleet, self._scale = engine, fleet, scale
        self._channels = [f"kept:{number}" for number in range(scale.channels)]
        self._stories = Stories()
        self._home = [number % scale.hosts for number in range(scale.clients)]
        self._crowd = [self._client(number) for number in range(scale.clients)]
        self._words = itertools.count()

    @contextlib.asynccontextmanager
    async def burning(self) -> AsyncIterator[None]:
        """Everybody is connected and talks until the block is left, and then has heard all."""
        tasks: list[asyncio.Task[None]] = []
        try:
            for some in itertools.batched(self._crowd, AT_ONCE):
                tasks += [asyncio.create_task(client.run()) for client in some]
                await asyncio.gather(*(client.until_subscribed() for client in some))
            await self._all_hear_a_word()
            talking = asyncio.create_task(talk(self._crowd, self._scale.rate))
            tasks.append(talking)
            yield
            talking.cancel()
            await self._all_hear_a_word()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def step(self, what: str) -> Step:
        """Disturb, and wait until everybody hears again."""
        await asyncio.sleep(self._scale.seconds)
        before, started = self._connects, time.monotonic()
        await self.disturb(what)
        await self._all_hear_a_word()
        step = Step(what, time.monotonic() - started, self._connects - before)
        say(f"{what}: {step.seconds:.1f} s, {step.reconnects} reconnects")
        return step

    async def disturb(self, what: str) -> None:
        """Do it, and do not wait for more than the thing itself."""
        first, last = 0, self._scale.hosts - 1
        match what:
            case "engine":
                await asyncio.to_thread(self._engine.kill)
                await asyncio.sleep(ENGINE_IS_AWAY)
                await asyncio.to_thread(self._engine.start)
            case "kill":
                self._send_away(last)
                await asyncio.to_thread(self._fleet.kill, last)
            case "start":
                await asyncio.to_thread(self._fleet.start, last)
            case "roll":
                await asyncio.to_thread(self._fleet.roll, first)
            case "stop":
                self._send_away(1)
                await asyncio.to_thread(self._fleet.stop, 1)

    def result(self, steps: Sequence[Step]) -> Fired:
        """What everybody has heard, and complains of."""
        acknowledged = [each for client in self._crowd for each in client.acknowledged]
        heard = [heard for client in self._crowd for heard in client.heard.values()]
        return Fired(
            steps=steps,
            publications=len(self._stories),
            heard=sum(len(each.data) for each in heard),
            acknowledged=len(acknowledged),
            lost=sum(self._stories.place(*each) is None for each in acknowledged),
            told=sum(each.gaps for each in heard),
            complaints=[each for client in self._crowd for each in client.complaints],
            log=self._fleet.log,
        )

    def _client(self, number: int) -> LightClient:
        channel = self._channels[number // self._scale.hosts % self._scale.channels]
        url = self._fleet.url(self._home[number])
        return LightClient(url, [channel], number, self._stories)

    @property
    def _connects(self) -> int:
        return sum(client.connects for client in self._crowd)

    def _send_away(self, place: int) -> None:
        """Whoever is cut there comes back to one of the others, as a balancer would have it."""
        others = itertools.cycle(n for n in range(self._scale.hosts) if n != place)
        for number, client in enumerate(self._crowd):
            if self._home[number] == place:
                self._home[number] = next(others)
                client.go_to(self._fleet.url(self._home[number]))

    async def _all_hear_a_word(self) -> None:
        """Say a new word in each channel, until it is heard, and wait for who has not heard it."""
        word = f"word {next(self._words)}"
        async with asyncio.timeout(PATIENCE):
            for channel in self._channels:
                hearers = [client for client in self._crowd if channel in client.heard]
                await self._say(word, channel, hearers)
                place = self._stories.place(channel, word)
                await until(partial(all_are_at, hearers, place))

    async def _say(self, word: str, channel: str, hearers: Sequence[LightClient]) -> None:
        for speaker in itertools.cycle(hearers):
            if self._stories.place(channel, word) is not None:
                return
            await speaker.publish(channel, word)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await until(lambda: self._stories.place(channel, word) is not None)


def all_are_at(hearers: Sequence[LightClient], place: tuple[str, int] | None) -> bool:
    """Whether all of them are as far as *place*: they have heard it, or know that they have not."""
    stands = (heard for client in hearers for heard in client.heard.values())
    epoch, offset = place or ("", 0)
    return all(each.epoch == epoch and each.offset >= offset for each in stands)


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; what it is about happens in other processes."""
    while not condition():  # noqa: ASYNC110  (there is no event to wait for)
        await asyncio.sleep(0.02)
