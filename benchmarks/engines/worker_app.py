"""An application whose worker publishes as fast as it can, and whose clients hear what is asked.

A client of `/hears/7` hears seven channels that nobody else hears.
"""

import asyncio
import itertools
import time

from fastapi import FastAPI, WebSocket

from lastcall import Lastcall, ServerSettings, StreamPosition

CHANNELS = 20
AT_ONCE = 500
"""Publications under way: what a busy worker has."""
DATA = "x" * 128

lastcall = Lastcall(ServerSettings)
app = FastAPI(lifespan=lastcall.lifespan)
numbers = itertools.count()


@app.get("/publish/{seconds}")
async def publish(seconds: float) -> dict[str, float]:
    """Publish for so long; how much was answered, in what time, and for how much CPU."""
    room, answered = asyncio.Semaphore(AT_ONCE), 0
    started, cpu = time.perf_counter(), time.process_time()

    def done(future: "asyncio.Future[StreamPosition]") -> None:
        nonlocal answered
        answered += future.result().offset > 0
        room.release()

    for number in itertools.count():
        if time.perf_counter() > started + seconds:
            break
        await room.acquire()
        future = asyncio.ensure_future(lastcall.publish(f"made:{number % CHANNELS}", DATA))
        future.add_done_callback(done)
    for _ in range(AT_ONCE):
        await room.acquire()
    return {
        "published": answered,
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
    }


@app.websocket_route("/hears/{channels}")
async def hears(websocket: WebSocket) -> None:
    """Attach the client to channels of its own."""
    number = next(numbers)
    count = int(websocket.path_params["channels"])
    await lastcall.attach(websocket, channels=[f"own:{number}:{place}" for place in range(count)])


app.include_router(lastcall.router)
