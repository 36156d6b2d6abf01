"""The server's application with rooms: whoever connects to one hears what is said in it.

What main.py does, but not everybody hears everybody: a small machine can then have many clients
and many messages without being busy with nothing else.
"""

from collections.abc import Awaitable

from fastapi import FastAPI, WebSocket

from lastcall import Connection, Lastcall, ServerSettings, StreamPosition

lastcall = Lastcall(ServerSettings)
app = FastAPI(lifespan=lastcall.lifespan)


@app.websocket("/rooms/{room}")
async def rooms(websocket: WebSocket, room: str) -> None:
    """Everybody who connects here hears what anybody in the same room says."""
    await lastcall.attach(websocket, channels=[f"room:{room}"])


@lastcall.on_message
def pass_on(connection: Connection, message: str | bytes) -> Awaitable[StreamPosition]:
    """Send every message to all of its sender's room."""
    return lastcall.publish(connection.channels[0], message)


app.include_router(lastcall.router)
