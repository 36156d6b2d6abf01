"""A task of the application's own that publishes: a clock that ticks for everybody.

Shows: a task group inside `lastcall.run`; an idempotency key, by which the clocks of several
workers tick as one; a broker that is away for a moment.

    uvicorn examples.background_publisher:app
    python -m websockets ws://127.0.0.1:8000/clock
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from fastapi import FastAPI, WebSocket

from lastcall import BrokerUnavailable, Lastcall

lastcall = Lastcall()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Tick while there is anybody to hear it, so until the drain is over."""
    async with lastcall.run(app), anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        yield
        tasks.cancel_scope.cancel()


app = FastAPI(lifespan=lifespan)
app.include_router(lastcall.router)


async def tick() -> None:
    """Publish every second; the first worker to do so has done it for all."""
    while True:
        await anyio.sleep(1 - time.time() % 1)
        now = f"{time.time():.0f}"
        with suppress(BrokerUnavailable):  # the next second may go better
            await lastcall.publish("clock", now, idempotency_key=now)


@app.websocket("/clock")
async def clock(websocket: WebSocket) -> None:
    """Hear the clock."""
    await lastcall.attach(websocket, channels=["clock"])
