"""Between middleware, under a prefix, inside another application: it works as elsewhere."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response, WebSocket
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from lastcall import Lastcall

pytestmark = pytest.mark.usefixtures("run_dir")


class Tracing:
    """Wraps receive and send, and logs what escapes: as error trackers do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the application."""

        async def sending(message: Any) -> None:
            await send(message)

        async def receiving() -> Any:
            return await receive()

        try:
            await self.app(scope, receiving, sending)
        except Exception:
            logging.getLogger("tracing").exception("escaped")
            raise


async def stamp(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["x-stamp"] = "1"
    return response


def notifying(app: FastAPI, lastcall: Lastcall) -> FastAPI:
    """An endpoint for clients, and one that publishes."""

    @app.websocket("/ws")
    async def notifications(websocket: WebSocket) -> None:
        await lastcall.attach(websocket, channels=["news"])

    @app.post("/publish")
    def publish() -> int:
        return lastcall.publish_sync("news", "hello").offset

    return app


def exchange(client: TestClient, prefix: str = "") -> Response | Any:
    """A client that hears what is published; the publisher's response."""
    with client.websocket_connect(f"{prefix}/ws") as websocket:
        response = client.post(f"{prefix}/publish", headers={"origin": "https://a.example"})
        assert websocket.receive_text() == "hello"
    return response


@pytest.mark.parametrize("is_given", [False, True])
def test_middleware_around_it(caplog: pytest.LogCaptureFixture, *, is_given: bool) -> None:
    lastcall = Lastcall()
    app = notifying(FastAPI(lifespan=lastcall.lifespan), lastcall)
    app.add_middleware(BaseHTTPMiddleware, dispatch=stamp)
    app.add_middleware(GZipMiddleware)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(Tracing)

    with TestClient(Tracing(app) if is_given else app) as client:
        response = exchange(client)

    assert response.headers["x-stamp"] == "1"
    assert response.headers["access-control-allow-origin"] == "*"
    assert caplog.get_records("call") == [
        record for record in caplog.get_records("call") if record.name != "tracing"
    ]


def test_the_middleware_is_as_it_was_when_all_is_over() -> None:
    lastcall = Lastcall()
    app = FastAPI(lifespan=lastcall.lifespan)
    with TestClient(app):
        inside = app.middleware_stack
    after = app.middleware_stack

    assert inside is not after
    with TestClient(app):
        assert app.middleware_stack not in (inside, after)
    assert app.middleware_stack is after


def test_the_router_may_have_a_prefix() -> None:
    lastcall = Lastcall()
    app = FastAPI(lifespan=lastcall.lifespan)
    app.include_router(lastcall.router, prefix="/internal")

    with TestClient(app) as client:
        assert client.get("/internal/health/ready").json() == {"status": "ready"}
        assert client.get("/internal/health/live").json() == {"status": "live"}
        assert client.get("/health/ready").status_code == 404


def test_it_may_serve_a_mounted_application() -> None:
    lastcall = Lastcall()
    app = FastAPI(lifespan=lastcall.lifespan)
    app.mount("/sub", notifying(FastAPI(), lastcall))

    with TestClient(app) as client:
        exchange(client, "/sub")


def test_before_the_lifespan_it_is_not_ready() -> None:
    lastcall = Lastcall()
    app = FastAPI()
    app.include_router(lastcall.router)
    response = TestClient(app).get("/health/ready")

    assert response.status_code == 503
    assert response.json() == {"status": "not ready", "reason": "not started"}
