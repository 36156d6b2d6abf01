"""What an endpoint leaves undone or does wrong: its client gets a clean answer, the log a line."""

import logging
from typing import Any

import pytest

from tests.uvicorn_host import hosting, raw_client
from tests.websocket_bytes import FIN, frame

pytestmark = pytest.mark.anyio


async def returns_at_once(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


async def raises_at_once(_scope: Any, _receive: Any, _send: Any) -> None:
    raise ValueError("on purpose")


async def leaves_denial_open(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 401})


async def sends_before_accept(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.send", "text": "too early"})


@pytest.mark.parametrize(
    ("app", "log"),
    [
        (returns_at_once, "ASGI callable returned without completing handshake."),
        (raises_at_once, "Exception in ASGI application\n"),
        (leaves_denial_open, "ASGI callable returned without completing handshake."),
        (sends_before_accept, "Exception in ASGI application\n"),
    ],
)
async def test_endpoint_that_does_not_answer(
    app: Any, log: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosting(app, access_log=False) as host, raw_client(host) as client:
        assert (await client.response()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        await client.rest()
    assert caplog.messages == [log]


async def accepts_and_returns(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})


async def accepts_and_raises(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    raise ValueError("on purpose")


async def sends_after_close(_scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1000})
    assert (await receive())["type"] == "websocket.connect"
    assert await receive() == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    with pytest.raises(RuntimeError, match="Unexpected ASGI message"):
        await send({"type": "websocket.send", "text": "too late"})


async def closes_with_a_forbidden_code(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1006})


async def breaks_the_header(_scope: Any, _receive: Any, send: Any) -> None:
    with pytest.raises(ValueError, match="line break"):
        await send({"type": "websocket.accept", "headers": [(b"a", b"b\r\nc: d")]})
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


@pytest.mark.parametrize(
    ("app", "payload", "errors"),
    [
        (accepts_and_returns, b"\x03\xe8", 0),
        (accepts_and_raises, b"\x03\xf3internal error", 1),
        (sends_after_close, b"\x03\xe8", 0),
        (closes_with_a_forbidden_code, b"\x03\xf3internal error", 1),
        (breaks_the_header, b"\x03\xe8", 0),
    ],
)
async def test_close_frame_of_an_endpoint(
    app: Any, payload: bytes, errors: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with hosting(app) as host, raw_client(host) as client:
        await client.response()
        assert await client.frame() == (0x88, payload)
        client.writer.write(frame(FIN | 0x8, payload[:2]))
        assert await client.rest() == b""
    assert len(caplog.records) == errors


async def returns_something(_scope: Any, _receive: Any, send: Any) -> str:
    await send({"type": "websocket.accept"})
    return "something"


async def test_endpoint_that_returns_something(caplog: pytest.LogCaptureFixture) -> None:
    async with hosting(returns_something, access_log=False) as host, raw_client(host) as client:
        await client.response()
        assert await client.frame() == (0x88, b"\x03\xe8")
    assert caplog.messages == ["ASGI callable should return None, but returned 'something'."]
