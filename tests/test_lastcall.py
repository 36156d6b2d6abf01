"""The library as an application's own tests see it: Starlette's plain TestClient, no signals."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI, WebSocket
from pydantic import BaseModel
from starlette.testclient import TestClient

from lastcall import Connection, Lastcall, create_app
from lastcall.metrics import CONTENT_TYPE

pytestmark = pytest.mark.usefixtures("run_dir")


class Order(BaseModel):
    """What an application publishes."""

    order: int
    status: str


class Application:
    """An application with a WebSocket endpoint and one that publishes from a thread."""

    def __init__(self) -> None:
        self.lastcall = Lastcall()
        self.story: list[str] = []
        self.closed = threading.Event()
        self.app = FastAPI(lifespan=self.lastcall.lifespan)
        self.app.include_router(self.lastcall.router)
        self.app.websocket("/ws")(self.notifications)
        self.app.post("/ship")(self.ship)
        self.app.post("/await")(self.ship_awaiting)

    async def dependency(self) -> AsyncIterator[str]:
        self.story.append("dependency opened")
        yield "ann"
        self.story.append("dependency closed")
        self.closed.set()

    async def notifications(self, websocket: WebSocket) -> None:
        await self.lastcall.attach(websocket, user="ann", channels=["orders", "user:ann"])

    def ship(self, order: Order) -> int:
        return self.lastcall.publish_sync("orders", order).offset

    async def ship_awaiting(self, order: Order) -> int:
        return (await self.lastcall.publish("orders", order)).offset


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def client(application: Application) -> Iterator[TestClient]:
    with TestClient(application.app) as client:
        yield client


@pytest.mark.parametrize("path", ["/ship", "/await"])
def test_who_is_attached_hears_what_an_endpoint_publishes(client: TestClient, path: str) -> None:
    with (
        client.websocket_connect("/ws") as first,
        client.websocket_connect("/ws") as second,
    ):
        assert client.post(path, json={"order": 7, "status": "shipped"}).json() == 1

        for websocket in (first, second):
            assert json.loads(websocket.receive_text()) == {"order": 7, "status": "shipped"}


def test_text_is_text_bytes_are_binary_and_all_else_is_json(
    application: Application, client: TestClient
) -> None:
    publish = application.lastcall.publish_sync
    with client.websocket_connect("/ws") as websocket:
        for payload in ("text", b"\x00", bytearray(b"\x01"), {"b": [1, None]}, 5, Order):
            if payload is Order:
                publish("user:ann", Order(order=1, status="new"))
            else:
                publish("user:ann", payload)

        assert websocket.receive_text() == "text"
        assert websocket.receive_bytes() == b"\x00"
        assert websocket.receive_bytes() == b"\x01"
        assert websocket.receive_text() == '{"b":[1,null]}'
        assert websocket.receive_text() == "5"
        assert websocket.receive_text() == '{"order":1,"status":"new"}'


def test_nobody_is_announced_in_an_application_of_ones_own(
    application: Application, client: TestClient
) -> None:
    with client.websocket_connect("/ws") as first, client.websocket_connect("/ws"):
        application.lastcall.publish_sync("orders", "the first message")

        assert first.receive_text() == "the first message"


def test_plain_and_async_handlers_are_called_in_order(
    application: Application, client: TestClient
) -> None:
    lastcall, story, gone = application.lastcall, application.story, threading.Event()

    @lastcall.on_connect
    def connected(connection: Connection) -> None:
        story.append(f"{connection.user} connected")
        connection.send("welcome")

    @lastcall.on_message
    async def message(connection: Connection, text: str | bytes) -> None:
        await asyncio.sleep(0)
        story.append(f"{connection.user} said {text!r}")
        connection.send(f"heard {text!r}")

    @lastcall.on_disconnect
    async def disconnected(_connection: Connection, code: int) -> None:
        await asyncio.sleep(0)
        story.append(f"gone with {code}")
        gone.set()

    with client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "welcome"
        websocket.send_text("one")
        websocket.send_bytes(b"two")
        assert websocket.receive_text() == "heard 'one'"
        assert websocket.receive_text() == "heard b'two'"
        websocket.close(4001)
        assert gone.wait(5)

    assert story == [
        "ann connected",
        "ann said 'one'",
        "ann said b'two'",
        "gone with 4001",
    ]


def test_an_error_in_a_handler_is_logged_and_harms_nobody(
    application: Application, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    @application.lastcall.on_message
    def fail(_connection: Connection, text: str | bytes) -> None:
        raise ValueError(text)

    with client.websocket_connect("/ws") as websocket:
        websocket.send_text("bad")
        websocket.send_text("worse")
        application.lastcall.publish_sync("orders", "still here")
        assert websocket.receive_text() == "still here"
    client.get("/health/live")

    errors = [record.exc_info for record in caplog.records if record.levelname == "ERROR"]
    assert [str(error[1]) for error in errors if error] == ["bad", "worse"]


def test_endpoints_have_handlers_of_their_own(application: Application, client: TestClient) -> None:
    games = application.lastcall.endpoint("games")

    @application.app.websocket("/games")
    async def play(websocket: WebSocket) -> None:
        await games.attach(websocket)

    @games.on_message
    def move(connection: Connection, _message: str | bytes) -> None:
        connection.send("your move")

    with client.websocket_connect("/games") as game, client.websocket_connect("/ws") as other:
        other.send_text("hello")
        game.send_text("e4")
        assert game.receive_text() == "your move"
        application.lastcall.publish_sync("orders", "nothing before")
        assert other.receive_text() == "nothing before"


def test_a_dependency_with_yield_lasts_as_long_as_the_endpoint(
    application: Application, client: TestClient
) -> None:
    """On plain ASGI that is the connection's whole life."""
    user = Depends(application.dependency)

    @application.app.websocket("/depends")
    async def depends(websocket: WebSocket, name: str = user) -> None:
        await application.lastcall.attach(websocket, user=name, channels=["orders"])
        application.story.append("endpoint over")

    with client.websocket_connect("/depends") as websocket:
        application.lastcall.publish_sync("orders", "there?")
        websocket.receive_text()
        assert application.story == ["dependency opened"]
        websocket.close()
        assert application.closed.wait(5)

    assert application.story == ["dependency opened", "endpoint over", "dependency closed"]


def test_a_subprotocol_can_be_chosen(application: Application, client: TestClient) -> None:
    @application.app.websocket("/chosen")
    async def chosen(websocket: WebSocket) -> None:
        await application.lastcall.attach(websocket, subprotocol="v1")

    with client.websocket_connect("/chosen", subprotocols=["v2", "v1"]) as websocket:
        assert websocket.accepted_subprotocol == "v1"


def test_metrics_are_told_while_it_runs(application: Application) -> None:
    stopped = TestClient(application.app)
    assert stopped.get("/metrics").status_code == 503
    with TestClient(application.app) as client, client.websocket_connect("/ws") as websocket:
        application.lastcall.publish_sync("orders", "hello")
        websocket.receive_text()
        answer = client.get("/metrics")

    worker = f'worker="{os.getpid()}"'
    assert answer.headers["content-type"] == CONTENT_TYPE
    for name in ("connections", "published_total", "deliveries_total", "broker_available"):
        assert f"lastcall_{name}{{{worker}}} 1\n" in answer.text


def test_the_application_can_be_started_again(application: Application) -> None:
    for _ in range(2):
        with TestClient(application.app) as client:
            with client.websocket_connect("/ws") as websocket:
                application.lastcall.publish_sync("orders", "hello")
                assert websocket.receive_text() == "hello"
            assert client.get("/health/ready").json() == {"status": "ready"}


def count(run_dir: Path, pattern: str) -> int:
    """How many files match."""
    return len(list(run_dir.rglob(pattern)))


def test_a_lifespan_of_ones_own_surrounds_it(run_dir: Path) -> None:
    lastcall, story = Lastcall(), list[str]()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        story.append("database opened")
        async with lastcall.run(app):
            story.append(f"{count(run_dir, '*.ALIVE')} worker")
            yield
        story.append("database closed")

    with TestClient(FastAPI(lifespan=lifespan)):
        pass

    assert story == ["database opened", "1 worker", "database closed"]


def connect(client: TestClient, path: str) -> None:
    """Connect, and leave at once."""
    with client.websocket_connect(path):
        pass


@dataclass
class Unfit:
    """Something that JSON has no word for."""

    it: object


def test_mistakes_are_explained(application: Application) -> None:
    lastcall = application.lastcall

    @application.app.websocket("/letters")
    async def letters(websocket: WebSocket) -> None:
        await lastcall.attach(websocket, channels="orders")

    with pytest.raises(RuntimeError, match=r"lifespan=lastcall\.lifespan"):
        lastcall.publish_sync("orders", "x")
    with TestClient(application.app) as client:
        with pytest.raises(RuntimeError, match="publish_sync in a thread"):
            lastcall.publish("orders", "x")
        with pytest.raises(TypeError):
            lastcall.publish_sync("orders", Unfit(object()))
        with pytest.raises(TypeError, match=r"a list of names: \['orders'\]"):
            connect(client, "/letters")
    with pytest.raises(RuntimeError, match="not running"):
        connect(TestClient(application.app), "/ws")


def test_the_server_announces_and_passes_on(run_dir: Path) -> None:
    with TestClient(create_app()) as client:
        assert len(list(run_dir.rglob("*.ALIVE"))) == 1
        with client.websocket_connect("/ws") as first:
            assert first.receive_text() == 'Client "[testclient]:50000" connected.'
            with client.websocket_connect("/ws") as second:
                assert first.receive_text() == second.receive_text()
                second.send_text("hello")
                second.send_bytes(b"\x00")
                for each in (first, second):
                    assert each.receive_text() == "hello"
                    assert each.receive_bytes() == b"\x00"
            assert first.receive_text() == 'Client "[testclient]:50000" disconnected.'

    assert list(run_dir.rglob("*")) == []


def test_who_connects_is_looked_for_first_among_the_routes() -> None:
    """Routes are tried in order, and the server API has many."""
    first = Lastcall().router.routes[0]

    assert getattr(first, "path", "") == "/connection/websocket"
