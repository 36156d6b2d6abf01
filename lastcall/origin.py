"""Which web pages may connect: the same origin, the allowed ones, and whatever is no browser."""

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def is_allowed(
    origin: str | None, *, host: str, forwarded_host: str | None, allowed: Collection[str]
) -> bool:
    """Whether a WebSocket handshake with this `Origin` header may go on (RFC 6455, 10.2).

    Only browsers send an origin, and a page cannot choose it: that is what makes the check worth
    something, and why a request without one passes. A page cannot set `X-Forwarded-Host` either,
    so that header may be believed here whoever sent it.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        own = (host, forwarded_host.partition(",")[0].strip() if forwarded_host else None)
        return any(_same_place(parts, each) for each in own if each)
    except ValueError:
        return False


def sharing(origin: str | None, *, allowed: Collection[str]) -> dict[str, str]:
    """The headers by which a page of *origin* may read the response; for one that `is_allowed`.

    Where any page may, it does so without the cookies that its user has here.
    """
    if origin is None:
        return {}
    if "*" in allowed and origin not in allowed:
        return {"access-control-allow-origin": "*"}
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "vary": "origin",
    }


def preflight(asked_headers: str | None, *, methods: Collection[str]) -> dict[str, str]:
    """The headers by which a page may ask for what no form could (Fetch, "CORS protocol")."""
    headers = {
        "access-control-allow-methods": ", ".join(methods),
        "access-control-max-age": "300",
    }
    if asked_headers:
        headers["access-control-allow-headers"] = asked_headers
    return headers


def _same_place(origin: SplitResult, host: str) -> bool:
    default = _DEFAULT_PORTS.get(origin.scheme)
    if default is None or not origin.hostname:
        return False
    # A Host header without a port means the default of a scheme that a proxy may have changed:
    # the browser's own, then.
    server = urlsplit(f"//{host}")
    return (origin.hostname, origin.port or default) == (server.hostname, server.port or default)
