"""The server of the brief, with a part that dies when a client says so."""

from collections.abc import Awaitable

from fastapi import FastAPI, WebSocket

from lastcall import Connection, Lastcall, ServerSettings, StreamPosition

lastcall = Lastcall(ServerSettings)
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)


@app.websocket("/ws")
async def notifications(websocket: WebSocket) -> None:
    """Pass everything on."""
    await lastcall.attach(websocket, channels=["ws"])


@lastcall.on_message
def pass_on(_connection: Connection, message: str | bytes) -> Awaitable[StreamPosition] | None:
    """Break what the clock needs; nothing else is touched, so it dies of itself."""
    if message == "die":
        del lastcall.now.worker.commands._received  # noqa: SLF001  (a bug, made on purpose)
        return None
    return lastcall.publish("ws", message)
