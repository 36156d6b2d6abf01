"""Who may become a connection, and what the others are told."""

import threading
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from lastcall import BrokerUnavailable, Connection, Lastcall
from lastcall.broker.memory import MemoryBroker

pytestmark = pytest.mark.usefixtures("run_dir")


class Application:
    """One endpoint that accepts itself if asked, and what its clients said."""

    def __init__(self) -> None:
        self.lastcall = Lastcall(
            max_connections=2,
            max_message_size=10,
            max_backlog=1024,
            allowed_origins=("https://good.example",),
        )
        self.app = FastAPI(lifespan=self.lastcall.lifespan)
        self.app.websocket("/ws")(self.endpoint)
        self.app.websocket("/sdk")(self.sdk)
        self.lastcall.on_connect(self.connected)
        self.lastcall.on_disconnect(self.disconnected)
        self.codes: list[int] = []
        self.gone = threading.Event()
        self.greeting: str | bytes = b""

    async def endpoint(self, websocket: WebSocket, *, accept: bool = False) -> None:
        if accept:
            await websocket.accept()
        await self.lastcall.attach(websocket, channels=["news"])

    async def sdk(self, websocket: WebSocket, *, accept: bool = False) -> None:
        if accept:
            await websocket.accept()
        await self.lastcall.attach(websocket, protocol="centrifuge-json", subprotocol="one")

    def connected(self, connection: Connection) -> None:
        if self.greeting:
            connection.send(self.greeting)

    def disconnected(self, _connection: Connection, code: int) -> None:
        self.codes.append(code)
        self.gone.set()

    def holds_nothing(self) -> bool:
        worker = self.lastcall.now.worker
        return worker.hub.retain("news") and worker.connections.count_with_expected == 0


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def client(application: Application) -> Iterator[TestClient]:
    with TestClient(application.app) as client:
        yield client


@pytest.mark.parametrize(
    "origin", [None, "http://testserver", "https://good.example", "https://front.example"]
)
def test_a_page_of_a_known_origin_may(client: TestClient, origin: str | None) -> None:
    headers = {"origin": origin} if origin else {}
    with client.websocket_connect(
        "/ws", headers={**headers, "x-forwarded-host": "front.example"}
    ) as websocket:
        assert websocket.accepted_subprotocol is None


def test_a_foreign_page_may_not(application: Application, client: TestClient) -> None:
    """A close before the accept is status 403."""
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect("/ws", headers={"origin": "https://evil.example"}),
    ):
        pass

    assert refused.value.code == 1008
    assert not isinstance(refused.value, WebSocketDenialResponse)
    assert application.holds_nothing()


def test_a_full_worker_says_when_to_come_back(client: TestClient) -> None:
    with (
        client.websocket_connect("/ws"),
        client.websocket_connect("/ws"),
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/ws"),
    ):
        pass

    assert refused.value.status_code == 503
    assert int(refused.value.headers["retry-after"]) >= 1


def test_an_sdk_is_told_by_a_code_that_lets_it_wait(
    application: Application, client: TestClient
) -> None:
    with client.websocket_connect("/ws"), client.websocket_connect("/ws"):
        for accept in ("false", "true"):
            with client.websocket_connect(f"/sdk?accept={accept}", ["one"]) as third:
                assert third.accepted_subprotocol == (None if accept == "true" else "one")
                with pytest.raises(WebSocketDisconnect) as closed:
                    third.receive_text()
                assert (closed.value.code, closed.value.reason) == (3013, "too many requests")
        assert application.lastcall.now.worker.connections.count_with_expected == 2


@pytest.mark.parametrize(
    ("query", "offered", "agreed", "binary"),
    [
        ("", [], None, False),
        ("?format=json", [], None, False),
        ("?format=protobuf", [], None, True),
        ("?cf_protocol=protobuf", [], None, True),
        ("", ["soap", "centrifuge-protobuf", "centrifuge-json"], "centrifuge-protobuf", True),
        ("?format=protobuf", ["centrifuge-json"], "centrifuge-json", False),
        ("", ["soap"], None, False),
    ],
)
def test_an_sdk_says_whether_it_speaks_json_or_protobuf(
    query: str,
    offered: list[str],
    agreed: str | None,
    binary: bool,  # noqa: FBT001  (a column of the table)
) -> None:
    lastcall = Lastcall(insecure=True)
    app = FastAPI(lifespan=lastcall.lifespan)
    app.include_router(lastcall.router)
    url = f"/connection/websocket{query}"
    with TestClient(app) as client, client.websocket_connect(url, offered) as websocket:
        assert websocket.accepted_subprotocol == agreed
        if binary:
            websocket.send_bytes(b"\4\x08\1\x22\0")  # connect, with id 1
            assert websocket.receive_bytes()[1:3] == b"\x08\1"
        else:
            websocket.send_text('{"id":1,"connect":{}}')
            assert websocket.receive_text().startswith('{"id":1,')


def test_whom_the_application_accepted_is_closed_in_words(client: TestClient) -> None:
    """A status can no longer be sent."""
    with (
        client.websocket_connect("/ws"),
        client.websocket_connect("/ws"),
        client.websocket_connect("/ws?accept=true") as third,
    ):
        with pytest.raises(WebSocketDisconnect) as closed:
            third.receive_text()

        assert (closed.value.code, closed.value.reason) == (1013, "try again later")


def test_a_worker_without_a_broker_refuses(
    application: Application, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_broker: MemoryBroker, _channel: str) -> None:
        raise BrokerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBroker, "subscribe", away)
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws"):
            pass

    assert refused.value.status_code == 503
    assert application.holds_nothing()


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OSError, ValueError])
async def test_a_client_that_leaves_during_its_handshake_leaves_nothing_behind(
    application: Application, error: type[Exception]
) -> None:
    """The server says so by an OSError, which is no traceback's worth; other errors are."""
    async with application.lastcall.run(application.app):

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(_message: Message) -> None:
            raise error("gone")

        websocket = WebSocket(
            {"type": "websocket", "headers": [], "path": "/ws", "client": None}, receive, send
        )
        if error is OSError:
            await application.endpoint(websocket)
        else:
            with pytest.raises(error):
                await application.endpoint(websocket)

        assert application.holds_nothing()
        assert application.codes == []


@pytest.mark.parametrize("message", ["x" * 11, b"x" * 11, "é" * 6])
def test_a_message_that_is_too_big_ends_its_client_only(
    application: Application, client: TestClient, message: str | bytes
) -> None:
    with client.websocket_connect("/ws") as big, client.websocket_connect("/ws") as other:
        big.send_text("x" * 10)
        if isinstance(message, str):
            big.send_text(message)
        else:
            big.send_bytes(message)
        with pytest.raises(WebSocketDisconnect) as closed:
            big.receive_text()
        application.lastcall.publish_sync("news", "still here")

        assert other.receive_text() == "still here"
    assert (closed.value.code, closed.value.reason) == (1009, "message too big")


def test_text_that_is_not_utf8_ends_its_client(client: TestClient) -> None:
    with client.websocket_connect("/ws") as websocket:
        websocket.send_text("\ud800")
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()

    assert (closed.value.code, closed.value.reason) == (1007, "text is not valid UTF-8")


def test_a_greeting_larger_than_the_backlog_lets_the_client_go(
    application: Application, client: TestClient
) -> None:
    """It is sent in `on_connect`, before anything is read or written."""
    application.greeting = "x" * 1025
    with (
        client.websocket_connect("/ws") as websocket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        websocket.receive_text()

    assert (closed.value.code, closed.value.reason) == (3008, "slow")


def test_the_end_is_told_with_its_code(application: Application, client: TestClient) -> None:
    with client.websocket_connect("/ws") as websocket:
        websocket.close(4000)
        assert application.gone.wait(5)

    assert application.codes == [4000]
    assert application.holds_nothing()
