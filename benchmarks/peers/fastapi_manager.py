"""The `ConnectionManager` that FastAPI's documentation shows, as an application of its own."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect


class ConnectionManager:
    """Everybody who is connected; each is written to in turn."""

    def __init__(self) -> None:
        """Nobody is connected yet."""
        self.active: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        """Accept the client and remember it."""
        await websocket.accept()
        self.active.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        """Forget the client."""
        self.active.remove(websocket)

    async def broadcast(self, message: str) -> None:
        """Send *message* to everybody, one after the other."""
        for connection in self.active:
            await connection.send_text(message)


manager = ConnectionManager()
app = FastAPI()


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    """Pass on what the client sends."""
    await manager.connect(websocket)
    try:
        while True:
            await manager.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        manager.disconnect(websocket)
