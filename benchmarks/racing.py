"""`scripts/bench racing`: publications a second through NATS, where workers overtake each other.

First one worker beside nats-py by itself, on the same NATS, in turns: the worker's broker appends,
and answers with the position of each publication; the bare client publishes to a stream of its own,
as many at once as it may have under way. Then in one channel, alone and with four workers at once;
and the time from publishing to hearing.
"""

import argparse
import asyncio
import time
from statistics import median

import anyio
import nats
from nats.js import JetStreamContext

from lastcall.broker.base import HistoryLimits, Publication, StreamPosition, not_owed
from lastcall.broker.nats import NatsBroker
from tests.nats_process import run_nats

CHANNELS = 20
BYTES = bytes(128)
AT_ONCE = 500
"""Publications under way: what a busy worker has."""
LIMITS = HistoryLimits(size=1000, ttl=300)


class Ears:
    """Note when something is heard."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.heard_at = 0.0
        self.news = asyncio.Event()

    def deliver(self, publication: Publication, /) -> None:  # noqa: ARG002  (the seam has it so)
        """Note when."""
        self.heard_at = time.perf_counter()
        self.news.set()

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        """Must not happen here."""
        raise AssertionError((channel, position))

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (the seam has it so)
        """See `BrokerEvents`."""


async def worker(broker: NatsBroker, seconds: float, channels: int) -> float:
    """Publications a second, all of them answered."""
    room, answered, number = asyncio.Semaphore(AT_ONCE), 0, 0
    started = time.perf_counter()

    def done(future: "asyncio.Future[StreamPosition]") -> None:
        nonlocal answered
        answered += future.result().offset > 0
        room.release()

    while time.perf_counter() < started + seconds:
        await room.acquire()
        number += 1
        broker.publish(f"c{number % channels}", BYTES).add_done_callback(done)
    for _ in range(AT_ONCE):
        await room.acquire()
    return answered / (time.perf_counter() - started)


async def bare(jetstream: JetStreamContext, seconds: float) -> float:
    """The same by nats-py alone."""
    number, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        number += 1
        await jetstream.publish_async(f"bare.{number % CHANNELS}", BYTES)
    await jetstream.publish_async_completed()
    return number / (time.perf_counter() - started)


async def latency(broker: NatsBroker, ears: Ears, times: int) -> float:
    """The median of milliseconds from publishing to hearing."""
    await broker.subscribe("heard")
    took = []
    for _ in range(times):
        started, ears.news = time.perf_counter(), asyncio.Event()
        broker.publish("heard", BYTES).add_done_callback(not_owed)
        await ears.news.wait()
        took.append(ears.heard_at - started)
    return median(took) * 1000


async def measure(url: str, rounds: int, seconds: float) -> None:
    """Print a line for each round, and what there is beside."""
    brokers, ears = [NatsBroker(url, LIMITS) for _ in range(4)], Ears()
    client = await nats.connect(url)
    jetstream = client.jetstream(publish_async_max_pending=AT_ONCE)
    await jetstream.add_stream(
        name="bare", subjects=["bare.*"], max_msgs_per_subject=LIMITS.size, max_age=LIMITS.ttl
    )
    ratios = []
    async with anyio.create_task_group() as tasks:
        for broker in brokers:
            await tasks.start(broker.run, ears)
        broker = brokers[0]
        for number in range(rounds):
            ours, theirs = await worker(broker, seconds, CHANNELS), await bare(jetstream, seconds)
            ratios.append(ours / theirs)
            print(
                f"round {number + 1}: worker {ours:,.0f}/s, bare {theirs:,.0f}/s, {ratios[-1]:.2f}"
            )
        print(f"median ratio {median(ratios):.2f}")
        print(f"in one channel: {await worker(broker, seconds, 1):,.0f}/s")
        each = await asyncio.gather(*(worker(broker, seconds, 1) for broker in brokers))
        print(f"four workers in one channel: {sum(each):,.0f}/s, the last {min(each):,.0f}/s")
        print(f"published to heard: p50 {await latency(broker, ears, 500):.2f} ms")
        tasks.cancel_scope.cancel()
    await client.close()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench racing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    with run_nats() as server:
        anyio.run(
            measure, server.url, asked.rounds, asked.seconds, backend_options={"use_uvloop": True}
        )


if __name__ == "__main__":
    main()
