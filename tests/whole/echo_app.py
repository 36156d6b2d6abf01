"""An application of somebody else's, with ordinary WebSocket endpoints; nothing of Lastcall's."""

from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.get("/health/ready")
async def ready() -> str:
    """Answer once there is a server."""
    return "yes"


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    """Say everything again."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
