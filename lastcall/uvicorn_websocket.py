"""A WebSocket on uvicorn, and the fast transport: ready-made frames straight to the socket.

uvicorn makes one object of this class for each WebSocket (`install`, or `--ws
lastcall.uvicorn_websocket:UvicornWebSocket`). An ordinary ASGI endpoint notices no difference.
One that calls `scope["extensions"]["lastcall.detach"]` and returns leaves nothing behind but
this object: no task, no coroutine, no queue.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from lastcall.errors import ServerShutdown
from lastcall.protocol.base import Message
from lastcall.transport.base import DETACH, DRAINING, Frozen
from lastcall.transport.framing import WEBSOCKET
from lastcall.uvicorn_endpoint import Endpoint, scope_of
from lastcall.uvicorn_frozen import FrozenWebSocket
from lastcall.uvicorn_handshake import Refusal, glued_bytes, read_request
from lastcall.uvicorn_reading import ANSWERS, EARLY, PAUSED, UNANSWERED, SocketReader
from lastcall.uvicorn_shared import shared_by
from lastcall.websocket_codec import Closed, Event, Failed, FrameReader, Ping
from lastcall.websocket_frames import PING_FRAME, close_frame, pong_frame

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from lastcall.transport.base import Framing, Transport, TransportEvents

# Stages of a connection, in order.
_HANDSHAKE = 0
_OPEN = 1
_CLOSING = 2
"""Our close frame is sent or waits behind other frames; the client's is awaited."""
_CLOSED = 3
"""Nothing is read or written any more; what the loop still has leaves."""
_GONE = 4

_ABNORMAL = 1006
_KEEPALIVE_TIMEOUT = (1011, "keepalive ping timeout")


def install(config: "Config") -> None:
    """Make the server of *config* use this class from its next WebSocket on."""
    config.ws_protocol_class = UvicornWebSocket


class UvicornWebSocket(SocketReader):
    """One WebSocket: asyncio protocol below, `Transport` above."""

    __slots__ = (
        "_code",
        "_endpoint",
        "_frozen",
        "_host",
        "_pinged",
        "_stage",
        "_start",
        "_unsent",
        "due_step",
        "framing",
    )

    on_server_shutdown: ClassVar[Callable[["UvicornWebSocket"], bool] | None] = None
    """Asked when uvicorn shuts down; True: somebody else will close this connection."""

    handshake_timeout: ClassVar[float] = 60
    close_timeout: ClassVar[float] = 10

    def __init__(
        self,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Wait for uvicorn's HTTP class, which has the request already."""
        if not config.loaded:
            config.load()
        super().__init__(config.ws_max_size)
        self.framing: Framing = WEBSOCKET
        self.due_step = 0
        self._host = shared_by(config, server_state)
        self._start: tuple[Config, ServerState, dict[str, Any]] | None
        self._start = (config, server_state, app_state)
        self._frozen: FrozenWebSocket | None = None
        self._stage = _HANDSHAKE
        self._endpoint: Endpoint | None = None
        self._code = 0
        self._pinged = False
        self._unsent = 0
        """What the loop still had when the last sign of life was looked for."""

    # --- Transport, with `write` and `backlog` of the write half, `pause` and `resume` of the other

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        """Close behind what was written; cut the connection if that takes longer than 10 s."""
        frame = close_frame(code, reason)
        if self._stage != _OPEN:
            return
        self._stage, self._code = _CLOSING, code
        self._refuse_frames()
        if discard:
            self._drop_queue()
        self._transmit(frame)
        self._host.deadlines.set(self, self.close_timeout)
        self._go_deaf()

    def abort(self) -> None:
        """Cut the connection now; its end is told soon, not inside this call."""
        if self._stage != _GONE:
            self._stage, self._deaf, self._early = _CLOSED, True, None
            super().abort()

    def freeze(self) -> Frozen | None:
        """Let go of the client without a word; not while it opens, closes or is TLS."""
        if self._stage != _OPEN or not self._is_detached or self._fd < 0:
            return None
        unsent = self._not_sent()
        if unsent is None or self._tcp.is_closing():
            return None
        state = FrozenWebSocket(
            self.framing.name,
            self._reader.dump(),
            unsent,
            self._pinged,
            bool(self._stopped_by & ANSWERS),
        ).encode()
        try:
            descriptor = self._let_go()
        except OSError:  # no descriptor left
            return None
        # A read that is due already finds neither bytes nor anybody to tell.
        self._stage, self._events, self._stopped_by = _GONE, None, PAUSED
        self._host.connections.discard(self)
        self._host.deadlines.clear(self)
        return Frozen(state, descriptor)

    def thaw(
        self, state: bytes, events: "TransportEvents", max_backlog: int, max_message_size: int
    ) -> None:
        """Go on for *events* as the frozen connection, once the loop gives us its socket.

        Raises:
            ValueError: *state* is not what `freeze` makes here.
        """
        self._frozen, self.framing = FrozenWebSocket.decode(state)
        self._start, self._events, self._backlog_limit = None, events, max_backlog
        self._reader = FrameReader.load(
            self._frozen.reader, max_message_size, deflate=self.framing is not WEBSOCKET
        )

    # --- uvicorn and the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over: from uvicorn's HTTP class, or frozen."""
        super().connection_made(transport)
        self._host.connections.add(self)
        self._host.deadlines.set(self, self.handshake_timeout)
        if self._frozen is not None:
            self._go_on(self._frozen)

    def _go_on(self, frozen: FrozenWebSocket) -> None:
        self._frozen, self._stage, self._pinged = None, _OPEN, frozen.pinged
        self._stopped_by = ANSWERS if frozen.owes_answers else 0
        self._expect_life(self._host.ping_timeout if frozen.pinged else self._host.ping_interval)
        self._put_back(frozen.unsent)
        if self._reader.unread:
            asyncio.get_running_loop().call_soon(self._read)

    def _expect_life(self, within: float | None) -> None:
        self._host.deadlines.clear(self)
        if within is not None:
            self._host.deadlines.set(self, within)

    def data_received(self, data: bytes) -> None:
        """Take the request, then frames."""
        if self._start is not None:
            self._receive_request(data, *self._start)
        else:
            self._take(data)

    def eof_received(self) -> None:
        """The client is gone without a close frame, or answers our last one so."""
        if self._stage in {_OPEN, _CLOSING}:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing can be sent or read any more; an error is the client's end, not ours."""
        super().connection_lost(exc)
        self._stage, self._start = _GONE, None
        self._host.connections.discard(self)
        self._host.deadlines.clear(self)
        self._end(self._code or _ABNORMAL)

    @property
    def _is_detached(self) -> bool:
        """Whether it belongs to whom it was detached for, and has delivered what came before."""
        return self._endpoint is None and self._early is None

    @property
    def drains(self) -> bool:
        """Whether a drain ends it: it is detached, or its endpoint waits in `Lastcall.draining`."""
        return self._endpoint is None or DRAINING in self._endpoint.scope["extensions"]

    def shutdown(self) -> None:
        """End the connection, because uvicorn stops."""
        hook = type(self).on_server_shutdown
        if hook is not None and self.drains and hook(self):
            return
        if self._endpoint is not None:
            self._endpoint.shutdown()
        else:
            self.close(ServerShutdown.code, ServerShutdown.reason)

    def due(self) -> None:
        """A deadline has come: of the handshake, of the close, or for a sign of life."""
        if self._stage == _HANDSHAKE and self._endpoint is not None:
            self._endpoint.expire()
        elif self._stage == _OPEN:
            self._keep_alive()
        else:
            self.abort()

    def _keep_alive(self) -> None:
        host = self._host
        interval = host.ping_interval or 0
        unsent = self._tcp.get_write_buffer_size() if self._blocked else 0
        # That the client reads is a sign of life too; and while paused we could not hear it.
        alive = self._heard or unsent < self._unsent or self._stopped_by & PAUSED
        self._unsent, self._heard = unsent, False
        if alive:
            self._pinged = False
            host.deadlines.set(self, interval)
        elif self._pinged:
            self.close(*_KEEPALIVE_TIMEOUT, discard=True)
        else:
            if not self._blocked:  # a client that does not read needs no more to read
                self._transmit(PING_FRAME)
            self._pinged = host.ping_timeout is not None
            host.deadlines.set(self, interval if host.ping_timeout is None else host.ping_timeout)

    # --- the handshake

    def _receive_request(
        self, request: bytes, config: "Config", state: "ServerState", app_state: dict[str, Any]
    ) -> None:
        self._start = None
        http = self._tcp.get_protocol()
        self._reader.feed(glued_bytes(http))
        upgrade = read_request(request)
        if isinstance(upgrade, Refusal):
            self.refuse(upgrade.response(state.default_headers))
            return
        endpoint = self._endpoint = self._events = Endpoint(self, upgrade, config, state)
        endpoint.scope = {
            **scope_of(upgrade, config, app_state),
            "scheme": "wss" if is_ssl(self._tcp) else "ws",
            # uvicorn's HTTP class has asked the system for both already.
            "client": getattr(http, "client", None) or get_remote_addr(self._tcp),
            "server": getattr(http, "server", None) or get_local_addr(self._tcp),
            "extensions": {"websocket.http.response": {}, DETACH: endpoint.detach},
        }
        # Not in here: an eager task would run the application before uvicorn has made this
        # object the connection's protocol.
        asyncio.get_running_loop().call_soon(self._run, endpoint, config, state.tasks)

    def _run(self, endpoint: Endpoint, config: "Config", tasks: "set[asyncio.Task[None]]") -> None:
        isolated = Context() if getattr(config, "reset_contextvars", False) else None
        task = asyncio.get_running_loop().create_task(endpoint.run(), context=isolated)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def refuse(self, response: bytes) -> None:
        """Answer the handshake with *response* and end the connection."""
        if self._stage == _HANDSHAKE:
            self._stage = _CLOSED
            self._transmit_last(response)
            self._finish()

    def open(self, response: bytes, framing: "Framing") -> None:
        """Answer the handshake with *response*; from here on this is a WebSocket."""
        if self._stage != _HANDSHAKE:
            return
        self._stage, self.framing = _OPEN, framing
        self._reader.deflate = framing is not WEBSOCKET
        self._transmit_first(response)
        self._accept_frames()
        self._expect_life(self._host.ping_interval)
        self._release(UNANSWERED)

    def detach(
        self,
        events: "TransportEvents",
        early: deque[Message],
        max_backlog: int,
        max_message_size: int,
    ) -> None:
        """Belong to *events* from here on; *early* is what was received before, and comes first."""
        self._endpoint, self._events, self._early = None, events, early
        self._backlog_limit, self._reader.limit = max_backlog, max_message_size
        self._stopped_by |= EARLY
        loop = asyncio.get_running_loop()
        if self._stage < _CLOSED:
            self._stopped_by &= ~PAUSED  # that was the endpoint's
            loop.call_soon(self._deliver_early)
        else:
            loop.call_soon(self._end, self._code or _ABNORMAL)

    # --- what the client says that is no message

    def _obey(self, event: Event) -> None:
        if self._stage > _CLOSING:
            return
        if isinstance(event, Closed):
            self._answer_close(event)
        elif isinstance(event, Failed):
            self._fail(event)
        elif isinstance(event, Ping) and self._stage == _OPEN:
            self._transmit(pong_frame(event.data))
            if self._blocked:
                self._stop_reading(ANSWERS)

    def _answer_close(self, closed: Closed) -> None:
        """Complete the closing handshake, whoever began it (RFC 6455, 5.5.1 and 7.1.1)."""
        if self._stage == _OPEN:
            self._code = closed.code
            if self._endpoint is not None:
                self._endpoint.ended(closed.code, closed.reason)
            self._transmit_last(close_frame(closed.code))
        elif self._queue:
            self._transmit_last(self._queue[-1])  # our own close frame
        self._stage = _CLOSED
        self._finish()
        self._end(self._code)

    def _fail(self, failed: Failed) -> None:
        """Tell the client what it did wrong (RFC 6455, 7.1.7)."""
        if self._stage != _OPEN:
            self.abort()
            return
        self._stage, self._code, self._deaf = _CLOSED, failed.code, True
        if self._endpoint is not None:
            self._endpoint.ended(failed.code, failed.reason)
        self._transmit_last(close_frame(failed.code, failed.reason))
        self._host.deadlines.set(self, self.close_timeout)
        if self._tcp.can_write_eof() and not self._tcp.is_closing():
            # A full close would reset what the client is still sending, and the reset could
            # overtake our close frame. So we end our half, and throw away what comes.
            self._tcp.write_eof()
        else:
            self._tcp.close()
        self._end(failed.code)

    def _finish(self) -> None:
        """Let what is written leave, for a bounded time."""
        self._host.deadlines.set(self, self.close_timeout)
        self._tcp.close()

    def _end(self, code: int) -> None:
        self._endpoint = None
        super()._end(code)

    # --- what the write half asks

    def _overflow(self) -> None:
        if self._events is not None:
            self._events.overflowed()

    def _all_sent(self) -> None:
        if self._endpoint is not None:
            self._endpoint.drained()
        self._release(ANSWERS)


if TYPE_CHECKING:
    _: type[Transport] = UvicornWebSocket
