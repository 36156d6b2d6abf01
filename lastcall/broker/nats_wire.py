"""The client protocol of NATS, as bytes: what it says and what is said to it. Pure.

A line says what comes, and after the line of a message come its headers and its payload.
"""

from collections.abc import Iterable
from typing import NamedTuple

MAX_LINE = 2**20
"""Bytes of one line; the longest is a cluster's list of its servers."""
MAX_MESSAGE = 2**27
"""Bytes of one message; a server's own limit is below it."""

NO_HEADERS = b""
PING, PONG = b"PING\r\n", b"PONG\r\n"
_FIRST_LINE = b"NATS/1.0"


class Message(NamedTuple):
    """Something that was published under a subject that this connection has subscribed."""

    sid: int
    """By which number it was subscribed."""
    subject: bytes
    headers: bytes
    """As they came, or nothing."""
    payload: bytes

    @property
    def has_no_answer(self) -> bool:
        """Whether it says that nobody is there who could answer."""
        return self.headers.startswith(b"NATS/1.0 503")

    def header(self, name: bytes) -> bytes:
        """The value of a header; nothing if it has none of that *name*."""
        start = self.headers.find(b"\r\n" + name + b":")
        if start < 0:
            return b""
        start += len(name) + 3
        return self.headers[start : self.headers.index(b"\r\n", start)].strip()


class Word(NamedTuple):
    """Anything that is not a message: `INFO`, `PING`, `PONG`, `+OK`, `-ERR`."""

    verb: bytes
    rest: bytes


class Parser:
    """Cuts what a server sends into what it says."""

    def __init__(self) -> None:
        """Begin after the login."""
        self._rest = b""

    def feed(self, data: bytes) -> list[Message | Word]:
        """Take what came; return what it completes.

        Raises:
            ValueError: this is no NATS.
        """
        data = self._rest + data if self._rest else data
        said: list[Message | Word] = []
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            if not line.startswith((b"MSG ", b"HMSG ")):
                verb, _, rest = line.partition(b" ")
                said.append(Word(verb.upper(), rest))
                at = end + 2
                continue
            fields, begin = line.split(), end + 2
            size, headers_size = _sizes(fields)
            end = begin + size
            if len(data) < end + 2:
                break
            body = begin + headers_size
            headers, payload = data[begin:body], data[body:end]
            said.append(Message(int(fields[2]), fields[1], headers, payload))
            at = end + 2
        self._rest = data[at:]
        if len(self._rest) > MAX_LINE and b"\r\n" not in self._rest[: MAX_LINE + 2]:
            raise ValueError("a line without an end")
        return said


def _sizes(fields: list[bytes]) -> tuple[int, int]:
    """How long a message is in all, and its headers alone."""
    has_headers = fields[0] == b"HMSG"
    if len(fields) not in ((5, 6) if has_headers else (4, 5)):
        raise ValueError("a message without its size")
    size, headers = int(fields[-1]), int(fields[-2]) if has_headers else 0
    if not 0 <= headers <= size <= MAX_MESSAGE:
        raise ValueError("a message of an impossible size")
    return size, headers


def headers(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The headers of a message; names and values without line breaks."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"{_FIRST_LINE.decode()}\r\n{lines}\r\n".encode()


def publish(subject: str, reply: str, payload: bytes, headers: bytes = NO_HEADERS) -> bytes:
    """Publish under *subject*; whoever answers does it under *reply*."""
    if headers:
        sizes = f"{len(headers)} {len(headers) + len(payload)}"
        return b"".join((f"HPUB {subject} {reply} {sizes}\r\n".encode(), headers, payload, b"\r\n"))
    return b"".join((f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload, b"\r\n"))


def subscribe(subject: str, sid: int) -> bytes:
    """Be sent what is published under *subject*."""
    return f"SUB {subject} {sid}\r\n".encode()


def unsubscribe(sid: int) -> bytes:
    """Be sent no more of what was subscribed by *sid*."""
    return f"UNSUB {sid}\r\n".encode()
