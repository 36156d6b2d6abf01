"""The server of its own: everybody on `/ws` hears what anybody sends."""

from collections.abc import Awaitable

from fastapi import FastAPI, WebSocket

from lastcall.broker.base import StreamPosition
from lastcall.connection import Connection
from lastcall.lastcall import Lastcall
from lastcall.settings import ServerSettings
from lastcall.web.page import page_router

CHANNEL = "ws"
"""The one channel of this server."""


def create_app(settings: ServerSettings | None = None) -> FastAPI:
    """The notification server: `/ws`, a page that uses it, and health.

    Raises:
        SystemExit: with status 3, if *settings* are read here and one has no valid value.
    """
    lastcall = Lastcall(settings or ServerSettings)
    app = FastAPI(title="Lastcall", lifespan=lastcall.lifespan)

    # There are no dependencies here, for which a route of FastAPI's own kind costs a third more.
    @app.websocket_route("/ws")
    async def notifications(websocket: WebSocket) -> None:
        await lastcall.attach(websocket, channels=[CHANNEL])

    @lastcall.on_message
    def pass_on(_connection: Connection, message: str | bytes) -> Awaitable[StreamPosition]:
        return lastcall.publish(CHANNEL, message)

    # Behind the endpoint: routes are tried in order, and clients that connect are what comes most.
    app.include_router(lastcall.router)
    app.include_router(page_router(lastcall.settings))
    return app
