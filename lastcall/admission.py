"""Who may come in: nobody once the worker refuses, but for those that it answers in words."""

import random
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

ALWAYS_ANSWERED = ("/health/live", "/health/ready", "/metrics")
"""What operators and load balancers ask, whatever prefix the router has."""
REFUSED_IN_WORDS = (
    "/connection/websocket",
    "/connection/sse",
    "/connection/http_stream",
    "/emulation",
)
"""Where SDKs come in. They are let in to be told why not: at a status they try the next transport
instead of waiting, and those that are here by the last two could not speak any more."""

type RetryAfter = Callable[[], float | None]
"""Seconds after which to come back; None when requests are served."""


class Admission:
    """ASGI middleware in front of the whole application."""

    def __init__(self, app: ASGIApp, refuses: RetryAfter) -> None:
        """Pass on to *app* while *refuses* returns None."""
        self._app = app
        self._refuses = refuses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it in one response that says when to come back."""
        if scope["type"] in ("http", "websocket"):
            retry_after = self._refuses()
            if retry_after is not None and not scope["path"].endswith(
                ALWAYS_ANSWERED + REFUSED_IN_WORDS
            ):
                await refuse(scope, send, retry_after)
                return
        await self._app(scope, receive, send)


async def refuse(scope: Scope, send: Send, retry_after: float, status: int = 503) -> None:
    """Ask to come back after about *retry_after* seconds, over a new connection."""
    # Spread over as much again: whoever is refused now must not come back in one moment.
    seconds = max(1, round(retry_after * random.uniform(1, 2)))  # noqa: S311  (no secret)
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
