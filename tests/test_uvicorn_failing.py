"""A client that breaks the protocol: what it said before is still answered, for a bounded time."""

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.utils import ClientDisconnected

from lastcall.uvicorn_websocket import UvicornWebSocket
from tests.uvicorn_host import Host, RawClient, Received, hosting, raw_client
from tests.websocket_bytes import FIN, frame

pytestmark = pytest.mark.anyio

MISTAKE = frame(FIN | 0x20 | 0x1, b"a reserved bit")
PING = frame(FIN | 0x9)
FAILED = (0x88, b"\x03\xeareserved bit is set")


class Answering:
    """An endpoint that waits for *go* before it answers each message."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0
        self.end: Any = None
        self.cut = False

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            self.asked += 1
            await self.go.wait()
            try:
                await self.answer(event["text"], send)
            except ClientDisconnected:
                self.cut = True
        self.end = event

    async def answer(self, text: str, send: Any) -> None:
        await send({"type": "websocket.send", "text": text})


async def say_and_mistake(host: Host, client: RawClient, *texts: bytes) -> None:
    """Return when the mistake has been read, and none of *texts* is answered."""
    client.writer.write(b"".join(frame(FIN | 0x1, text) for text in texts) + MISTAKE + PING)
    await client.response()
    endpoint: Any = host.connection._endpoint  # noqa: SLF001  (nobody else can tell)
    await host.until(lambda: endpoint.mistake)


async def test_what_came_before_a_mistake_is_answered() -> None:
    """The one message that the endpoint has, and the other that it has not asked for."""
    endpoint = Answering()
    async with hosting(endpoint) as host, raw_client(host) as client:
        await say_and_mistake(host, client, b"one", b"two")
        endpoint.go.set()
        assert [await client.frame() for _ in range(3)] == [(0x81, b"one"), (0x81, b"two"), FAILED]
        assert await client.rest() == b""
    assert endpoint.end == {
        "type": "websocket.disconnect",
        "code": 1002,
        "reason": "reserved bit is set",
    }
    assert not endpoint.cut


async def test_mistake_comes_at_once_where_all_is_answered() -> None:
    endpoint = Answering()
    endpoint.go.set()
    async with hosting(endpoint) as host, raw_client(host) as client:
        client.writer.write(frame(FIN | 0x1, b"one"))
        await client.response()
        assert await client.frame() == (0x81, b"one")
        client.writer.write(MISTAKE)
        assert await client.frame() == FAILED


async def test_endpoint_that_does_not_answer_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UvicornWebSocket, "close_timeout", 0.2)
    endpoint = Answering()
    async with hosting(endpoint) as host, raw_client(host) as client:
        await say_and_mistake(host, client, b"one")
        assert await client.frame() == FAILED
        assert await client.rest() == b""
        endpoint.go.set()
        await host.empty()
    assert endpoint.cut
    assert endpoint.end["code"] == 1002


class Leaving(Answering):
    """An endpoint whose answer is the end."""

    async def answer(self, text: str, send: Any) -> None:
        await send({"type": "websocket.close", "code": 4001, "reason": text})


async def test_endpoint_may_close_before_it_comes_to_the_mistake() -> None:
    endpoint = Leaving()
    async with hosting(endpoint) as host, raw_client(host) as client:
        await say_and_mistake(host, client, b"bye")
        endpoint.go.set()
        assert await client.frame() == (0x88, b"\x0f\xa1bye")
        assert await client.rest() == b""
    assert endpoint.end["code"] == 4001


async def test_server_that_stops_does_not_wait() -> None:
    endpoint = Answering()
    async with hosting(endpoint) as host, raw_client(host) as client:
        await say_and_mistake(host, client, b"one")
        host.connection.shutdown()
        assert await client.frame() == (0x88, b"\x03\xf4server is shutting down")
        assert await client.rest() == b""
        endpoint.go.set()


async def test_client_that_ends_its_half_is_told_at_once() -> None:
    endpoint = Answering()
    async with hosting(endpoint) as host, raw_client(host) as client:
        await say_and_mistake(host, client, b"one")
        client.writer.write_eof()
        assert await client.frame() == FAILED
        endpoint.go.set()


async def test_detach_behind_a_mistake_brings_what_came_before_and_the_end() -> None:
    events = Received()
    go = asyncio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await go.wait()
        detach = scope["extensions"]["lastcall.detach"]
        events.transport = detach(events, max_backlog=1000, max_message_size=1000)

    async with hosting(app) as host, raw_client(host) as client:
        await say_and_mistake(host, client, b"one")
        go.set()
        assert await client.frame() == FAILED
        await events.until(lambda events: events.ends)
    assert [message.data for message in events.messages] == [b"one"]
    assert events.ends == [1002]
