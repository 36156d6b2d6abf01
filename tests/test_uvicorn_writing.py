"""What happens to frames that a client does not read at once."""

import asyncio
import os
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from lastcall.protocol.base import Message
from lastcall.uvicorn_websocket import UvicornWebSocket
from tests.certificates import make_certificate
from tests.uvicorn_host import END, HANDSHAKE, RawClient, Received, detaching, hosting, raw_client
from tests.websocket_bytes import FIN, frame

pytestmark = pytest.mark.anyio

TEXT, CLOSE, PING = FIN | 0x1, FIN | 0x8, FIN | 0x9

FRAME = b"\x82\x7f" + (100_000).to_bytes(8) + bytes(100_000)


async def test_slow_client_is_let_go_at_the_limit() -> None:
    """Its backlog never passes the limit; whole frames arrive, then 3008."""
    events = Received()
    async with (
        hosting(detaching(events, max_backlog=1_000_000)) as host,
        raw_client(host, receive_buffer=4096) as client,
    ):
        await client.response()
        await events.until(lambda _: hasattr(events, "transport"))
        transport = events.transport
        written = 0
        while not events.overflows:
            assert transport.backlog <= 1_100_000
            transport.write(FRAME)
            written += 1
            assert written < 1000
        transport.write(FRAME)
        assert events.overflows == 1
        assert transport.backlog < 101_000  # the rest of one frame, and the close frame

        received = 0
        while (await client.frame()) == (0x82, bytes(100_000)):
            received += 1
        assert 0 < received < written
        client.writer.write(frame(CLOSE, b"\x0b\xc0"))
        await events.until(lambda e: e.ends)
    assert events.ends == [3008]


async def test_backlog_leaves_in_order_when_the_client_reads_again() -> None:
    events = Received()
    async with (
        hosting(detaching(events, max_backlog=50_000_000)) as host,
        raw_client(host, receive_buffer=4096) as client,
    ):
        await client.response()
        await events.until(lambda _: hasattr(events, "transport"))
        transport = events.transport
        for number in range(300):
            payload = b"%d " % number * 5000
            transport.write(transport.framing.frame([Message(payload, binary=True)]))
        assert transport.backlog > 1_000_000
        transport.close(1001, "")
        for number in range(300):
            assert await client.frame() == (0x82, b"%d " % number * 5000)
        assert await client.frame() == (0x88, b"\x03\xe9")
    assert events.ends == [1001]


@pytest.mark.parametrize("answer", [frame(CLOSE, b"\x03\xe9"), b"nonsense"])
async def test_slow_client_that_ends_while_we_close(answer: bytes) -> None:
    """It gets no more than the frame that it was getting, and our close frame."""
    events = Received()
    async with (
        hosting(detaching(events, max_backlog=50_000_000)) as host,
        raw_client(host, receive_buffer=4096) as client,
    ):
        await client.response()
        await host.until(lambda: hasattr(events, "transport"))
        for _ in range(200):
            events.transport.write(FRAME)
        events.transport.close(1001, "")
        client.writer.write(answer)
        await events.until(lambda e: e.ends)
        if answer != b"nonsense":
            received = 0
            while (await client.frame()) == (0x82, bytes(100_000)):
                received += 1
            assert 0 < received < 200
            assert await client.rest() == b""
    assert events.ends == [1001]


async def test_client_that_sends_pings_and_never_reads_is_not_read_either() -> None:
    """Our pongs do not drain, so no more than a few are ever made."""
    events = Received()
    async with (
        hosting(detaching(events)) as host,
        raw_client(host, receive_buffer=4096) as client,
    ):
        await client.response()
        pings = frame(PING, b"p" * 125) * 1000
        await host.until(lambda: hasattr(events, "transport"))
        tcp: Any = host.connection._tcp  # noqa: SLF001  (nobody else can tell)
        while tcp.is_reading():
            client.writer.write(pings)
            await asyncio.sleep(0)
        assert 0 < events.transport.backlog < 500_000
        client.writer.write(frame(TEXT, b"after all pings"))

        async def read() -> None:
            while await client.reader.read(65_536):
                pass

        reading = asyncio.create_task(read())
        await events.until(lambda e: e.messages)
        client.writer.write(frame(CLOSE))
        await reading
    assert events.ends == [1005]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


async def test_tls(certificate: tuple[Path, Path]) -> None:
    """All writes go through the loop; a client that is slow gets all of it, in order."""
    cert, key = certificate
    events = Received()
    trusting = ssl.create_default_context(cafile=cert)
    app = detaching(events, max_backlog=50_000_000)
    async with (
        hosting(app, ssl_certfile=cert, ssl_keyfile=key) as host,
        connect(host.url.replace("ws:", "wss:"), ssl=trusting, max_size=None) as client,
    ):
        await client.send("hello")
        await events.until(lambda e: e.messages == [Message(b"hello")])
        transport = events.transport
        assert not transport.movable
        for number in range(200):
            payload = os.urandom(4) * 10_000 + b"%d" % number
            transport.write(transport.framing.frame([Message(payload, binary=True)]))
        for number in range(200):
            received = await client.recv()
            assert received[40_000:] == b"%d" % number
        transport.close(1000, "")
        await client.wait_closed()
        await host.empty()
    assert events.ends == [1000]


async def test_direct_writes_never_overtake() -> None:
    """The 101 is first, whatever is written in the same turn."""
    events = Received()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        detach = scope["extensions"]["lastcall.detach"]
        transport = detach(events, max_backlog=1_000_000, max_message_size=1000)
        assert transport.movable
        for number in range(10):
            transport.write(b"\x81\x01%d" % number)

    async with hosting(app) as host, raw_client(host) as client:
        assert (await client.response()).startswith(b"HTTP/1.1 101 ")
        for number in range(10):
            assert await client.frame() == (0x81, b"%d" % number)


async def test_mistakes_under_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    events = Received()
    trusting = ssl.create_default_context(cafile=cert)
    async with hosting(detaching(events), ssl_certfile=cert, ssl_keyfile=key) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port, ssl=trusting)
        client = RawClient(reader, writer)
        writer.write(HANDSHAKE + END)
        await client.response()
        writer.write(b"\x81\x01a")
        assert await client.frame() == (0x88, b"\x03\xeaframe is not masked")
        assert await client.rest() == b""
        writer.close()
    assert events.ends == [1002]


@pytest.mark.parametrize("end", ["close", "reset", "abort", "close frame"])
async def test_descriptor_is_ours_until_we_are_told(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a direct write could reach whoever was given the same number next."""
    events = Received()
    still_open: list[bool] = []
    original = UvicornWebSocket.connection_lost

    def connection_lost(connection: UvicornWebSocket, error: Exception | None) -> None:
        still_open.append(os.fstat(connection._fd).st_ino == socket_of_server)  # noqa: SLF001  (the point)
        original(connection, error)
        assert connection._fd == -1  # noqa: SLF001  (the point)

    monkeypatch.setattr(UvicornWebSocket, "connection_lost", connection_lost)
    async with hosting(detaching(events)) as host, raw_client(host) as client:
        await host.until(lambda: hasattr(events, "transport"))
        socket_of_server = os.fstat(host.connection._fd).st_ino  # noqa: SLF001  (the point)
        if end == "close":
            client.writer.close()
        elif end == "close frame":
            client.writer.write(frame(CLOSE))
        elif end == "abort":
            events.transport.abort()
        else:
            linger = struct.pack("ii", 1, 0)
            client.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            client.writer.transport.abort()
        await host.empty()
    assert still_open == [True]
