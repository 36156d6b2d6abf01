"""`scripts/bench redis`: publications a second through one worker, beside redis-py by itself.

Both on the same Redis, in turns: the worker's broker appends, tells and answers with the position
of each publication; the bare client pipelines the commands that this comes down to (`INCR`, `XADD`,
`PUBLISH`), a hundred publications at a time. And the time from publishing to hearing.
"""

import argparse
import asyncio
import time
from statistics import median

import anyio
from redis.asyncio import Redis

from lastcall.broker.base import HistoryLimits, Publication, StreamPosition, not_owed
from lastcall.broker.redis import RedisBroker
from tests.redis_process import run_redis

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


async def worker(broker: RedisBroker, seconds: float) -> float:
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
        broker.publish(f"c{number % CHANNELS}", BYTES).add_done_callback(done)
    for _ in range(AT_ONCE):
        await room.acquire()
    return answered / (time.perf_counter() - started)


async def bare(redis: Redis, seconds: float) -> float:
    """The same by redis-py alone."""
    number, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        pipeline = redis.pipeline(transaction=False)
        for _ in range(100):
            number += 1
            channel = f"bare{number % CHANNELS}"
            pipeline.incr(f"{channel}:n")
            pipeline.xadd(f"{channel}:s", {"b": BYTES}, maxlen=LIMITS.size, approximate=False)
            pipeline.publish(channel, BYTES)
        await pipeline.execute()
    return number / (time.perf_counter() - started)


async def latency(broker: RedisBroker, ears: Ears, times: int) -> float:
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
    """Print a line for each round."""
    broker, ears, redis = RedisBroker(url, LIMITS), Ears(), Redis.from_url(url)
    ratios = []
    async with anyio.create_task_group() as tasks, redis:
        await tasks.start(broker.run, ears)
        for number in range(rounds):
            ours, theirs = await worker(broker, seconds), await bare(redis, seconds)
            ratios.append(ours / theirs)
            print(
                f"round {number + 1}: worker {ours:,.0f}/s, bare {theirs:,.0f}/s, {ratios[-1]:.2f}"
            )
        print(f"median ratio {median(ratios):.2f}")
        print(f"published to heard: p50 {await latency(broker, ears, 500):.2f} ms")
        tasks.cancel_scope.cancel()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench redis", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    with run_redis() as server:
        anyio.run(
            measure, server.url, asked.rounds, asked.seconds, backend_options={"use_uvloop": True}
        )


if __name__ == "__main__":
    main()
