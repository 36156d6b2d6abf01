"""Where NATS is, and a connection to it that is logged in or not there at all."""

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import msgspec

from lastcall.broker.nats_api import OLDEST, version
from lastcall.broker.nats_wire import MAX_LINE

CONNECT_SECONDS = 3.0
DEFAULT_PORT = 4222
MAX_REPLICAS = 5
"""NATS has no more."""


class _Greeting(msgspec.Struct, frozen=True):
    """What a server says first."""

    version: str = ""
    max_payload: int = 2**20
    tls_required: bool = False


class NatsConnection:
    """A connection to one server that has let us in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: _Greeting
    ) -> None:
        """Use what `NatsServer.connected` has made."""
        self._reader = reader
        self._writer = writer
        self.version = version(greeting.version)
        self.max_payload = greeting.max_payload
        """Bytes of one message, with its headers."""

    async def read(self, size: int) -> bytes:
        """Whatever comes, of *size* at most; nothing at the end."""
        return await self._reader.read(size)

    def write(self, data: bytes) -> None:
        """Send, some time; what is sent has to be bounded by who sends it."""
        self._writer.write(data)


class NatsServer:
    """One server, or the servers of one cluster, by their URL."""

    def __init__(self, url: str) -> None:
        """Take `nats://user:password@host:port,host:port?replicas=3`.

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        self._is_tls = parts.scheme == "tls"
        self._login = _login(login)
        self._places = [_place(host) for host in hosts.split(",")]
        self._first = random.randrange(len(self._places))  # noqa: S311  (spreads workers, no secret)
        self._context: ssl.SSLContext | None = None
        if parts.path not in {"", "/"}:
            raise ValueError("NATS has nothing that a path could name")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - {"replicas"}):
            raise ValueError(f"unknown option {unknown[0]!r}")
        self.replicas = int(options.get("replicas", "1"))
        if not 1 <= self.replicas <= MAX_REPLICAS:
            raise ValueError(f"replicas are 1 to {MAX_REPLICAS}")

    @property
    def name(self) -> str:
        """What may be shown of it: no user and no password."""
        return "nats at " + ", ".join(f"{host}:{port}" for host, port in self._places)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[NatsConnection]:
        """Connect to one of the servers and log in; the connection ends with the block.

        Raises:
            OSError, ValueError: that could not be done in time, or the block raised it.
        """
        place = self._places[self._first % len(self._places)]
        self._first += 1  # where the next attempt is made
        writer = None
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(*place, limit=MAX_LINE)
                greeting = await self._enter(reader, writer, place[0])
            yield NatsConnection(reader, writer, greeting)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("it does not say what NATS says") from error
        except TimeoutError as error:
            raise ConnectionError("it does not answer in time") from error
        finally:
            if writer is not None:
                writer.transport.abort()  # closing alone would wait until all was sent

    async def _enter(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
    ) -> _Greeting:
        greeting = await _greeting(reader)
        if self._is_tls or greeting.tls_required:
            # It reads files, once.
            self._context = self._context or ssl.create_default_context()
            await writer.start_tls(self._context, server_hostname=host)
        options = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "protocol": 1,
            "lang": "python",
            "version": "1",
            "name": f"lastcall-{os.getpid()}",
            **self._login,
        }
        writer.write(b"CONNECT " + msgspec.json.encode(options) + b"\r\nPING\r\n")
        while not (line := await reader.readuntil(b"\r\n")).startswith(b"PONG"):
            if line.startswith(b"-ERR"):
                raise ConnectionError(f"NATS says {line[5:].decode(errors='replace').strip()}")
        return greeting


async def _greeting(reader: asyncio.StreamReader) -> _Greeting:
    verb, _, text = (await reader.readuntil(b"\r\n")).partition(b" ")
    try:
        greeting = msgspec.json.decode(text if verb == b"INFO" else b"", type=_Greeting)
    except msgspec.DecodeError as error:
        raise ValueError("there is something else than NATS") from error
    if version(greeting.version) < OLDEST:
        raise ValueError(f"NATS {greeting.version} is too old: 2.9 is needed")
    return greeting


def _login(text: str) -> dict[str, str]:
    user, has_password, password = text.partition(":")
    if has_password:
        return {"user": unquote(user), "pass": unquote(password)}
    return {"auth_token": unquote(user)} if user else {}


def _place(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("the name of the host is missing")
    return parts.hostname, parts.port or DEFAULT_PORT
