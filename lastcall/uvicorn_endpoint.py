"""The ASGI side of a WebSocket: an endpoint that accepts, receives, sends, or detaches.

It lives only until the endpoint has returned. Detached connections have none.
"""

import asyncio
import logging
from collections import deque
from collections.abc import MutableMapping
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_path_with_query_string,
)

from lastcall.close_words import may_close_with
from lastcall.errors import ServerShutdown
from lastcall.protocol.base import Message
from lastcall.transport.framing import WEBSOCKET, deflate_framing
from lastcall.uvicorn_handshake import Refusal, Upgrade, response, switching_protocols

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from lastcall.transport.base import Framing, Transport, TransportEvents
    from lastcall.uvicorn_websocket import UvicornWebSocket
    from lastcall.websocket_codec import Failed

type Event = MutableMapping[str, Any]

logger = logging.getLogger("uvicorn.error")  # where an operator of uvicorn looks for these

_READ_AHEAD = 32
_READ_AHEAD_BYTES = 65_536
_WRITE_AHEAD_BYTES = 65_536
_SHUTDOWN = (ServerShutdown.code, ServerShutdown.reason)


class _Stage(Enum):
    CONNECTING = auto()
    DENYING = auto()
    OPEN = auto()
    DETACHED = auto()
    CLOSED = auto()
    """By the endpoint."""
    LOST = auto()
    """By the client, by a timeout or by the server."""


class Endpoint:
    """Serves one connection to an ASGI application; `TransportEvents` towards the transport."""

    __slots__ = (
        "_answering",
        "_arrived",
        "_bytes",
        "_config",
        "_connect_told",
        "_denial",
        "_end",
        "_messages",
        "_reading",
        "_server_state",
        "_stage",
        "_transport",
        "_upgrade",
        "_writable",
        "mistake",
        "scope",
    )

    def __init__(
        self,
        transport: "UvicornWebSocket",
        upgrade: Upgrade,
        config: "Config",
        state: "ServerState",
    ) -> None:
        """Wait for `run`."""
        self.scope: Any = None
        self.mistake: Failed | None = None
        """What the client did wrong while the application was behind; the transport's to keep."""
        self._transport = transport
        self._upgrade = upgrade
        self._config = config
        self._server_state = state
        self._stage = _Stage.CONNECTING
        self._connect_told = False
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._reading = True
        self._answering = False
        """Whether the application got a message and has not asked for more since."""
        # Made when somebody waits: an endpoint that detaches at once never does.
        self._arrived: asyncio.Event | None = None
        self._writable: asyncio.Event | None = None
        self._end: tuple[int, str] | None = None
        self._denial: tuple[int, list[tuple[bytes, bytes]], bytes] = (0, [], b"")

    async def run(self) -> None:
        """Call the application and see to what it leaves undone."""
        application: Any = self._config.loaded_app
        try:
            result = await application(self.scope, self.receive, self.send)
        except (Exception, SystemExit) as error:  # an endpoint cannot take the server with it
            if not _is_of_lost_client(error):
                logger.exception("Exception in ASGI application\n")
            self._leave(1011, "internal error")
        except asyncio.CancelledError:
            self.shutdown()
            raise
        else:
            if self._is_unanswered:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
            self._leave(1000, "")
        finally:
            # It refers back to `detach`: a cycle would keep all this until a collection.
            self.scope = None

    @property
    def _is_unanswered(self) -> bool:
        return self._stage is _Stage.CONNECTING or self._stage is _Stage.DENYING

    def _leave(self, code: int, reason: str) -> None:
        if self._is_unanswered:
            self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error"))
        elif self._stage is _Stage.OPEN:
            self._close(code, reason)

    # --- what the application calls

    async def receive(self) -> Event:
        """The next event; after the end, the end again and again."""
        if not self._connect_told:
            self._connect_told = True
            return {"type": "websocket.connect"}
        self._answering = False
        while not self._messages:
            if self._stage is _Stage.DETACHED:
                raise RuntimeError("the connection was detached: its events go elsewhere")
            self._transport.caught_up()
            if self._end is not None:
                code, reason = self._end
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._arrived = self._arrived or asyncio.Event()
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        self._answering = True
        self._bytes -= len(message.data)
        if not self._reading and not self._messages:
            self._reading = True
            self._transport.resume()
        if message.binary:
            return {"type": "websocket.receive", "bytes": message.data}
        return {"type": "websocket.receive", "text": message.data.decode()}

    async def send(self, event: Event) -> None:
        """Do what the application asks, as far as the handshake has come."""
        kind = event["type"]
        match self._stage, kind:
            case _Stage.LOST, _:
                raise ClientDisconnected
            case _Stage.CONNECTING, "websocket.accept":
                self._accept(event)
            case _Stage.CONNECTING, "websocket.close":
                self._log("403")
                self._stage = _Stage.CLOSED
                self._end = 1006, ""
                self._transport.refuse(response(403, self._server_state.default_headers, b""))
            case _Stage.CONNECTING, "websocket.http.response.start":
                self._log(str(event["status"]))
                self._stage = _Stage.DENYING
                self._denial = (event["status"], list(event.get("headers", [])), b"")
            case _Stage.DENYING, "websocket.http.response.body":
                self._deny(event)
            case _Stage.OPEN, "websocket.send":
                await self._send(event)
            case _Stage.OPEN, "websocket.close":
                self._close(event.get("code", 1000), event.get("reason") or "")
            case stage, _:
                raise RuntimeError(f"Unexpected ASGI message {kind!r} while {stage.name.lower()}.")

    def _accept(self, event: Event) -> None:
        headers = [*self._server_state.default_headers, *event.get("headers", [])]
        if subprotocol := event.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        framing: Framing = WEBSOCKET
        agreed = self._upgrade.compression() if self._config.ws_per_message_deflate else None
        if agreed is not None:
            framing = deflate_framing(agreed[0])
            headers.append((b"sec-websocket-extensions", agreed[1].encode()))
        answer = switching_protocols(self._upgrade, headers)
        self._log("[accepted]")
        self._stage = _Stage.OPEN
        self._transport.open(answer, framing)

    def _deny(self, event: Event) -> None:
        status, headers, body = self._denial
        body += event.get("body", b"")
        self._denial = (status, headers, body)
        if not event.get("more_body", False):
            answer = response(status, [*self._server_state.default_headers, *headers], body)
            self._stage = _Stage.CLOSED
            self._end = 1006, ""
            self._transport.refuse(answer)

    async def _send(self, event: Event) -> None:
        data = event.get("bytes")
        if data is None:
            message = Message(event["text"].encode())
        else:
            message = Message(bytes(data), binary=True)
        self._transport.write(self._transport.framing.frame((message,)))
        if self._transport.backlog > _WRITE_AHEAD_BYTES:
            self._writable = self._writable or asyncio.Event()
            self._writable.clear()
            await self._writable.wait()
            if self._stage is _Stage.LOST:
                raise ClientDisconnected

    def _close(self, code: int, reason: str) -> None:
        if not may_close_with(code):
            raise ValueError(f"close code {code} must not be sent")
        self._stage = _Stage.CLOSED
        self._end = code, reason
        _wake(self._arrived)
        self._transport.close(code, reason)

    def detach(
        self, events: "TransportEvents", *, max_backlog: int, max_message_size: int
    ) -> "Transport":
        """Give the connection to *events*; from here on nothing of ASGI belongs to it.

        What the client has sent so far comes first, soon. The application shall return now.
        """
        self._transport.caught_up()
        if self._stage is not _Stage.OPEN and self._stage is not _Stage.LOST:
            raise RuntimeError(f"cannot detach while {self._stage.name.lower()}")
        self._stage = _Stage.DETACHED
        early, self._messages = self._messages, deque()
        _wake(self._arrived)
        _wake(self._writable)
        self._transport.detach(events, early, max_backlog, max_message_size)
        return self._transport

    # --- what the transport calls

    @property
    def is_behind(self) -> bool:
        """Whether the application may still answer something that the client said."""
        return self._answering or bool(self._messages)

    def received(self, message: Message) -> None:
        """Keep *message* for the application; stop reading when it falls behind."""
        self._messages.append(message)
        self._bytes += len(message.data)
        _wake(self._arrived)
        if len(self._messages) >= _READ_AHEAD or self._bytes >= _READ_AHEAD_BYTES:
            self._reading = False
            self._transport.pause()

    def overflowed(self) -> None:
        """Never: `send` waits instead."""

    def drained(self) -> None:
        """Everything that was written has left."""
        _wake(self._writable)

    def ended(self, code: int, reason: str = "") -> None:
        """Tell the application, unless it knows of an end already."""
        if self._end is None:
            self._end = code, reason
            self._stage = _Stage.LOST
        _wake(self._arrived)
        _wake(self._writable)

    def shutdown(self) -> None:
        """The server stops: refuse or close, and let the application know at once."""
        if self._is_unanswered:
            self._refuse(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, ServerShutdown.reason))
        elif self._stage is _Stage.OPEN:
            self.ended(*_SHUTDOWN)
            self._transport.close(*_SHUTDOWN)

    def expire(self) -> None:
        """The application took too long to answer the handshake."""
        self._refuse(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "handshake timed out"))

    def _refuse(self, refusal: Refusal) -> None:
        self._log(str(int(refusal.status)))
        self.ended(1006)
        self._transport.refuse(refusal.response(self._server_state.default_headers))

    def _log(self, outcome: str) -> None:
        if self._config.access_log:
            address, path = get_client_addr(self.scope), get_path_with_query_string(self.scope)
            logger.info('%s - "WebSocket %s" %s', address, path, outcome)


def _wake(event: asyncio.Event | None) -> None:
    if event is not None:
        event.set()


def _is_of_lost_client(error: BaseException | None) -> bool:
    """Whether *error* only says that the client is gone; frameworks wrap it in their own."""
    while error is not None and not isinstance(error, ClientDisconnected):
        error = error.__cause__ or error.__context__
    return error is not None
