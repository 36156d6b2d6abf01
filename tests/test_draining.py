"""The drain for endpoints of the application's own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from lastcall import Lastcall
from lastcall.connection_manager import ConnectionManager
from lastcall.draining import Draining
from lastcall.graceful_shutdown import Why
from lastcall.hub import Hub
from lastcall.settings import SHUTDOWN_NOTICE

pytestmark = pytest.mark.usefixtures("run_dir")


class Application:
    """A WebSocket endpoint, an event stream and a slow response; nothing is attached."""

    def __init__(self, **settings: Any) -> None:
        self.lastcall = Lastcall(**settings)
        self.app = FastAPI(lifespan=self.lastcall.lifespan)
        self.app.websocket("/echo")(self.echo)
        self.app.get("/events")(self.events)
        self.app.get("/slow")(self.slow)
        self.entered = threading.Event()

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async with self.lastcall.draining(websocket):
            self.entered.set()
            async for text in websocket.iter_text():
                await websocket.send_text(text)

    async def events(self, request: Request) -> StreamingResponse:
        async def stream() -> AsyncIterator[str]:
            async with self.lastcall.draining(request) as drain:
                yield "data: hello\n\n"
                self.entered.set()
                await drain.leaving.wait()
                yield "event: leaving\n\n"
                await asyncio.sleep(60)
            yield "data: goodbye\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def slow(self, request: Request) -> str:
        async with self.lastcall.draining(request) as drain:
            self.entered.set()
            await drain.leaving.wait()
            return "done before the end"
        return "cut short"

    @property
    def count(self) -> int:
        return self.lastcall.now.worker.connections.count

    def leave(self) -> None:
        now = self.lastcall.now
        now.loop.call_soon_threadsafe(now.shutdown.request, Why.STOP)


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Application, TestClient]]]:
    clients: list[TestClient] = []

    def started(**settings: Any) -> tuple[Application, TestClient]:
        application = Application(**settings)
        clients.append(TestClient(application.app))
        return application, clients[-1].__enter__()

    yield started
    for client in clients:
        client.__exit__(None, None, None)


type Start = Callable[..., tuple[Application, TestClient]]


def test_a_websocket_is_told_served_and_closed_in_words(start: Start) -> None:
    application, client = start(shutdown_timeout=0.3, shutdown_notice_interval=0.1)
    with client.websocket_connect("/echo") as websocket:
        assert application.entered.wait(5)
        assert application.count == 1
        application.leave()
        assert websocket.receive_text() == SHUTDOWN_NOTICE
        websocket.send_text("still here")
        heard = [websocket.receive_text(), websocket.receive_text()]
        with pytest.raises(WebSocketDisconnect) as closed:
            listen(websocket, heard)

    assert "still here" in heard
    assert heard.count(SHUTDOWN_NOTICE) >= 1
    assert (closed.value.code, closed.value.reason) == (1012, "server is shutting down")


def listen(websocket: WebSocketTestSession, heard: list[str]) -> None:
    """Hear everything, until the end raises."""
    while True:
        heard.append(websocket.receive_text())


def test_a_client_that_leaves_is_not_waited_for(start: Start) -> None:
    application, client = start(shutdown_timeout=60)
    with client.websocket_connect("/echo") as websocket:
        assert application.entered.wait(5)
        application.leave()
        assert websocket.receive_text() == SHUTDOWN_NOTICE
        websocket.close()
        now = application.lastcall.now
        assert client.portal is not None
        client.portal.call(now.shutdown.finished.wait)

    assert application.count == 0


def test_an_event_stream_hears_of_it_and_ends_in_order(start: Start) -> None:
    application, client = start(shutdown_timeout=0.3)
    with ThreadPoolExecutor() as pool:
        response = pool.submit(client.get, "/events")
        assert application.entered.wait(5)
        application.leave()

        assert response.result(5).text == ("data: hello\n\nevent: leaving\n\ndata: goodbye\n\n")
    assert application.count == 0


def test_a_slow_response_is_waited_for(start: Start) -> None:
    application, client = start(shutdown_timeout=60)
    with ThreadPoolExecutor() as pool:
        response = pool.submit(client.get, "/slow")
        assert application.entered.wait(5)
        application.leave()

        assert response.result(5).json() == "done before the end"
    assert application.count == 0


class Scene:
    """Something long inside a `draining` block, without a server."""

    def __init__(self) -> None:
        self.connections = ConnectionManager(Hub(lambda _flush: None), lambda: None)
        self.request = Request({"type": "http"})

    def draining(self) -> Draining:
        return Draining(self.connections, self.request)


@pytest.mark.anyio
async def test_an_error_inside_passes_and_counts_out() -> None:
    scene = Scene()
    with pytest.raises(ValueError, match="mine"):
        async with scene.draining():
            raise ValueError("mine")

    assert scene.connections.count == 0


@pytest.mark.anyio
async def test_a_cancellation_from_outside_is_not_swallowed() -> None:
    scene = Scene()
    with anyio.move_on_after(0) as scope:
        async with scene.draining():
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert scene.connections.count == 0


@pytest.mark.anyio
async def test_who_is_cut_ends_without_a_farewell() -> None:
    scene, after = Scene(), list[str]()
    async with anyio.create_task_group() as tasks:

        async def long() -> None:
            async with scene.draining():
                await anyio.sleep_forever()
            after.append("block left")

        tasks.start_soon(long)
        await anyio.wait_all_tasks_blocked()
        assert scene.connections.abort_all() == 1
        assert scene.connections.abort_all() == 1

    assert after == ["block left"]
    assert scene.connections.count == 0


@pytest.mark.anyio
async def test_a_notice_that_a_client_does_not_read_is_not_followed_by_others() -> None:
    """Nor does it keep the block from being left."""
    connections = ConnectionManager(Hub(lambda _flush: None), lambda: None)
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if message["type"] == "websocket.send":
            await anyio.sleep_forever()

    websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
    await websocket.accept()
    async with Draining(connections, websocket) as drain:
        for _ in range(3):
            connections.notify_all("notice")
            await anyio.wait_all_tasks_blocked()
        assert drain.leaving.is_set()

    assert sent == ["websocket.accept", "websocket.send"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OSError, RuntimeError])
async def test_a_client_that_is_gone_is_no_error(error: type[Exception]) -> None:
    connections = ConnectionManager(Hub(lambda _flush: None), lambda: None)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        if message["type"] != "websocket.accept":
            raise error("gone")

    websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
    await websocket.accept()
    async with Draining(connections, websocket) as drain:
        connections.notify_all("notice")
        await drain.leaving.wait()
        await anyio.wait_all_tasks_blocked()
