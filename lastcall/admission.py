"""Who may come in: nobody once the worker refuses, but for those that it answers in words."""

import random
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from lastcall.transport.base import CUT

ALWAYS_ANSWERED = ("/health/live", "/health/ready", "/metrics")
"""What operators and load balancers ask, whatever prefix the router has."""
REFUSED_IN_WORDS = (
    "/connection/websocket",
    "/connection/sse",
    "/connection/http_stream",
    "/connection/uni_sse",
    "/connection/uni_http_stream",
    "/connection/uni_websocket",
    "/emulation",
)
"""Where SDKs come in. They are let in to be told why not: at a status they try the next transport
instead of waiting, an `EventSource` gives up, and who is here by a stream could not speak any more.
"""

EVENT_STREAM = b"text/event-stream"

BY_STATUS = (b"lastcall-refuse", b"status")
"""The header of a proxy that asks another server when it reads 503: its client never sees that."""
SPEAKS_HERE = "/emulation"
"""What a client says whose stream is here. It is heard to the end, whoever asks."""

type RetryAfter = Callable[[], float | None]
"""Seconds after which to come back; None when requests are served."""
type Cutter = Callable[[Send], Callable[[], object] | None]
"""What cuts the connection of a request that is answered by this; None: there is no way to."""


class Admission:
    """ASGI middleware in front of the whole application."""

    def __init__(self, app: ASGIApp, refuses: RetryAfter, cutter: Cutter = lambda _: None) -> None:
        """Pass on to *app* while *refuses* returns None, and let it cut by *cutter*."""
        self._app = app
        self._refuses = refuses
        self._cutter = cutter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it in one response that says when to come back."""
        if scope["type"] in ("http", "websocket"):
            retry_after = self._refuses()
            if retry_after is not None and not _is_let_in(scope):
                await refuse(scope, send, retry_after)
                return
        # Here, in front of all middleware, `send` is still the server's own.
        if scope["type"] == "http" and (cut := self._cutter(send)) is not None:
            scope.setdefault("extensions", {})[CUT] = cut
        await self._app(scope, receive, send)


def _is_let_in(scope: Scope) -> bool:
    """Whether the application answers all the same."""
    if BY_STATUS in scope["headers"]:
        return bool(scope["path"].endswith((*ALWAYS_ANSWERED, SPEAKS_HERE)))
    return bool(scope["path"].endswith(ALWAYS_ANSWERED + REFUSED_IN_WORDS))


async def refuse(scope: Scope, send: Send, retry_after: float, status: int = 503) -> None:
    """Ask to come back after about *retry_after* seconds, over a new connection."""
    # Spread over as much again: whoever is refused now must not come back in one moment.
    seconds = max(1, round(retry_after * random.uniform(1, 2)))  # noqa: S311  (no secret)
    if _is_event_source(scope):
        headers = [(b"content-type", EVENT_STREAM), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"retry: %d000\n\n" % seconds})
        return
    headers = [
        (b"retry-after", str(seconds).encode()),
        (b"connection", b"close"),
        (b"content-type", b"text/plain; charset=utf-8"),
    ]
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1012})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": b"This server is at its limit or leaving.\n"})


def _is_event_source(scope: Scope) -> bool:
    """Whether a browser's `EventSource` asks: it comes back after a stream, and not after a 503."""
    return (
        scope["type"] == "http"
        and scope.get("method") == "GET"
        and (b"accept", EVENT_STREAM) in scope["headers"]
        and BY_STATUS not in scope["headers"]
    )
