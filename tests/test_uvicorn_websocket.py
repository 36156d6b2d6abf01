"""The fast transport: what a detached connection does for a real client on a real socket."""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from lastcall.protocol.base import Message
from lastcall.uvicorn_websocket import UvicornWebSocket, install
from tests.uvicorn_host import (
    END,
    HANDSHAKE,
    Host,
    Received,
    detaching,
    hosting,
    raw_client,
)
from tests.websocket_bytes import FIN, frame

pytestmark = pytest.mark.anyio

TEXT, BINARY, CLOSE, PING = FIN | 0x1, FIN | 0x2, FIN | 0x8, FIN | 0x9


@pytest.mark.parametrize("http", ["entrance", "httptools", "h11"])
async def test_what_is_glued_to_the_handshake_arrives(http: str) -> None:
    """Frames in the packet of the request, cut anywhere, are received after the detach."""
    events = Received()
    frames = frame(TEXT, b"one") + frame(TEXT, b"two")
    async with (
        hosting(detaching(events), http=http) as host,
        raw_client(host, HANDSHAKE + END + frames[:12]) as client,
    ):
        await events.until(lambda e: e.messages)
        client.writer.write(frames[12:])
        await events.until(lambda e: len(e.messages) == 2)

    assert events.messages == [Message(b"one"), Message(b"two")]
    assert len(events.ends) == 1


async def test_nothing_is_delivered_inside_the_call_that_detaches() -> None:
    """Not even what an endpoint has let queue up; then all of it, in order."""
    events = Received()
    numbers = [b"%d" % number for number in range(100)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        assert await receive() == {"type": "websocket.receive", "text": "0"}
        endpoint: Any = host.connection._endpoint  # noqa: SLF001  (nobody else can tell)
        await host.until(lambda: len(endpoint._messages) == 31)  # noqa: SLF001  (the same)
        detach = scope["extensions"]["lastcall.detach"]
        events.transport = detach(events, max_backlog=1000, max_message_size=1000)
        assert events.messages == []
        with pytest.raises(RuntimeError, match="detached"):
            await receive()
        with pytest.raises(RuntimeError, match="detached"):
            await send({"type": "websocket.send", "text": "?"})
        with pytest.raises(RuntimeError, match="detached"):
            detach(events, max_backlog=1000, max_message_size=1000)

    async with hosting(app) as host, raw_client(host) as client:
        client.writer.write(b"".join(frame(TEXT, number) for number in numbers))
        await events.until(lambda e: len(e.messages) == 99)
    assert [message.data for message in events.messages] == numbers[1:]


def detaching_late(events: Received, host: Callable[[], Host], count: int) -> Any:
    """An application that detaches when it has *count* messages that it did not receive."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        endpoint: Any = host().connection._endpoint  # noqa: SLF001  (nobody else can tell)
        await host().until(lambda: len(endpoint._messages) == count)  # noqa: SLF001  (the same)
        detach = scope["extensions"]["lastcall.detach"]
        events.transport = detach(events, max_backlog=1000, max_message_size=10)

    return app


async def test_pause_holds_for_what_came_before_the_detach_too() -> None:
    events = Received()
    events.on_message = lambda _: events.transport.pause()
    async with (
        hosting(detaching_late(events, lambda: host, 3)) as host,
        raw_client(host) as client,
    ):
        client.writer.write(b"".join(frame(TEXT, b"%d" % n) for n in range(3)))
        for count in range(1, 4):
            await events.until(lambda e: len(e.messages) >= count)  # noqa: B023  (called here only)
            assert len(events.messages) == count
            events.transport.resume()
        client.writer.write(frame(TEXT, b"3"))
        await events.until(lambda e: len(e.messages) == 4)
    assert [message.data for message in events.messages] == [b"0", b"1", b"2", b"3"]


async def test_limit_of_the_detach_holds_for_what_came_before() -> None:
    events = Received()
    async with (
        hosting(detaching_late(events, lambda: host, 3)) as host,
        raw_client(host) as client,
    ):
        client.writer.write(b"".join(frame(TEXT, b"x" * size) for size in (10, 11, 1)))
        await client.response()
        assert await client.frame() == (0x88, b"\x03\xf1message too big")
    assert (events.messages, events.ends) == ([Message(b"x" * 10)], [1009])


async def test_pause_holds_from_the_next_message_on() -> None:
    events = Received()
    events.on_message = lambda _: events.transport.pause()
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        client.writer.write(b"".join(frame(TEXT, b"%d" % n) for n in range(5)))
        for count in range(1, 6):
            await events.until(lambda e: len(e.messages) >= count)  # noqa: B023  (called here only)
            assert len(events.messages) == count
            events.transport.resume()
            assert len(events.messages) == count
    assert [message.data for message in events.messages] == [b"0", b"1", b"2", b"3", b"4"]


async def test_detach_of_a_connection_that_has_ended() -> None:
    events = Received()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await host.until(lambda: not host.state.connections)
        scope["extensions"]["lastcall.detach"](events, max_backlog=1, max_message_size=9)
        assert events.ends == []

    async with hosting(app) as host, raw_client(host) as client:
        client.writer.write(frame(TEXT, b"last words") + frame(CLOSE, b"\x0f\xa0"))
        await events.until(lambda e: e.ends)

    assert (events.messages, events.ends) == ([Message(b"last words")], [4000])


@pytest.mark.parametrize(
    ("sent", "code", "answer"),
    [
        (frame(CLOSE, b"\x0f\xa0bye"), 4000, b"\x88\x02\x0f\xa0"),
        (frame(CLOSE), 1005, b"\x88\x00"),
        (frame(TEXT, b"a" * 1001), 1009, b"\x88\x11\x03\xf1message too big"),
        (frame(TEXT, b"\xff"), 1007, b"\x88\x19\x03\xeftext is not valid UTF-8"),
        (b"\x81\x01a", 1002, b"\x88\x15\x03\xeaframe is not masked"),
    ],
)
async def test_how_a_client_ends(
    sent: bytes, code: int, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered, and what it sends after a mistake is read and thrown away."""
    caplog.set_level(logging.WARNING)
    events = Received()
    async with (
        hosting(detaching(events, max_message_size=1000)) as host,
        raw_client(host) as client,
    ):
        await client.response()
        client.writer.write(sent)
        if code in {1002, 1007, 1009}:
            client.writer.write(os.urandom(100_000))
        assert await client.rest() == answer
    assert events.ends == [code]
    assert events.messages == []
    assert not caplog.records


async def test_abrupt_reset(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    events = Received()
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        await client.response()
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        while not events.ends:
            events.transport.write(b"\x81\x01a")
            await asyncio.sleep(0)
        await host.empty()
        events.transport.write(b"\x81\x01a")
        events.transport.close(1000, "too late")
        events.transport.abort()
        assert events.transport.backlog == 0
    assert events.ends == [1006]
    assert not caplog.records


async def test_close_waits_for_the_clients_answer() -> None:
    events = Received()
    events.on_message = lambda _: events.transport.close(3000, "come back")
    async with hosting(detaching(events)) as host, connect(host.url) as client:
        await client.send("close me")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        await host.empty()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3000, "come back")
    assert events.ends == [3000]


async def test_close_reads_on_through_a_pause() -> None:
    """Messages before the client's close frame are dropped, not waited for."""
    events = Received()
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        await client.response()
        await events.until(lambda _: hasattr(events, "transport"))
        events.transport.pause()
        client.writer.write(frame(TEXT, b"x" * 60_000) * 4 + frame(CLOSE, b"\x03\xe8"))
        events.transport.close(1000, "")
        events.transport.close(4000, "a second call is ignored")
        assert await client.rest() == b"\x88\x02\x03\xe8"
    assert (events.messages, events.ends) == ([], [1000])


async def test_client_that_does_not_answer_a_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UvicornWebSocket, "close_timeout", 0.2)
    events = Received()
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        await client.response()
        host.connection.close(1000, "")
        assert await client.rest() == b"\x88\x02\x03\xe8"
        await host.empty()
    assert events.ends == [1000]


async def test_pings_are_answered_with_their_data() -> None:
    events = Received()
    async with hosting(detaching(events)) as host, connect(host.url) as client:
        await (await client.ping(b"are you there"))
        await (await client.ping())


@pytest.mark.parametrize("sent", [b"", frame(FIN | 0xA), frame(TEXT, b"hello")])
async def test_keepalive(sent: bytes) -> None:
    """A client that answers or says anything else lives; a silent one ends with 1011."""
    events = Received()
    async with (
        hosting(detaching(events), ws_ping_interval=0.1, ws_ping_timeout=0.2) as host,
        raw_client(host) as client,
    ):
        await client.response()
        for _ in range(2 if sent else 0):
            assert await client.frame() == (0x89, b"")
            client.writer.write(sent)
        assert await client.frame() == (0x89, b"")
        assert await client.frame() == (0x88, b"\x03\xf3keepalive ping timeout")
    assert events.ends == [1011]


async def test_keepalive_that_is_switched_off() -> None:
    events = Received()
    async with hosting(detaching(events), ws_ping_interval=0) as host, raw_client(host) as client:
        await client.response()
        assert host.connection.due_step == 0


async def test_uvicorns_shutdown_may_be_left_to_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[UvicornWebSocket] = []

    def hook(connection: UvicornWebSocket) -> bool:
        asked.append(connection)
        return len(asked) == 1

    monkeypatch.setattr(UvicornWebSocket, "on_server_shutdown", hook)
    events = Received()
    async with hosting(detaching(events)) as host, connect(host.url) as client:
        await host.until(lambda: hasattr(events, "transport"))
        connection = host.connection
        connection.shutdown()
        connection.write(b"\x81\x02hi")
        assert await client.recv() == "hi"
        connection.shutdown()
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert asked == [connection, connection]
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "server is shutting down")


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_framing_is_what_was_negotiated(compression: str | None) -> None:
    events = Received()
    async with (
        hosting(detaching(events)) as host,
        connect(host.url, compression=compression) as client,
    ):
        await host.until(lambda: hasattr(events, "transport"))
        framing = events.transport.framing
        assert framing.name == ("websocket-deflate" if compression else "websocket")
        message = Message(b"word " * 1000)
        events.transport.write(framing.frame([message, Message(b"small")]))
        assert [await client.recv(decode=False), await client.recv()] == [message.data, "small"]
        await client.send(message.data.decode())
        await events.until(lambda e: e.messages == [message])


async def test_compression_that_is_switched_off() -> None:
    events = Received()
    async with (
        hosting(detaching(events), ws_per_message_deflate=False) as host,
        connect(host.url) as client,
    ):
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


def test_install() -> None:
    class Config:
        ws_protocol_class: Any = None

    config: Any = Config()
    install(config)
    assert config.ws_protocol_class is UvicornWebSocket
