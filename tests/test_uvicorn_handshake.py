"""The opening handshake: which requests become WebSockets, and what the others are told."""

from http import HTTPStatus
from typing import Any

import pytest
from uvicorn.protocols.utils import ClientDisconnected
from websockets.http11 import Request
from websockets.server import ServerProtocol

from lastcall.uvicorn_handshake import Refusal, Upgrade, glued_bytes, read_request, response
from lastcall.uvicorn_websocket import UvicornWebSocket
from tests.uvicorn_host import END, HANDSHAKE, Received, detaching, hosting, raw_client

TARGET = b"GET /ws?a=b HTTP/1.1"


def test_request_of_a_client() -> None:
    """RFC 6455, 1.3 and 4.2; the answer to the key is the one that `websockets` gives."""
    offers = b"Sec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Protocol: three\r\n"
    offers += b"Sec-WebSocket-Extensions: other, permessage-deflate; client_max_window_bits\r\n"
    upgrade = read_request(HANDSHAKE + offers + END)

    assert isinstance(upgrade, Upgrade)
    assert upgrade.target == b"/ws?a=b"
    assert upgrade.accept == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert upgrade.subprotocols == ["one", "two", "three"]
    assert upgrade.compression() is not None
    assert upgrade.headers[0] == (b"host", b"here")


CHANGES = [
    (b"GET", b"POST", HTTPStatus.METHOD_NOT_ALLOWED),
    (b"HTTP/1.1", b"HTTP/1.0", HTTPStatus.BAD_REQUEST),
    (b"/ws", b"/\xff", HTTPStatus.BAD_REQUEST),
    (b"Upgrade: websocket", b"Upgrade: h2c", HTTPStatus.UPGRADE_REQUIRED),
    (b"Upgrade: websocket\r\n", b"", HTTPStatus.UPGRADE_REQUIRED),
    (b"Connection: Upgrade", b"Connection: keep-alive", HTTPStatus.UPGRADE_REQUIRED),
    (b"Version: 13", b"Version: 8", HTTPStatus.UPGRADE_REQUIRED),
    (b"Sec-WebSocket-Version: 13\r\n", b"", HTTPStatus.UPGRADE_REQUIRED),
    (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ==", HTTPStatus.BAD_REQUEST),
    (b"dGhlIHNhbXBsZSBub25jZQ==", b"not base64 at all!!!!!!!", HTTPStatus.BAD_REQUEST),
    (b"Sec-WebSocket-Key", b"X-Key", HTTPStatus.BAD_REQUEST),
    (b"Sec-WebSocket-Key:", b"Sec-WebSocket-Key: a\r\nSec-WebSocket-Key:", HTTPStatus.BAD_REQUEST),
    (b"Host: here", b"Host: " + b"x" * 16_384, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    (b"Host: here", b"a: b\r\n" * 128 + b"c: d", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    (b"/ws", b"/" + b"x" * 16_384, HTTPStatus.REQUEST_URI_TOO_LONG),
]


@pytest.mark.parametrize(("old", "new", "status"), CHANGES)
def test_requests_that_are_refused(old: bytes, new: bytes, status: HTTPStatus) -> None:
    assert old in HANDSHAKE
    refusal = read_request(HANDSHAKE.replace(old, new, 1) + END)

    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    assert refusal.response().startswith(b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b""),
        *((old, new) for old, new, status in CHANGES if len(new) < 1000 and status != 400),
    ],
)
def test_judged_as_by_websockets(old: bytes, new: bytes) -> None:
    """What `websockets` refuses we refuse, and the other way round; the codes may differ."""
    sent = HANDSHAKE.replace(old, new, 1) + END
    oracle = ServerProtocol()
    oracle.receive_data(sent)
    accepted = False
    for request in oracle.events_received():
        assert isinstance(request, Request)
        accepted = oracle.accept(request).status_code == HTTPStatus.SWITCHING_PROTOCOLS

    assert isinstance(read_request(sent), Upgrade) == accepted


def test_connection_may_have_other_options_too() -> None:
    sent = HANDSHAKE.replace(
        b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: X, upgrade"
    )

    assert isinstance(read_request(sent + END), Upgrade)


def test_nothing_is_glued_where_nothing_is_known() -> None:
    assert glued_bytes(object()) == b""


def test_response_ends_the_connection() -> None:
    headers = [(b"Connection", b"keep-alive"), (b"Content-Length", b"9"), (b"a", b"b")]

    assert response(799, headers, b"no") == (
        b"HTTP/1.1 799 \r\na: b\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
    )


@pytest.mark.anyio
@pytest.mark.parametrize("http", ["entrance", "httptools", "h11"])
async def test_long_header_is_answered(http: str) -> None:
    events = Received()
    sent = HANDSHAKE + b"Cookie: " + b"c" * 20_000 + b"\r\n" + END
    async with hosting(detaching(events), http=http) as host, raw_client(host, sent) as client:
        assert (await client.response()).startswith(b"HTTP/1.1 431 ")
        assert b"16384" in await client.rest()


@pytest.mark.anyio
async def test_plain_request_before_the_handshake() -> None:
    """A connection that was kept alive, whose first answer the client has not read yet."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 4_000_000})
        else:
            await websocket(scope, receive, send)

    events = Received()
    websocket = detaching(events, max_backlog=10_000_000)
    get = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    async with hosting(app) as host, raw_client(host, get, receive_buffer=4096) as client:
        assert b"200 OK" in await client.response()
        client.writer.write(HANDSHAKE + END)
        await host.until(lambda: hasattr(events, "transport"))
        assert events.transport.backlog > 0
        events.transport.write(b"\x81\x02hi")
        assert (await client.reader.readuntil(b"HTTP/1.1 101 ")).count(b"x") == 4_000_000
        await client.response()
        assert await client.frame() == (0x81, b"hi")


async def never_answers(_scope: Any, receive: Any, send: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    with pytest.raises(ClientDisconnected):
        await send({"type": "websocket.accept"})


@pytest.mark.anyio
async def test_handshake_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the application's fault it ends by a timer, at a stop at once."""
    async with hosting(never_answers) as host:
        async with raw_client(host) as client:
            await host.until(lambda: host.state.tasks)
            host.connection.shutdown()
            assert (await client.rest()).endswith(b"\r\n\r\nserver is shutting down\n")
        monkeypatch.setattr(UvicornWebSocket, "handshake_timeout", 0.1)
        async with raw_client(host) as client:
            assert (await client.response()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert await client.rest() == b"handshake timed out\n"


@pytest.mark.anyio
async def test_client_that_leaves_before_the_answer() -> None:
    async with hosting(never_answers) as host:
        async with raw_client(host, HANDSHAKE + END) as client:
            await host.until(lambda: host.state.tasks)
            client.writer.close()
        await host.empty()
