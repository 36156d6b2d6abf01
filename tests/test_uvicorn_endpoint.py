"""Ordinary ASGI endpoints on our WebSocket class: what they get is what uvicorn gives them."""

import asyncio
import logging
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.responses import PlainTextResponse
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from lastcall.uvicorn_websocket import UvicornWebSocket
from tests.uvicorn_host import hosting, raw_client
from tests.websocket_bytes import FIN, frame

pytestmark = pytest.mark.anyio

fastapi = FastAPI()


def refused() -> None:
    raise WebSocketException(1008, "not you")


@fastapi.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            event = await websocket.receive()
            if event["type"] == "websocket.disconnect":
                return
            if event.get("bytes") is not None:
                await websocket.send_bytes(event["bytes"])
            else:
                await websocket.send_text(event["text"])
    except WebSocketDisconnect:
        return


@fastapi.websocket("/denied")
async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("no, not you", 418, {"x-why": "tea"}))


@fastapi.websocket("/dependency")
async def dependency(websocket: WebSocket, _: Annotated[None, Depends(refused)]) -> None:
    await websocket.accept()


@fastapi.websocket("/json")
async def json(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="two", headers=[(b"x-extra", b"1")])
    await websocket.send_json(
        {
            "url": str(websocket.url),
            "state": websocket.state.key,
            "offered": websocket.scope["subprotocols"],
            "agent": websocket.headers["user-agent"],
            "client": websocket.client is not None,
            "versions": [websocket.scope["asgi"]["spec_version"], websocket.scope["http_version"]],
        }
    )
    await websocket.close(4001, "that was all")


@pytest.mark.parametrize("http", ["entrance", "httptools", "h11"])
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_echo_of_any_size(http: str, compression: str | None) -> None:
    async with (
        hosting(fastapi, http=http) as host,
        connect(host.url + "/echo", compression=compression) as client,
    ):
        for message in ("", "hello", "é" * 70, b"", b"\xff\x00", b"x" * 65_536, "word " * 200_000):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["frag", "men", "ted"])
        assert await client.recv() == "fragmented"


async def test_many_messages_at_once_come_back_in_order() -> None:
    async with hosting(fastapi) as host, connect(host.url + "/echo") as client:

        async def send() -> None:
            for number in range(3000):
                await client.send(str(number))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            for number in range(3000):
                assert await client.recv() == str(number)


@pytest.mark.parametrize("http", ["entrance", "httptools", "h11"])
async def test_scope_subprotocol_headers_and_close(http: str) -> None:
    async with hosting(fastapi, http=http) as host:
        offered = [Subprotocol("one"), Subprotocol("two")]
        async with connect(
            host.url + "/json?a=%20b", subprotocols=offered, user_agent_header="tests"
        ) as client:
            assert client.subprotocol == "two"
            assert client.response is not None
            assert client.response.headers["x-extra"] == "1"
            assert client.response.headers["server"] == "uvicorn"
            assert await client.recv() == (
                f'{{"url":"{host.url}/json?a=%20b","state":"value","offered":["one","two"],'
                '"agent":"tests","client":true,"versions":["2.4","1.1"]}'
            )
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "that was all")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/denied", 418, b"no, not you"), ("/dependency", 403, b""), ("/nowhere", 403, b"")],
)
async def test_refusals(path: str, status: int, body: bytes) -> None:
    async with hosting(fastapi) as host:
        with pytest.raises(InvalidStatus) as refusal:
            await connect(host.url + path).__aenter__()

        assert refusal.value.response.status_code == status
        assert refusal.value.response.body == body


class Recorder:
    """An endpoint that accepts, waits for *go*, and keeps all events."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.go = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await self.go.wait()
        while not self.events or self.events[-1]["type"] != "websocket.disconnect":
            self.events.append(await receive())
        assert await receive() == self.events[-1]
        try:
            await send({"type": "websocket.send", "text": "late"})
        except OSError as error:
            self.error = error
            raise


@pytest.mark.parametrize(
    ("sent", "code", "reason", "answer"),
    [
        (frame(FIN | 0x8, b"\x0f\xa0bye"), 4000, "bye", b"\x88\x02\x0f\xa0"),
        (frame(FIN | 0x8), 1005, "", b"\x88\x00"),
        (frame(FIN | 0x1, b"\xff"), 1007, "text is not valid UTF-8", None),
        (frame(FIN | 0x2, b"a" * 1001), 1009, "message too big", None),
        (b"\x81\x01a", 1002, "frame is not masked", None),
    ],
)
async def test_how_a_client_ends(
    sent: bytes, code: int, reason: str, answer: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    endpoint = Recorder()
    async with hosting(endpoint, ws_max_size=1000) as host, raw_client(host) as client:
        await client.response()
        client.writer.write(frame(FIN | 0x1, b"first") + sent + b"never read")
        endpoint.go.set()
        said = code.to_bytes(2) + reason.encode()
        assert await client.rest() == (answer or bytes((0x88, len(said))) + said)
    assert endpoint.events == [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "first"},
        {"type": "websocket.disconnect", "code": code, "reason": reason},
    ]
    assert isinstance(endpoint.error, OSError)
    assert not caplog.records


async def test_client_that_is_cut_off() -> None:
    endpoint = Recorder()
    async with hosting(endpoint) as host:
        async with raw_client(host) as client:
            await client.response()
        endpoint.go.set()
        await host.empty()
    assert endpoint.events[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def test_endpoint_that_falls_behind_stops_the_client() -> None:
    """Little is read ahead; all of it is there, in order, when the endpoint goes on."""
    endpoint = Recorder()
    async with hosting(endpoint) as host, raw_client(host) as client:
        await client.response()
        count = 20_000
        client.writer.write(
            b"".join(frame(FIN | 0x1, b"%06d" % number * 20) for number in range(count))
        )
        tcp: Any = host.connection._tcp  # noqa: SLF001  (nobody else can tell)
        await host.until(lambda: not tcp.is_reading())
        endpoint.go.set()
        client.writer.write(frame(FIN | 0x8))
        await client.rest()
    texts = [event["text"] for event in endpoint.events[1:-1]]
    assert texts == [f"{number:06}" * 20 for number in range(count)]


async def test_endpoint_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "websocket.accept"})
        for _ in range(400):
            await send({"type": "websocket.send", "bytes": b"x" * 100_000})
            sent += 1

    async with hosting(app) as host, raw_client(host, receive_buffer=4096) as client:
        await client.response()
        await host.until(lambda: host.connection.backlog)
        assert sent < 400
        assert host.connection.backlog <= 300_000
        for _ in range(400):
            assert await client.frame() == (0x82, b"x" * 100_000)
        assert await client.frame() == (0x88, b"\x03\xe8")


@pytest.mark.parametrize("on", [True, False])
async def test_access_log(on: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001  (a case)
    caplog.set_level(logging.INFO)
    async with hosting(fastapi, access_log=on) as host:
        async with connect(host.url + "/echo?a=b") as client:
            port = client.local_address[1]
        with pytest.raises(InvalidStatus):
            await connect(host.url + "/denied").__aenter__()
    lines = [
        m for r, m in zip(caplog.records, caplog.messages, strict=True) if r.name == "uvicorn.error"
    ]
    if on:
        assert lines[0] == f'127.0.0.1:{port} - "WebSocket /echo?a=b" [accepted]'
        assert lines[1].endswith('"WebSocket /denied" 418')
    else:
        assert lines == []


async def test_server_that_stops_tells_the_endpoint_and_the_client() -> None:
    endpoint = Recorder()
    endpoint.go.set()
    async with hosting(endpoint) as host, raw_client(host) as client:
        await client.response()
        host.connection.shutdown()
        assert await client.frame() == (0x88, b"\x03\xf4server is shutting down")
        client.writer.write(frame(FIN | 0x8, b"\x03\xf4"))
        assert await client.rest() == b""
    assert endpoint.events[-1] == {
        "type": "websocket.disconnect",
        "code": 1012,
        "reason": "server is shutting down",
    }


async def test_server_may_stop_while_the_close_of_an_endpoint_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The endpoint is done; that is no reason for the server to stumble over it."""
    monkeypatch.setattr(UvicornWebSocket, "on_server_shutdown", lambda _: False)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async with hosting(app) as host, raw_client(host) as client:
        await client.response()
        assert await client.frame() == (0x88, b"\x03\xe8")
        await host.until(lambda: not host.state.tasks)
        host.connection.shutdown()
        client.writer.write(frame(FIN | 0x8, b"\x03\xe8"))
        assert await client.rest() == b""


async def test_endpoint_that_is_cancelled() -> None:
    """As uvicorn does when its graceful shutdown takes too long."""
    async with hosting(Recorder()) as host, raw_client(host) as client:
        await client.response()
        for task in host.state.tasks:
            task.cancel()
        assert await client.frame() == (0x88, b"\x03\xf4server is shutting down")


async def denies_in_parts(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"a", b"b")]})
    await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"you"})


async def test_denial_in_parts() -> None:
    async with hosting(denies_in_parts) as host, raw_client(host) as client:
        head = await client.response()
        assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\na: b\r\ncontent-length: 7\r\n" in head
        assert await client.rest() == b"not you"


async def test_what_arrives_before_the_answer_is_bounded() -> None:
    go = asyncio.Event()
    endpoint = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await endpoint(scope, receive, send)

    endpoint.go.set()
    async with hosting(app) as host, raw_client(host) as client:
        client.writer.write(frame(FIN | 0x2, b"x" * 10_000) * 800 + frame(FIN | 0x8))
        await host.until(lambda: host.state.tasks)
        tcp: Any = host.connection._tcp  # noqa: SLF001  (nobody else can tell)
        await host.until(lambda: not tcp.is_reading())
        go.set()
        await client.rest()
    assert len(endpoint.events) == 802


async def test_answer_to_a_client_that_has_gone_changes_nothing() -> None:
    answered: list[BaseException] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await host.until(lambda: not host.state.connections)
        with pytest.raises(ClientDisconnected) as lost:
            await send({"type": "websocket.accept"})
        answered.append(lost.value)

    async with hosting(app) as host:
        async with raw_client(host):
            await host.until(lambda: host.state.tasks)
        await host.empty()
    assert len(answered) == 1
