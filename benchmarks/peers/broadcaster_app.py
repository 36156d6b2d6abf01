"""`broadcaster` as its documentation shows it: one task of a client hears, another publishes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from broadcaster import Broadcast  # type: ignore[import-not-found,unused-ignore]
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

broadcast = Broadcast(os.environ["ENGINE_URL"])


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Be connected."""
    async with broadcast:
        yield


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    """Hear all, and pass on what the client sends."""
    await websocket.accept()
    hearing = asyncio.create_task(hear(websocket))
    try:
        while True:
            await broadcast.publish("chat", await websocket.receive_text())
    except WebSocketDisconnect:
        pass
    finally:
        hearing.cancel()


async def hear(websocket: WebSocket) -> None:
    """Send what anybody publishes."""
    async with broadcast.subscribe("chat") as subscriber:
        async for event in subscriber:
            await websocket.send_text(event.message)
