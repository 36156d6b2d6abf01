"""The transport that every ASGI server can give: it queues, it is bounded, it ends once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from starlette.types import Message as AsgiMessage
from starlette.websockets import WebSocket

from lastcall.protocol.base import Message
from lastcall.transport import asgi_websocket
from lastcall.transport.asgi_websocket import AsgiWebSocket

pytestmark = pytest.mark.anyio


class Server:
    """An ASGI server with one WebSocket, and the connection's side of its transport."""

    def __init__(self) -> None:
        self.sent: list[AsgiMessage] = []
        self.heard: list[Message] = []
        self.ends: list[int] = []
        self.overflows = 0
        self.takes = anyio.Event()
        self.takes.set()
        self.error: Exception | None = None
        self._inbox, self._arriving = anyio.create_memory_object_stream[AsgiMessage](100)
        websocket = WebSocket({"type": "websocket", "headers": []}, self._receive, self._send)
        self.websocket = websocket
        self.transport = AsgiWebSocket(websocket, self, max_backlog=10, max_message_size=5)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[AsgiWebSocket]:
        """Serve; has to be over by itself soon after the block is left."""
        with anyio.fail_after(5), self._inbox, self._arriving:
            self.arrive({"type": "websocket.connect"})
            await self.websocket.accept()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.transport.serve)
                yield self.transport
        assert len(self.ends) == 1

    def arrive(self, *events: AsgiMessage) -> None:
        for event in events:
            self._inbox.send_nowait(event)

    def leave(self, code: int | None = 1000) -> None:
        self.arrive({"type": "websocket.disconnect", "code": code})

    @property
    def written(self) -> list[str | bytes]:
        return [
            event.get("text") or event["bytes"]
            for event in self.sent
            if event["type"] == "websocket.send"
        ]

    def received(self, message: Message, /) -> None:
        self.heard.append(message)

    def overflowed(self) -> None:
        self.overflows += 1
        self.transport.close(3008, "slow", discard=True)

    def ended(self, code: int) -> None:
        self.ends.append(code)

    async def _receive(self) -> AsgiMessage:
        return await self._arriving.receive()

    async def _send(self, message: AsgiMessage) -> None:
        self.sent.append(message)
        await self.takes.wait()
        if self.error is not None and message["type"] != "websocket.accept":
            raise self.error


def text(data: str) -> AsgiMessage:
    return {"type": "websocket.receive", "text": data}


async def turns() -> None:
    """Let the reader and the writer do what they can."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_messages_go_both_ways_in_order() -> None:
    server = Server()
    async with server.serving() as transport:
        transport.write((Message(b"one"), Message(b"two", binary=True)))
        transport.write((Message(b"3"),))
        server.arrive(text("a"), {"type": "websocket.receive", "bytes": b"b", "text": None})
        await turns()
        server.leave()

    assert server.written == ["one", b"two", "3"]
    assert server.heard == [Message(b"a"), Message(b"b", binary=True)]


@pytest.mark.parametrize(("sent", "told"), [(4000, 4000), (1001, 1001), (None, 1005), (1006, 1006)])
async def test_the_clients_code_is_told(sent: int | None, told: int) -> None:
    server = Server()
    async with server.serving():
        server.leave(sent)

    assert server.ends == [told]


async def test_a_close_comes_behind_what_was_written_and_nothing_after_it() -> None:
    server = Server()
    async with server.serving() as transport:
        transport.write((Message(b"last"),))
        transport.close(1012, "bye")
        transport.close(1000, "again")
        transport.write((Message(b"late"),))
        server.arrive(text("late"))
        await turns()
        server.leave(1012)

    assert server.written == ["last"]
    assert server.sent[-1] == {"type": "websocket.close", "code": 1012, "reason": "bye"}
    assert (server.heard, server.ends) == ([], [1012])


async def test_a_slow_reader_overflows_once_and_is_let_go_without_its_backlog() -> None:
    server = Server()
    async with server.serving() as transport:
        server.takes = anyio.Event()
        for _ in range(9):
            transport.write((Message(b"1234"),))
            await turns()
        assert server.overflows == 1
        assert transport.backlog <= 10
        server.takes.set()
        await turns()
        server.leave(3008)

    assert server.written == ["1234"]
    assert server.sent[-1]["code"] == 3008


async def test_who_is_paused_is_not_read_from_until_it_is_resumed() -> None:
    server = Server()
    async with server.serving() as transport:
        transport.pause()
        await turns()
        server.arrive(text("1"), text("2"), text("3"))
        await turns()
        assert len(server.heard) <= 1  # the reader may have asked for one already
        transport.resume()
        await turns()
        assert len(server.heard) == 3
        server.leave()


async def test_who_is_paused_can_still_be_closed() -> None:
    server = Server()
    async with server.serving() as transport:
        transport.pause()
        server.arrive(text("1"), text("2"))
        await turns()
        transport.close(1012, "bye")
        transport.pause()
        server.leave(1012)

    assert server.ends == [1012]


async def test_who_does_not_answer_a_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_websocket, "CLOSE_WAIT", 0.02)
    server = Server()
    async with server.serving() as transport:
        transport.close(1012, "bye")

    assert server.ends == [1012]


async def test_who_is_cut_ends_without_a_close() -> None:
    server = Server()
    async with server.serving() as transport:
        transport.write((Message(b"one"),))
        await turns()
        transport.abort()

    assert server.ends == [1006]
    assert [event["type"] for event in server.sent] == ["websocket.accept", "websocket.send"]


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("gone")])
async def test_a_client_that_is_gone_is_heard_of_by_the_reader(error: Exception) -> None:
    server = Server()
    async with server.serving() as transport:
        server.error = error
        transport.write((Message(b"one"),))
        await turns()
        transport.write((Message(b"two"),))
        server.leave(1006)

    assert server.ends == [1006]


@pytest.mark.parametrize(("data", "code"), [("123456", 1009), ("\ud800", 1007)])
async def test_a_message_that_may_not_be_ends_it(data: str, code: int) -> None:
    server = Server()
    async with server.serving():
        server.arrive(text("12345"), text(data), text("late"))
        await turns()
        server.leave(code)

    assert server.heard == [Message(b"12345")]
    assert server.ends == [code]
