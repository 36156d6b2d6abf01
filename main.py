"""The notification server, as an application of your own would be written.

Run it with `uvicorn main:app --workers 4`, or `lastcall serve --workers 4`.
"""

from collections.abc import Awaitable

from fastapi import FastAPI, WebSocket

from lastcall import Connection, Lastcall, ServerSettings, StreamPosition, page_router

lastcall = Lastcall(ServerSettings)
app = FastAPI(title="Lastcall", lifespan=lastcall.lifespan)


# A route without FastAPI's dependencies costs each client that connects a quarter less. An endpoint
# that has dependencies, of its own or of the whole application, needs `@app.websocket("/ws")`.
@app.websocket_route("/ws")
async def notifications(websocket: WebSocket) -> None:
    """Everybody who connects here hears what anybody sends."""
    await lastcall.attach(websocket, channels=["ws"])


@lastcall.on_message
def pass_on(_connection: Connection, message: str | bytes) -> Awaitable[StreamPosition]:
    """Send every message to every client of every worker, the sender included."""
    return lastcall.publish("ws", message)


# Behind the endpoint: routes are tried in order, and clients that connect are what comes most.
app.include_router(lastcall.router)
app.include_router(page_router(lastcall.settings))
