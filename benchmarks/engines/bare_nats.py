"""nats-py by itself: `python -m benchmarks.engines.bare_nats URL SECONDS`.

It publishes to a stream of JetStream, as many at once as a busy worker has under way.
"""

import json
import sys
import time

import anyio
import nats

CHANNELS = 20
BYTES = bytes(128)
HISTORY = 1000
AT_ONCE = 500


async def publish(url: str, seconds: float) -> dict[str, float]:
    """Publish for so long; how much, in what time, and for how much CPU."""
    async with await nats.connect(url) as client:
        jetstream = client.jetstream(publish_async_max_pending=AT_ONCE)
        await jetstream.add_stream(
            name="bare", subjects=["bare.*"], max_msgs_per_subject=HISTORY, max_age=300
        )
        number, started, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() < started + seconds:
            number += 1
            await jetstream.publish_async(f"bare.{number % CHANNELS}", BYTES)
        await jetstream.publish_async_completed()
        return {
            "published": number,
            "seconds": time.perf_counter() - started,
            "cpu_s": time.process_time() - cpu,
        }


if __name__ == "__main__":
    url, seconds = sys.argv[1], float(sys.argv[2])
    print(json.dumps(anyio.run(publish, url, seconds, backend_options={"use_uvloop": True})))
