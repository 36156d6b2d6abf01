"""A chat with rooms: event handlers instead of receive loops, and two kinds of endpoint.

Shows: `on_connect`, `on_message` and `on_disconnect`; a second endpoint by name, with handlers of
its own; channels made from the path; JSON as payload.

    uvicorn examples.chat_with_rooms:app
    python -m websockets "ws://127.0.0.1:8000/rooms/kitchen?name=ada"
    python -m websockets "ws://127.0.0.1:8000/audience"                # in a second terminal
"""

from fastapi import FastAPI, WebSocket

from lastcall import Connection, Lastcall

lastcall = Lastcall()
rooms = lastcall.endpoint("rooms")
audience = lastcall.endpoint("audience")
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)


@app.websocket("/rooms/{room}")
async def enter(websocket: WebSocket, room: str, name: str) -> None:
    """Talk in one room."""
    await rooms.attach(websocket, user=name, channels=[f"room:{room}"])


@app.websocket("/audience")
async def listen(websocket: WebSocket) -> None:
    """Hear of who comes and goes anywhere, and say nothing."""
    await audience.attach(websocket, channels=["doors"])


@rooms.on_connect
async def came(connection: Connection) -> None:
    """Greet who came, in words for them alone; tell the audience."""
    connection.send(f"Welcome, {connection.user}.")
    await lastcall.publish("doors", f"{connection.user} came")


@rooms.on_message
async def said(connection: Connection, text: str | bytes) -> None:
    """Tell the room. The next message of this client waits until this one is stored."""
    if isinstance(text, str):
        await lastcall.publish(connection.channels[0], {"from": connection.user, "text": text})


@rooms.on_disconnect
async def went(connection: Connection, code: int) -> None:
    """Tell the audience, with the close code."""
    await lastcall.publish("doors", f"{connection.user} went ({code})")


@audience.on_message
def hush(connection: Connection, _text: str | bytes) -> None:
    """Answer who spoke."""
    connection.send("The audience only listens.")
