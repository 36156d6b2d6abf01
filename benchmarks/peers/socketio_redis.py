"""`python-socketio` with its Redis manager: an event of a client is emitted to all."""

import os

import socketio  # type: ignore[import-not-found,unused-ignore]

manager = socketio.AsyncRedisManager(os.environ["ENGINE_URL"])
server = socketio.AsyncServer(async_mode="asgi", client_manager=manager)
app = socketio.ASGIApp(server)


async def message(_sid: str, text: str) -> None:
    """Pass on what the client sends."""
    await server.emit("message", text)


server.on("message", message)
