"""The opening handshake (RFC 6455, 4.2): from a packet, or as uvicorn's HTTP class hands it over.

Pure: bytes in, an `Upgrade` or a `Refusal` out, and the bytes of our answers.
"""

import binascii
import hashlib
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from lastcall.websocket_deflate import negotiate

type Headers = Iterable[tuple[bytes, bytes]]

MAX_LINE = 16_384
MAX_HEADERS = 128

_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: "
)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_PLAIN_REQUEST = re.compile(
    rb"GET (/[\w!$%&'()*+,\-./:;=?@~]*+) HTTP/1\.1\r\n"  # RFC 3986, 2; no fragment
    rb"((?:[\w!#$%&'*+\-.^`|~]++:[\t -~]*+\r\n)++)\r\n"  # RFC 9110, 5.5; no obsolete folding
)
_NOT_PLAIN = frozenset((b"content-length", b"transfer-encoding", b"expect"))


class Upgrade(NamedTuple):
    """A request that may become a WebSocket."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    values: dict[bytes, bytes]
    """The headers by name; the values of the same name joined with commas."""
    accept: bytes
    """Our answer to the client's key."""

    @property
    def subprotocols(self) -> list[str]:
        """What the client speaks, best first."""
        return [name for name in self.elements(b"sec-websocket-protocol") if name]

    def compression(self) -> tuple[int, str] | None:
        """The window and our answer, if the client offers a compression that we have."""
        offers = self.elements(b"sec-websocket-extensions")
        return negotiate(iter(offers)) if offers else None

    def elements(self, name: bytes) -> list[str]:
        """The elements of a header that is a list, over all its lines."""
        value = self.values.get(name)
        return [each.strip() for each in value.decode("latin-1").split(",")] if value else []


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that cannot become one; the answer ends the connection."""

    status: HTTPStatus
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def response(self, default_headers: Headers = ()) -> bytes:
        """The whole answer."""
        body = f"{self.reason}\n".encode()
        kind = (b"content-type", b"text/plain; charset=utf-8")
        return response(self.status, [*default_headers, kind, *self.headers], body)


def read_packet(packet: bytes) -> tuple[Upgrade, bytes] | None:
    """The handshake that *packet* begins with, and what follows it; None: let uvicorn look at it.

    Only what no two parsers could understand differently: a whole request in the characters of
    its RFCs, each header once, no body, and a handshake to which we would say yes.
    """
    found = _PLAIN_REQUEST.match(packet, 0, MAX_LINE)
    if found is None:
        return None
    lines = found[2][:-2].split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in _partitioned(lines)]
    values = dict(headers)
    if not len(values) == len(headers) <= MAX_HEADERS:
        return None
    if b"host" not in values or not _NOT_PLAIN.isdisjoint(values):
        return None
    upgrade = _check(found[1], headers, values)
    return None if isinstance(upgrade, Refusal) else (upgrade, packet[found.end() :])


def read_request(request: bytes) -> Upgrade | Refusal:
    """Check the request; it is one that an HTTP parser has taken apart and put together again."""
    first, *lines = request.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if len(first) > MAX_LINE:
        return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "request line is too long")
    has_long_line = len(request) > MAX_LINE and any(len(line) > MAX_LINE for line in lines)
    if has_long_line or len(lines) > MAX_HEADERS:
        return Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"no header may be longer than {MAX_LINE} bytes, and there may be {MAX_HEADERS}",
        )
    headers = [(name.lower(), value.strip()) for name, _, value in _partitioned(lines)]
    method, _, rest = first.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if method != b"GET":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "use GET", ((b"allow", b"GET"),))
    if version != b"HTTP/1.1" or not target.isascii():
        return Refusal(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request")
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        # Of the same name joined (RFC 9110, 5.3): doubled, neither version nor key is valid.
        values[name] = value if name not in values else values[name] + b"," + value
    return _check(target, headers, values)


def _partitioned(lines: Sequence[bytes]) -> Iterable[tuple[bytes, bytes, bytes]]:
    return [line.partition(b":") for line in lines]


def _check(
    target: bytes, headers: list[tuple[bytes, bytes]], values: dict[bytes, bytes]
) -> Upgrade | Refusal:
    options = values.get(b"connection", b"").lower().split(b",")
    if values.get(b"upgrade", b"").lower() != b"websocket" or b"upgrade" not in [
        option.strip() for option in options
    ]:
        return Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "this is a WebSocket endpoint",
            ((b"upgrade", b"websocket"), (b"connection", b"upgrade")),
        )
    if values.get(b"sec-websocket-version") != b"13":
        return Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "Sec-WebSocket-Version must be 13",
            ((b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")),
        )
    key = values.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        return Refusal(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64")
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return Upgrade(target, headers, values, binascii.b2a_base64(digest, newline=False))


def _is_key(key: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == 16  # noqa: PLR2004  (RFC 6455, 4.2.1)
    except binascii.Error:
        return False


def switching_protocols(upgrade: Upgrade, headers: Headers) -> bytes:
    """The answer that opens the WebSocket.

    Raises:
        ValueError: a header has a line break in it.
    """
    return b"".join((_SWITCHING, upgrade.accept, b"\r\n", _lines(headers), b"\r\n"))


def response(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole HTTP response that ends the connection.

    Raises:
        ValueError: a header has a line break in it.
    """
    own = (b"content-length", b"connection")
    kept = [(name, value) for name, value in headers if name.lower() not in own]
    kept += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, phrase.encode(), _lines(kept), body)


_STATUSES = frozenset(HTTPStatus)


def _lines(headers: Headers) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in headers]
    joined = b"".join(lines)
    # Else whoever can write a header's value could write a whole response.
    if not joined.count(b"\r") == joined.count(b"\n") == len(lines) or 0 in joined:
        raise ValueError("a header must not contain a line break")
    return joined


def glued_bytes(http: object) -> bytes:
    """What the client sent right behind its request, in the same packet.

    uvicorn's HTTP classes hand over the request alone and forget the rest. h11 keeps it in its
    buffer. httptools says where it starts in the exception that is being handled while we are
    called, and that exception's frame still has the packet; there is no other way to it.
    """
    trailing = getattr(getattr(http, "conn", None), "trailing_data", None)
    if isinstance(trailing, tuple) and isinstance(trailing[0], bytes):
        return trailing[0]
    upgrade = sys.exception()
    if type(upgrade).__name__ != "HttpParserUpgrade" or upgrade is None:
        return b""
    frame = upgrade.__traceback__.tb_frame if upgrade.__traceback__ else None
    packet, offset = frame.f_locals.get("data") if frame else None, upgrade.args[0]
    return packet[offset:] if isinstance(packet, bytes) and isinstance(offset, int) else b""
