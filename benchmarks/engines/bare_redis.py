"""redis-py by itself: `python -m benchmarks.engines.bare_redis URL SECONDS`.

It pipelines, a hundred publications at a time, the commands that one comes down to: `INCR`, `XADD`,
`PUBLISH`.
"""

import json
import sys
import time

import anyio
from redis.asyncio import Redis

CHANNELS = 20
BYTES = bytes(128)
HISTORY = 1000
AT_ONCE = 100


async def publish(url: str, seconds: float) -> dict[str, float]:
    """Publish for so long; how much, in what time, and for how much CPU."""
    number, started, cpu = 0, time.perf_counter(), time.process_time()
    async with Redis.from_url(url) as redis:
        while time.perf_counter() < started + seconds:
            pipeline = redis.pipeline(transaction=False)
            for _ in range(AT_ONCE):
                number += 1
                channel = f"bare{number % CHANNELS}"
                pipeline.incr(f"{channel}:n")
                pipeline.xadd(f"{channel}:s", {"b": BYTES}, maxlen=HISTORY, approximate=False)
                pipeline.publish(channel, BYTES)
            await pipeline.execute()
    return {
        "published": number,
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
    }


if __name__ == "__main__":
    url, seconds = sys.argv[1], float(sys.argv[2])
    print(json.dumps(anyio.run(publish, url, seconds, backend_options={"use_uvloop": True})))
