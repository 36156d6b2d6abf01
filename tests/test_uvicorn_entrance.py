"""Where clients come in: a handshake is read at once, everything else is uvicorn's untouched."""

import asyncio
from pathlib import Path
from typing import Any

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.asyncio.client import connect, unix_connect

from lastcall.protocol.base import Message
from lastcall.uvicorn_entrance import Entrance, install_entrance
from lastcall.uvicorn_handshake import Upgrade, read_packet, read_request
from lastcall.uvicorn_websocket import UvicornWebSocket, install
from tests.uvicorn_host import END, HANDSHAKE, TIMEOUT, Received, detaching, hosting, raw_client
from tests.websocket_bytes import FIN, frame

TEXT = FIN | 0x1
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


def test_handshake_of_one_packet_is_read_as_if_uvicorn_had_taken_it_apart() -> None:
    more = b'Sec-WebSocket-Protocol: one, two\r\nCookie: \t a=b; c="d"\t \r\nX-Empty:\r\n'
    sent = HANDSHAKE + more + END

    assert read_packet(sent + b"\x81\x80") == (read_request(sent), b"\x81\x80")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # What two parsers in a row might understand differently.
        (b"Host", b"Content-Length: 0\r\nHost"),
        (b"Host", b"Content-Length: 5\r\nHost"),
        (b"Host", b"Transfer-Encoding: chunked\r\nHost"),
        (b"Host", b"Expect: 100-continue\r\nHost"),
        (b"Host: here", b"Host: here\r\nHost: there"),
        (b"Host: here\r\n", b""),
        (b"Host: here", b"Host : here"),
        (b"Host: here", b"Host: here\r\n folded: line"),
        (b"Host: here", b"Host: here\r\n\tfolded"),
        (b"Host: here", b"Host: here\nX: y"),
        (b"Host: here", b"Host: here\rX: y"),
        (b"Host: here", b"Host: he\x00re"),
        (b"Host: here", b"Host: h\xc3\xa9re"),
        (b"Host: here", b"Host: here\r\n: nameless"),
        (b"Host: here", b"Host: here\r\nno colon"),
        (b"Host: here", b"Host: here\r\nNa me: x"),
        (b"Host: here", b"Host: here\r\nN\xc3\xa4me: x"),
        (b"Host: here", b"Host: here\r\n\r\nX: y"),
        (b"GET /ws", b"\r\nGET /ws"),
        (b"GET /ws", b" GET /ws"),
        (b"GET /ws", b"GET  /ws"),
        (b"GET /ws", b"GET\t/ws"),
        (b"GET /ws", b"get /ws"),
        (b"GET /ws", b"GET ws"),
        (b"GET /ws", b"GET http://here/ws"),
        (b"GET /ws", b"GET /ws#part"),
        (b"GET /ws", b"GET /w s"),
        (b"GET /ws", b"GET /w\x7fs"),
        (b"GET /ws", b'GET /"ws'),
        (b"GET /ws", b"GET /w\xc3\xa4s"),
        (b"GET", b"POST"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/1.1 "),
        (b"HTTP/1.1", b"HTTP/2.0"),
        (b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        # No handshake, or one that is refused: uvicorn's class knows what to do with either.
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Upgrade: websocket", b"Upgrade: websocket, h2c"),
        (b"Connection: Upgrade", b"Connection: keep-alive"),
        (b"Connection: Upgrade", b"Connection: Upgrade\r\nConnection: close"),
        (b"Version: 13", b"Version: 8"),
        (KEY, b"c2hvcnQ="),
        (KEY, KEY + b"\r\nSec-WebSocket-Key: " + KEY),
        # Too much to be looked at twice.
        (b"/ws", b"/" + b"x" * 16_384),
        (b"Host: here", b"Host: " + b"x" * 16_384),
        (b"Host: here", b"Host: here" + b"".join(b"\r\nx%d: y" % n for n in range(125))),
    ],
)
def test_whatever_is_in_doubt_is_left_to_uvicorn(old: bytes, new: bytes) -> None:
    assert old in HANDSHAKE
    sent = HANDSHAKE + END
    assert read_packet(sent) is not None

    assert read_packet(sent.replace(old, new, 1)) is None


@pytest.mark.parametrize("size", range(len(HANDSHAKE + END)))
def test_handshake_that_is_not_complete_is_left_to_uvicorn(size: int) -> None:
    assert read_packet((HANDSHAKE + END)[:size]) is None


class Httptools:
    """What uvicorn's class makes of a request with httptools."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def by_httptools(sent: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes] | None:
    """Target, headers, what follows; None if it is not an upgrade."""
    told = Httptools()
    parser = httptools.HttpRequestParser(told)
    try:
        parser.feed_data(sent)
    except httptools.HttpParserUpgrade as upgrade:
        headers = [(name, value.strip()) for name, value in told.headers]
        return told.url, headers, sent[upgrade.args[0] :]
    except httptools.HttpParserError:
        return None
    return None


def by_h11(sent: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes] | None:
    """The same with h11."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(request, h11.Request):
        return None
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    return request.target, list(request.headers), connection.trailing_data[0]


PIECES = st.sampled_from(
    [
        *(bytes((byte,)) for byte in range(256)),
        b"\r\n",
        b": ",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Host: there\r\n",
        b"X-Other: y\r\n",
        b"%2e%00",
        b"",
    ]
)


@given(
    changes=st.lists(st.tuples(st.integers(0, len(HANDSHAKE)), st.integers(0, 3), PIECES)),
    rest=st.binary(max_size=3),
)
def test_what_is_read_here_both_parsers_of_uvicorn_read_alike(
    changes: list[tuple[int, int, bytes]], rest: bytes
) -> None:
    """Handshakes with changes anywhere: ours may be stricter, never different."""
    sent = HANDSHAKE
    for place, removed, added in changes:
        sent = sent[:place] + added + sent[place + removed :]
    sent += END + rest

    found = read_packet(sent)

    if found is not None:
        upgrade, follows = found
        assert by_httptools(sent) == (upgrade.target, upgrade.headers, follows)
        assert by_h11(sent) == (upgrade.target, upgrade.headers, follows)
        whole = sent.removesuffix(follows) if follows else sent
        assert read_request(whole) == upgrade


def test_not_put_in_front_of_what_nobody_has_tried() -> None:
    """A class of the operator's own, for HTTP or for WebSockets, is used as it is."""
    operators: list[dict[str, Any]] = [{"http": H11Protocol}, {"ws": "wsproto"}, {"ws": "none"}]
    for own in operators:
        options = {"ws": UvicornWebSocket, "log_config": None, **own}
        config = Config(detaching(Received()), **options)
        config.load()
        before = config.http_protocol_class
        install_entrance(config)
        assert config.http_protocol_class is before


def test_put_in_front_of_uvicorns_own() -> None:
    for name in ("auto", "httptools", "h11"):
        config = Config(detaching(Received()), log_config=None, http=name)
        config.load()
        install(config)
        install_entrance(config)
        assert getattr(config.http_protocol_class, "func", None) is Entrance


async def tells_its_scope(scope: Any, receive: Any, send: Any) -> None:
    """Both kinds of request are answered with what the server says of them."""
    scopes.append(scope)
    if scope["type"] == "http":
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hi"})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "open"})
        await receive()


scopes: list[Any] = []


@pytest.mark.anyio
async def test_scope_is_the_same_whoever_reads_the_request() -> None:
    scopes.clear()
    for http in ("entrance", "httptools", "h11"):
        async with (
            hosting(tells_its_scope, http=http, root_path="/root") as host,
            connect(f"ws://127.0.0.1:{host.port}/a%20b?c=%20d") as client,
        ):
            assert await client.recv() == "open"
            assert scopes[-1]["server"] == ("127.0.0.1", host.port)
            assert scopes[-1]["client"] == client.local_address
    for scope in scopes:
        for its_own in ("server", "client", "extensions"):
            del scope[its_own]
        varying = (b"host", b"sec-websocket-key")
        scope["headers"] = [each for each in scope["headers"] if each[0] not in varying]
    assert scopes[0] == scopes[1] == scopes[2]
    assert scopes[0]["path"] == "/root/a b"
    assert scopes[0]["state"] == {"key": "value"}


@pytest.mark.anyio
async def test_http_and_websockets_on_one_connection() -> None:
    async with hosting(tells_its_scope) as host, raw_client(host, GET) as client:
        for _ in range(2):
            assert (await client.response()).startswith(b"HTTP/1.1 200 OK\r\n")
            assert await client.reader.readexactly(2) == b"hi"
            assert len(host.state.connections) == 1
            client.writer.write(GET)
        await client.response()
        await client.reader.readexactly(2)
        assert host.state.total_requests == 3
        client.writer.write(HANDSHAKE + END)
        assert (await client.response()).startswith(b"HTTP/1.1 101 ")
        assert await client.frame() == (TEXT, b"open")
        assert isinstance(host.connection, UvicornWebSocket)


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [1, 40, len(HANDSHAKE), len(HANDSHAKE) + 1])
async def test_handshake_in_two_packets(cut: int) -> None:
    events = Received()
    sent = HANDSHAKE + END + frame(TEXT, b"hello")
    async with hosting(detaching(events)) as host, raw_client(host, sent[:cut]) as client:
        await host.until(lambda: host.state.connections)
        await host.until(lambda: not any(isinstance(c, Entrance) for c in host.state.connections))
        client.writer.write(sent[cut:])
        assert (await client.response()).startswith(b"HTTP/1.1 101 ")
        await events.until(lambda e: e.messages == [Message(b"hello")])


@pytest.mark.anyio
async def test_client_that_says_nothing_is_counted_and_closed_at_a_stop() -> None:
    async with hosting(detaching(Received())) as host:
        async with raw_client(host, b"") as client:
            await host.until(lambda: host.state.connections)
            host.connection.shutdown()
            assert await client.rest() == b""
        async with raw_client(host, b""):
            await host.until(lambda: host.state.connections)
        await host.empty()


@pytest.mark.anyio
async def test_websockets_count_for_uvicorns_limit_of_concurrency() -> None:
    async with (
        hosting(tells_its_scope, limit_concurrency=2) as host,
        raw_client(host) as websocket,
    ):
        await websocket.response()
        async with raw_client(host, GET) as client:
            assert (await client.response()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.anyio
async def test_idle_http_connection_is_closed_by_uvicorns_time_out() -> None:
    async with (
        hosting(tells_its_scope, timeout_keep_alive=0) as host,
        raw_client(host, GET) as client,
    ):
        assert (await client.rest()).endswith(b"hi")


@pytest.mark.anyio
async def test_what_is_no_request_is_answered_by_uvicorn() -> None:
    async with hosting(tells_its_scope) as host, raw_client(host, b"\x16\x03\x01 TLS") as client:
        assert (await client.response()).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.anyio
async def test_long_header_is_refused_by_h11_as_the_operator_said() -> None:
    sent = HANDSHAKE + b"Cookie: " + b"c" * 3000
    async with (
        hosting(tells_its_scope, entrance_to="h11", h11_max_incomplete_event_size=2000) as host,
        raw_client(host, sent) as client,
    ):
        assert (await client.response()).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.anyio
async def test_flow_control_of_a_long_response_is_uvicorns() -> None:
    """Our limits of the write buffer do not stay behind on a connection that is not ours."""
    limits: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        (http,) = host.state.connections
        limits.append(http.transport.get_write_buffer_limits()[1])
        await tells_its_scope(scope, receive, send)

    async with hosting(app) as host, raw_client(host, GET) as client:
        await client.response()
    assert limits == [65_536]


@pytest.mark.anyio
async def test_application_that_waits_is_a_task_of_the_server() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await tells_its_scope(scope, receive, send)

    async with hosting(app) as host, raw_client(host) as client:
        await host.until(lambda: host.state.tasks)
        assert host.connection.due_step
        go_on.set()
        assert (await client.response()).startswith(b"HTTP/1.1 101 ")


@pytest.mark.anyio
async def test_application_runs_in_a_task_of_its_own() -> None:
    """Even where it needs not wait: libraries ask for the current task."""
    tasks: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
            group.create_task(tells_its_scope(scope, receive, send))

    async with hosting(app) as host, raw_client(host) as client:
        await client.response()
        assert tasks[0] in host.state.tasks


@pytest.mark.anyio
async def test_task_is_made_as_the_application_wants_tasks_made() -> None:
    made: list[Any] = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async with hosting(tells_its_scope) as host:
        asyncio.get_running_loop().set_task_factory(factory)
        async with raw_client(host) as client:
            await client.response()
        asyncio.get_running_loop().set_task_factory(None)
    assert "Endpoint.run" in made


@pytest.mark.anyio
async def test_client_on_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    scopes.clear()
    path = str(tmp_path / "s")
    async with hosting(tells_its_scope, uds=path), unix_connect(path) as client:
        assert await client.recv() == "open"
    assert scopes[0]["client"] is None
    assert scopes[0]["server"] == (path, None)


def test_upgrade_knows_its_headers_by_name() -> None:
    upgrade = read_request(HANDSHAKE + b"X: a\r\nx: b\r\n" + END)
    assert isinstance(upgrade, Upgrade)
    assert upgrade.values[b"x"] == b"a,b"
