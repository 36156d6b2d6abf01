"""An application with two kinds of clients: those who come back by themselves, and plain text.

`scripts/bench evacuation` serves it.
"""

from fastapi import FastAPI, WebSocket

from lastcall import Lastcall

lastcall = Lastcall()
app = FastAPI(lifespan=lastcall.lifespan)
app.include_router(lastcall.router)


@app.websocket("/plain")
async def plain(websocket: WebSocket) -> None:
    """Take a client that stays until it is told to go."""
    await lastcall.attach(websocket, channels=["news"])


@app.websocket("/returning")
async def returning(websocket: WebSocket) -> None:
    """Take a client whose library connects again."""
    await lastcall.attach(websocket, user="somebody", channels=["news"], protocol="centrifuge-json")
