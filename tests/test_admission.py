"""Whom a leaving worker turns away, and how."""

import re
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from lastcall.admission import ALWAYS_ANSWERED, BY_STATUS, REFUSED_IN_WORDS, SPEAKS_HERE, Admission
from lastcall.transport.base import CUT

pytestmark = pytest.mark.anyio


class Gate:
    """An application behind `Admission`, and what was answered."""

    def __init__(self, retry_after: float | None) -> None:
        self.served: list[str] = []
        self.sent: list[Message] = []
        self.gate = Admission(self._serve, lambda: retry_after)

    async def request(self, path: str, kind: str = "http", **scope: Any) -> list[Message]:
        await self.gate(
            {"type": kind, "path": path, "headers": [], **scope}, self._receive, self._send
        )
        return self.sent

    async def _serve(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.served.append(scope.get("path", ""))

    async def _receive(self) -> Message:
        raise AssertionError("nothing has to be read from who is refused")

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_worker_that_serves_lets_everybody_in(kind: str) -> None:
    gate = Gate(None)

    assert await gate.request("/", kind) == []
    assert gate.served == ["/"]


async def test_who_is_refused_learns_when_to_come_back() -> None:
    seconds = set()
    for _ in range(50):
        gate = Gate(10)
        start, body = await gate.request("/")
        headers = dict(start["headers"])
        assert (start["type"], start["status"]) == ("http.response.start", 503)
        assert headers[b"connection"] == b"close"
        assert body["body"]
        assert gate.served == []
        seconds.add(int(headers[b"retry-after"]))

    assert min(seconds) >= 10
    assert max(seconds) <= 20
    assert len(seconds) > 1


async def test_a_moment_is_a_second_in_a_header() -> None:
    start, _ = await Gate(0).request("/")

    assert dict(start["headers"])[b"retry-after"] == b"1"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/in/health/live"])
async def test_operators_are_always_answered(path: str) -> None:
    gate = Gate(5)
    await gate.request(path)

    assert gate.served == [path]


@pytest.mark.parametrize("path", REFUSED_IN_WORDS)
async def test_sdks_are_let_in_to_be_told_in_their_own_words(path: str) -> None:
    gate = Gate(5)
    await gate.request("/in" + path, "websocket")

    assert gate.served == ["/in" + path]


async def test_a_handshake_is_refused_by_status_or_before_the_accept() -> None:
    start, body = await Gate(5).request(
        "/ws", "websocket", extensions={"websocket.http.response": {}}
    )
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert body["type"] == "websocket.http.response.body"

    assert await Gate(5).request("/ws", "websocket") == [{"type": "websocket.close", "code": 1012}]


@pytest.mark.parametrize("path", [path for path in REFUSED_IN_WORDS if path != SPEAKS_HERE])
async def test_a_proxy_that_asks_another_server_is_told_by_status(path: str) -> None:
    """Its client is let in there, and has not heard of us."""
    scope: dict[str, Any] = {"method": "GET", "headers": [(b"accept", b"text/event-stream")]}
    scope["headers"].append(BY_STATUS)
    gate = Gate(5)
    start, _ = await gate.request("/in" + path, **scope)

    assert start["status"] == 503
    assert gate.served == []


@pytest.mark.parametrize("path", [*ALWAYS_ANSWERED, SPEAKS_HERE])
async def test_through_such_a_proxy_who_is_here_is_heard_to_the_end(path: str) -> None:
    gate = Gate(5)
    await gate.request(path, headers=[BY_STATUS])

    assert gate.served == [path]


async def test_the_lifespan_is_nobodys_request() -> None:
    gate = Gate(5)
    await gate.request("", "lifespan")

    assert gate.served == [""]


async def test_an_event_source_is_told_to_come_back_in_its_own_words() -> None:
    """A status would be the end of it for good."""
    accept: dict[str, Any] = {"method": "GET", "headers": [(b"accept", b"text/event-stream")]}
    gate = Gate(3)
    start, body = await gate.request("/updates", **accept)
    assert (start["status"], dict(start["headers"])[b"content-type"]) == (200, b"text/event-stream")
    assert re.fullmatch(rb"retry: [3-6]000\n\n", body["body"])
    assert gate.served == []

    (start, _) = await Gate(3).request("/updates", **accept | {"method": "POST"})
    assert start["status"] == 503


async def test_who_can_be_cut_is_known_to_the_application() -> None:
    cut: list[str] = []
    scopes: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        scopes.append(scope)

    async def nothing(_message: object = None) -> Any:
        raise AssertionError

    for cutter in (lambda _: lambda: cut.append("cut"), lambda _: None):
        gate = Admission(app, lambda: None, cutter)
        await gate({"type": "http", "path": "/"}, nothing, nothing)

    scopes[0]["extensions"][CUT]()
    assert cut == ["cut"]
    assert "extensions" not in scopes[1]
