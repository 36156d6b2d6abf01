"""A chat server that does as a test says: for ends and silences that a good server never has."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from lastcall.settings import Settings
from lastcall.web.page import page_router


class Relay:
    """Passes each message on to everybody, unless told otherwise, on a port of its own."""

    def __init__(self, portal: BlockingPortal, settings: Settings, port: int, prefix: str) -> None:
        """Serve with *settings* in *portal*'s loop; *port* 0 is a free one."""
        self._portal = portal
        self._clients: set[WebSocket] = set()
        self.mute = False
        app = FastAPI()
        app.include_router(page_router(settings), prefix=prefix)
        app.add_api_websocket_route(f"{prefix}/ws", self._serve)
        config = uvicorn.Config(app, log_level="critical", ws="websockets-sansio", lifespan="off")
        listener = socket.create_server(("127.0.0.1", port))
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{prefix}/"
        self._server = uvicorn.Server(config)
        self._running = portal.start_task_soon(self._server.serve, [listener])

    async def _serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self._clients.add(websocket)
        try:
            while True:
                text = await websocket.receive_text()
                if not self.mute:
                    await self._send(text)
        except WebSocketDisconnect:
            self._clients.discard(websocket)

    async def _send(self, message: str | bytes) -> None:
        for client in list(self._clients):
            if isinstance(message, str):
                await client.send_text(message)
            else:
                await client.send_bytes(message)

    async def _close(self, code: int, reason: str) -> None:
        clients, self._clients = self._clients, set()
        for client in clients:
            await client.close(code, reason)

    def tell(self, message: str | bytes) -> None:
        """Send *message* to every client."""
        self._portal.call(self._send, message)

    def close(self, code: int, reason: str = "") -> None:
        """End every connection."""
        self._portal.call(self._close, code, reason)

    def stop(self) -> None:
        """Close the port, and every connection with 1012; the end of `run_relay` does the same."""
        self._server.should_exit = True
        self._running.result(10)


@contextmanager
def run_relay(
    settings: Settings | None = None, *, port: int = 0, prefix: str = ""
) -> Iterator[Relay]:
    """A relay that listens until it is stopped, at the latest at the end of the block."""
    with start_blocking_portal() as portal:
        relay = Relay(portal, settings or Settings.model_construct(), port, prefix)
        try:
            yield relay
        finally:
            relay.stop()
