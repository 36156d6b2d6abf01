"""A response as a transport: it queues, it is bounded, it ends once, in words."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from lastcall.broker.base import Publication
from lastcall.event_ids import positions_of
from lastcall.protocol.base import Message, Positioned
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.protocol.centrifuge_uni import CentrifugeUni
from lastcall.transport import asgi_stream
from lastcall.transport.asgi_stream import CHUNK, AsgiStream, StreamForm
from lastcall.transport.stream_forms import EVENTS, LINES, EventSourceForm, PlainForm
from lastcall.wire_format import wire_format

pytestmark = pytest.mark.anyio

JSON, UNI = CentrifugeJson(), CentrifugeUni()
HEADERS = [(b"x", b"y")]


class Server:
    """An ASGI server with one response, and the connection's side of its transport."""

    def __init__(self, form: StreamForm | None = None, max_backlog: int = 100) -> None:
        self.sent: list[Any] = []
        self.heard: list[bytes] = []
        self.ends: list[int] = []
        self.overflows = 0
        self.cuts = 0
        self.takes = anyio.Event()
        self.takes.set()
        self.error: Exception | None = None
        self.at_message: Callable[[], object] = lambda: None
        self._gone = anyio.Event()
        self._asked = 0
        form = form or PlainForm(JSON, LINES)
        self.transport = AsgiStream(
            form, self, max_backlog=max_backlog, max_waiting=10, cut=self._cut
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[AsgiStream]:
        """Serve; has to be over by itself soon after the block is left."""
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.transport.serve, self._receive, self._send, HEADERS)
                yield self.transport
        assert len(self.ends) == 1

    @property
    def body(self) -> bytes:
        return b"".join(event["body"] for event in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        return not self.sent[-1].get("more_body")

    def leave(self) -> None:
        self._gone.set()

    def received(self, message: Message, /) -> None:
        self.heard.append(message.data)
        self.at_message()

    def overflowed(self) -> None:
        self.overflows += 1
        self.transport.close(3008, "slow", discard=True)

    def ended(self, code: int) -> None:
        self.ends.append(code)

    def _cut(self) -> None:
        self.cuts += 1
        self.leave()

    async def _receive(self) -> Any:
        self._asked += 1
        if self._asked == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        await self.takes.wait()
        if self.error is not None:
            raise self.error


async def turns() -> None:
    """Let the reader and the writer do what they can."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_what_is_written_comes_in_order_and_the_end_in_words() -> None:
    server = Server(PlainForm(JSON, EVENTS, opening=b"\n"))
    async with server.serving() as transport:
        transport.write(EVENTS.frame([Message(b"1"), Message(b"2")]))
        await turns()
        transport.write(EVENTS.frame([Message(b"3")]))
        transport.close(3001, "shutdown")
        transport.close(3000, "again")
        transport.write(EVENTS.frame([Message(b"late")]))

    assert server.sent[0] == {"type": "http.response.start", "status": 200, "headers": HEADERS}
    assert server.body == (
        b'\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: {"push":{"disconnect":'
        b'{"code":3001,"reason":"shutdown"}}}\n\n'
    )
    assert server.is_complete
    assert (server.ends, transport.backlog) == ([3001], 0)


async def test_a_client_that_goes_ends_it() -> None:
    server = Server()
    async with server.serving() as transport:
        transport.write(LINES.frame([Message(b"{}")]))
        await turns()
        server.leave()

    assert (server.body, server.ends, server.cuts) == (b"{}\n", [1005], 0)
    assert not server.is_complete


async def test_a_client_that_is_gone_when_we_write_is_gone() -> None:
    server = Server()
    async with server.serving() as transport:
        await turns()
        server.error = OSError("gone")
        transport.write(LINES.frame([Message(b"{}")]))

    assert server.ends == [1005]


async def test_a_slow_reader_overflows_once_and_reads_why_instead_of_its_backlog() -> None:
    server = Server()
    async with server.serving() as transport:
        await turns()
        server.takes = anyio.Event()
        for _ in range(9):
            transport.write(20 * b"x")
            await turns()
        assert server.overflows == 1
        assert transport.backlog <= 100
        server.takes.set()

    assert server.body.startswith(20 * b"x")
    assert server.body.count(b"x") < 100
    assert server.body.endswith(b'{"push":{"disconnect":{"code":3008,"reason":"slow"}}}\n')
    assert server.ends == [3008]


async def test_who_does_not_read_the_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_stream, "CLOSE_WAIT", 0.02)
    server = Server()
    async with server.serving() as transport:
        server.takes = anyio.Event()
        transport.close(3001, "shutdown")

    assert (server.cuts, server.ends) == (1, [3001])


async def test_who_is_aborted_is_cut_without_a_word() -> None:
    server = Server()
    async with server.serving() as transport:
        await turns()
        transport.abort()

    assert (server.cuts, server.ends, server.body) == (1, [1005], b"")


async def test_a_server_that_cannot_cut_is_left_alone_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_stream, "CUT_WAIT", 0.02)
    server = Server()
    server.leave = lambda: None  # type: ignore[method-assign]
    async with server.serving() as transport:
        transport.abort()

    assert server.ends == [1005]


async def test_what_waits_is_given_to_the_server_in_pieces() -> None:
    """What the server has can no longer be dropped."""
    server = Server(max_backlog=10 * CHUNK)
    async with server.serving() as transport:
        for _ in range(5):
            transport.write((CHUNK // 2) * b"x")
        transport.close(3001, "shutdown")

    assert [len(event["body"]) for event in server.sent[1:4]] == [CHUNK, CHUNK, CHUNK // 2]


async def test_what_a_client_says_waits_while_nobody_wants_to_hear_it() -> None:
    server = Server()
    async with server.serving() as transport:
        assert transport.take(Message(b"1"))
        transport.pause()
        assert transport.take(Message(b"2345"))
        assert transport.take(Message(b"678901"))
        assert server.heard == [b"1"]
        assert not transport.take(Message(b"2"))  # ten bytes wait
        transport.resume()
        assert server.heard == [b"1", b"2345", b"678901"]
        assert transport.take(Message(10 * b"x"))
        server.leave()


async def test_who_is_paused_by_what_it_says_is_not_heard_out_of_turn() -> None:
    server = Server()
    async with server.serving() as transport:

        def at_message() -> None:
            transport.pause()
            if len(server.heard) == 1:
                transport.take(Message(b"3"))
                transport.resume()

        transport.pause()
        transport.take(Message(b"1"))
        transport.take(Message(b"2"))
        server.at_message = at_message
        transport.resume()
        assert server.heard == [b"1", b"2"]
        transport.resume()
        assert server.heard == [b"1", b"2", b"3"]
        server.leave()


async def test_nothing_is_heard_after_the_end() -> None:
    server = Server()
    async with server.serving() as transport:
        transport.pause()
        transport.take(Message(b"1"))
        transport.close(3001, "shutdown")
        assert transport.take(Message(b"late"))
        transport.resume()

    assert server.heard == []


async def test_a_stream_stays_where_it_is() -> None:
    assert Server().transport.freeze() is None
    assert not Server().transport.movable


# --- what a browser's own EventSource reads


def events(form: EventSourceForm, *messages: Message) -> list[bytes]:
    return form.render(form.framing.frame(messages)).removesuffix(b"\n\n").split(b"\n\n")


def positioned(channel: str, offset: int | None, epoch: str = "e", **more: bool) -> Positioned:
    return Positioned(b"{}", moves=((channel, offset, epoch),), **more)


def where(event: bytes) -> dict[str, tuple[int, str]]:
    first, _, _ = event.partition(b"\n")
    assert first.startswith(b"id: ")
    found = positions_of(first.removeprefix(b"id: ").decode())
    return {channel: (each.offset, each.epoch) for channel, each in found.items()}


def test_each_event_says_where_its_reader_stands_in_all_channels() -> None:
    form = EventSourceForm(UNI)
    begun = Positioned(b"{}", moves=(("a", 3, "e"), ("b", 0, "f")), begins=True)
    first, second, third, fourth, fifth = events(
        form,
        begun,
        positioned("a", 4),
        Message(b"{}"),
        positioned("b", 1, "f"),
        positioned("a", 5, ""),
    )

    assert where(first) == {"a": (3, "e"), "b": (0, "f")}
    assert where(second) == {"a": (4, "e"), "b": (0, "f")}
    assert third == b"data: {}"
    assert where(fourth) == {"a": (4, "e"), "b": (1, "f")}
    assert where(fifth) == {"a": (5, "e"), "b": (1, "f")}


def test_channels_come_and_go() -> None:
    form = EventSourceForm(UNI)
    unknown, begun, over, again = events(
        form,
        positioned("a", 1),
        positioned("a", 1, begins=True),
        positioned("a", None, ""),
        positioned("a", 2),
    )

    assert unknown == again == b"data: {}"
    assert where(begun) == {"a": (1, "e")}
    assert over == b"id: \ndata: {}"
    assert events(form, positioned("a", None, "")) == [b"data: {}"]


def test_readers_of_one_channel_share_what_is_encoded() -> None:
    """Only the ids are their own."""
    mine, yours = EventSourceForm(UNI), EventSourceForm(UNI)
    formats = {wire_format(UNI, form.framing) for form in (mine, yours)}
    assert len(formats) == 1
    frame = formats.pop().publications([Publication("a", b"1", 7, "e")])
    mine.render((positioned("a", 6, begins=True),))

    assert where(mine.render(frame)) == {"a": (7, "e")}
    assert yours.render(frame) == b'data: {"channel":"a","pub":{"data":"1","offset":7}}\n\n'


def test_readers_come_back_at_different_times() -> None:
    retries = {EventSourceForm(UNI).opening for _ in range(50)}
    after_shutdown = {EventSourceForm(UNI).ending(3001, "shutdown") for _ in range(50)}

    for told in (retries, after_shutdown):
        delays = [int(each.split(b"\n")[0].removeprefix(b"retry: ")) for each in told]
        assert 1000 <= min(delays) < max(delays) <= 5000
    assert all(
        each.endswith(b'\ndata: {"disconnect":{"code":3001,"reason":"shutdown"}}\n\n')
        for each in after_shutdown
    )


@pytest.mark.parametrize(
    ("code", "status"), [(3500, 401), (3005, 401), (3507, 403), (3501, 400), (4500, 400)]
)
async def test_who_shall_stay_away_gets_a_status(code: int, status: int) -> None:
    server = Server(EventSourceForm(UNI))
    async with server.serving() as transport:
        await turns()
        assert server.sent == []
        transport.close(code, "no")

    assert server.sent[0]["status"] == status
    assert server.body == b'{"code":%d,"reason":"no"}' % code
    assert server.ends == [code]


@pytest.mark.parametrize("code", [3001, 3004, 3013, 4000])
async def test_who_shall_come_back_gets_a_stream(code: int) -> None:
    server = Server(EventSourceForm(UNI))
    server.transport.close(code, "later")
    async with server.serving():
        pass

    assert server.sent[0]["status"] == 200
    assert server.body.count(b"retry: ") == 2
    assert server.is_complete


async def test_who_was_told_something_reads_the_end_in_the_stream() -> None:
    server = Server(EventSourceForm(UNI), max_backlog=10_000)
    async with server.serving() as transport:
        transport.write((positioned("a", 1, begins=True),))
        await turns()
        transport.close(3503, "force disconnect")

    assert server.sent[0]["status"] == 200
    assert b"3503" in server.body
