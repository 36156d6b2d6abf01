"""The application that the fuzzing client talks to: it sends back whatever it receives.

Twice: `/detached` is a connection of Lastcall's, `/endpoint` an ordinary loop that receives and
sends, as any FastAPI application may have one.
"""

from fastapi import FastAPI, WebSocket

from lastcall import Connection, Lastcall

MESSAGE = 16 * 2**20
"""Bytes of the longest message of any case; also uvicorn's own limit for its endpoints."""

lastcall = Lastcall(
    max_message_size=MESSAGE,
    max_backlog=2 * MESSAGE,  # a message that comes back waits whole, with its frame's header
    message_rate=0,
)
app = FastAPI(lifespan=lastcall.lifespan)


@app.websocket("/detached")
async def detached(websocket: WebSocket) -> None:
    """Leave the connection to `send_back`."""
    await lastcall.attach(websocket)


@lastcall.on_message
def send_back(connection: Connection, message: str | bytes) -> None:
    """Answer with the same."""
    connection.send(message)


@app.websocket("/endpoint")
async def endpoint(websocket: WebSocket) -> None:
    """Receive and send until the client is gone."""
    await websocket.accept()
    while (event := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send({**event, "type": "websocket.send"})
