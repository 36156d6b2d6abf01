"""`python-socketio` as an ASGI application: an event of a client is emitted to all."""

import socketio  # type: ignore[import-not-found,unused-ignore]  # compared where it is installed

server = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(server)


async def message(_sid: str, text: str) -> None:
    """Pass on what the client sends."""
    await server.emit("message", text)


server.on("message", message)
