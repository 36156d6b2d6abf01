"""A worker's broker and nothing else: `python -m benchmarks.engines.hearer URL DIRECTORY`.

Told by lines, answers by lines of JSON: `publish RATE SECONDS` publishes in the channels that all
hear; `report N` waits until N were heard since the last report, and says what that cost.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import anyio

from lastcall.broker.base import Broker, HistoryLimits, Publication, StreamPosition, not_owed
from lastcall.broker.nats import NatsBroker
from lastcall.broker.redis import RedisBroker
from lastcall.broker.unix_socket import UnixSocketBroker

CHANNELS = [f"c{number}" for number in range(20)]
BYTES = bytes(128)
LIMITS = HistoryLimits(size=1000, ttl=300)
BUS = "unix:"
PATIENCE = 10.0


class Counter:
    """Hears, and counts."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.heard = 0
        self.wanted = 0
        self._reached = anyio.Event()

    async def until(self, wanted: int) -> None:
        """Return when so many were heard.

        Raises:
            TimeoutError: some were lost.
        """
        self.wanted, self._reached = wanted, anyio.Event()
        if self.heard < wanted:
            with anyio.fail_after(PATIENCE):
                await self._reached.wait()

    def deliver(self, _publication: Publication, /) -> None:
        """Count it."""
        self.heard += 1
        if self.heard == self.wanted:
            self._reached.set()

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        """Must not happen here."""
        raise AssertionError((channel, position))

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (the seam has it so)
        """See `BrokerEvents`."""


def broker_at(url: str, directory: Path) -> Broker:
    """The broker of *url*; the bus is that of *directory*."""
    if url == BUS:
        return UnixSocketBroker(directory, directory, LIMITS)
    return NatsBroker(url, LIMITS) if url.startswith("nats:") else RedisBroker(url, LIMITS)


async def publish(broker: Broker, rate: float, seconds: float) -> int:
    """Publish so many a second; how many."""
    due = started = time.monotonic()
    number = 0
    while due < started + seconds:
        broker.publish(CHANNELS[number % len(CHANNELS)], BYTES).add_done_callback(not_owed)
        number += 1
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))  # the rate, not a wait
    return number


async def serve(url: str, directory: Path) -> None:
    """Do as the lines say."""
    broker, counter = broker_at(url, directory), Counter()
    async with anyio.create_task_group() as tasks:
        await tasks.start(broker.run, counter)
        for channel in CHANNELS:
            await broker.subscribe(channel)
        answer({})
        cpu = time.process_time()
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            if words[0] == "publish":
                answer({"published": await publish(broker, float(words[1]), float(words[2]))})
            else:
                await counter.until(int(words[1]))
                answer({"heard": counter.heard, "cpu_s": time.process_time() - cpu})
                counter.heard, cpu = 0, time.process_time()
        tasks.cancel_scope.cancel()


def answer(figures: dict[str, float]) -> None:
    """One line."""
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], Path(sys.argv[2]), backend_options={"use_uvloop": True})
