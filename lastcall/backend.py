"""The backend of a stand-alone server: asked over HTTP where an application has functions."""

import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from msgspec import Raw

from lastcall.channel_hooks import ChannelHooks
from lastcall.channels import Channels
from lastcall.connection import Connection
from lastcall.errors import InternalError, SettingsError
from lastcall.logs import log_event
from lastcall.protocol.centrifuge import Connect, Subscribe
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.proxy_messages import (
    Question,
    Unusable,
    called,
    edited,
    identity,
    permit,
    picked,
    prolonged,
)
from lastcall.sessions import json_value, protocol_of, session_of
from lastcall.settings import Settings
from lastcall.verdicts import Edited, Identity, Permit

if TYPE_CHECKING:
    import httpx

MAX_ANSWER = 1_048_576
"""Bytes; a larger answer is none."""
QUIET = 10.0
"""Seconds between two lines in the log about questions of one kind that failed."""


class Backend:
    """Asks what `Settings` say it shall be asked; the other questions stay the application's."""

    def __init__(self, settings: Settings) -> None:
        """Read the certificates that are trusted; not inside an event loop.

        Raises:
            SettingsError: the package that asks is not installed.
        """
        self._settings = settings
        self._urls = {
            "connect": settings.proxy_connect_url,
            "refresh": settings.proxy_refresh_url,
            "subscribe": settings.proxy_subscribe_url,
            "publish": settings.proxy_publish_url,
            "rpc": settings.proxy_rpc_url,
        }
        self._is_wanted = any(self._urls.values())
        self._client: httpx.AsyncClient | None = None
        self._failures: dict[str, tuple[float, int]] = {}
        if self._is_wanted:
            self._httpx = _httpx()
            self._trust: ssl.SSLContext = self._httpx.create_ssl_context()

    def answer_for(self, hooks: ChannelHooks, channels: Channels) -> None:
        """Answer where the application itself has no function."""
        if self._urls["connect"]:
            hooks.who = self.who
        if self._urls["refresh"]:
            hooks.refresh = self.refresh
        if self._urls["subscribe"]:
            hooks.otherwise_subscribe(channels.asks_about_subscribe, self.subscribe)
        if self._urls["publish"]:
            hooks.otherwise_publish(channels.asks_about_publish, self.publish)
        if self._urls["rpc"]:
            hooks.otherwise_rpc(self.rpc)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Ask while entered; the connections to the backend are kept as long."""
        if not self._is_wanted:
            yield
            return
        self._at_once = anyio.CapacityLimiter(self._settings.proxy_concurrency)
        limits = self._httpx.Limits(max_connections=self._settings.proxy_concurrency)
        # What the environment says about proxies is about other ways than the one to a neighbour.
        async with self._httpx.AsyncClient(
            verify=self._trust, limits=limits, timeout=None, trust_env=False
        ) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    async def who(self, connection: Connection, request: Connect) -> Identity | None:
        """Who a client is."""
        question = self._question(
            connection,
            name=request.name,
            version=request.version,
            channels=list(request.subs),
            data=request.data,
        )
        session = session_of(connection)
        taken = frozenset(name for name, _ in session.headers)
        made_up = picked(request.headers, self._settings.proxy_emulated_headers, taken)
        session.headers = (*session.headers, *made_up)
        return await self._ask("connect", connection, question, identity)

    async def refresh(self, connection: Connection) -> Identity | None:
        """Who a client still is."""
        user = session_of(connection).user
        question = self._question(connection)
        return await self._ask("refresh", connection, question, lambda body: prolonged(body, user))

    async def subscribe(self, connection: Connection, request: Subscribe) -> Permit | bool:
        """Whether a client may subscribe."""
        question = self._question(
            connection, channel=request.channel, token=request.token, data=request.data
        )
        return await self._ask("subscribe", connection, question, permit)

    async def publish(self, connection: Connection, channel: str, data: str) -> Edited | bool:
        """Whether a client may publish."""
        question = self._question(connection, channel=channel, data=Raw(data.encode()))
        return await self._ask("publish", connection, question, edited)

    async def rpc(self, connection: Connection, method: str, data: str) -> Raw | None:
        """What a call returns."""
        question = self._question(connection, method=method, data=Raw(data.encode()))
        return await self._ask("rpc", connection, question, called)

    def _question(self, connection: Connection, **fields: Any) -> Question:
        session = session_of(connection)
        return Question(
            client=session.client,
            transport=transport_of(connection),
            protocol=form_of(connection),
            encoding="json",
            user=session.user,
            meta=json_value(session.meta if self._settings.proxy_meta else b""),
            **fields,
        )

    async def _ask[A](
        self, event: str, connection: Connection, question: Question, read: Callable[[bytes], A]
    ) -> A:
        """Ask, and read the answer.

        Raises:
            Refused, Disconnect: what the backend said; or an `InternalError`, where it said
                nothing that can be understood, in time.
        """
        try:
            with anyio.fail_after(self._settings.proxy_timeout):
                async with self._at_once:
                    body = await self._body(self._urls[event], connection, question)
            return read(body)
        except (TimeoutError, OSError, Unusable, self._httpx.HTTPError) as error:
            self._complain(event, error)
            raise InternalError from error

    async def _body(self, url: str, connection: Connection, question: Question) -> bytes:
        assert self._client is not None  # noqa: S101  (whoever is served is served while open)
        asking = self._client.stream(
            "POST", url, content=msgspec.json.encode(question), headers=self._headers(connection)
        )
        async with asking as response:
            if response.status_code != 200:  # noqa: PLR2004  (the one that means an answer)
                raise Unusable(f"status {response.status_code}")
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER:
                    raise Unusable(f"the answer has more than {MAX_ANSWER} bytes")
            return bytes(body)

    def _headers(self, connection: Connection) -> list[tuple[bytes, bytes]]:
        headers = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in session_of(connection).headers
        ]
        headers.append((b"content-type", b"application/json"))
        secret = self._settings.proxy_authorization
        if secret is not None:
            headers.append((b"authorization", secret.get_secret_value().encode()))
        return headers

    def _complain(self, event: str, error: Exception) -> None:
        """Say it, but not for each client of a crowd; never what was asked or answered."""
        now = time.monotonic()
        last, count = self._failures.get(event, (-QUIET, 0))
        if now < last + QUIET:
            self._failures[event] = (last, count + 1)
            return
        self._failures[event] = (now, 0)
        log_event(
            "backend failed",
            "the backend did not answer {proxy}: {why} ({count} more since the last such line)",
            level=logging.ERROR,
            proxy=event,
            why=str(error) if isinstance(error, Unusable) else type(error).__name__,
            count=count,
        )


def transport_of(connection: Connection) -> str:
    """What Centrifugo calls the transport of *connection*."""
    name = connection.wire_format.framing.name.partition("-")[0]
    return f"uni_{name}" if protocol_of(connection).only_listens else name


def form_of(connection: Connection) -> str:
    """Which form of the protocol *connection* speaks; what the backend reads of it is JSON."""
    return "protobuf" if protocol_of(connection).name == CentrifugeProtobuf.name else "json"


def _httpx() -> ModuleType:
    try:
        import httpx  # noqa: PLC0415  (an extra)
    except ImportError:
        raise SettingsError(
            "asking a backend needs the package httpx: pip install 'lastcall[proxy]'"
        ) from None
    return httpx
