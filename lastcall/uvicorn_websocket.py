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
from urllib.parse import unquote

from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from lastcall.errors import ServerShutdown
from lastcall.protocol.base import Message
from lastcall.transport.base import DETACH, DRAINING, Frozen
from lastcall.transport.framing import WEBSOCKET
from lastcall.uvicorn_closing import ABNORMAL, CLOSED, GONE, HANDSHAKE, OPEN, SocketCloser
from lastcall.uvicorn_endpoint import Endpoint
from lastcall.uvicorn_frozen import FrozenWebSocket
from lastcall.uvicorn_handshake import Refusal, Upgrade, glued_bytes, read_request
from lastcall.uvicorn_reading import ANSWERS, EARLY, PAUSED, UNANSWERED
from lastcall.uvicorn_shared import shared_by
from lastcall.websocket_codec import FrameReader

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from lastcall.transport.base import Framing, Transport, TransportEvents


def install(config: "Config") -> None:
    """Make the server of *config* use this class from its next WebSocket on."""
    config.ws_protocol_class = UvicornWebSocket


class UvicornWebSocket(SocketCloser):
    """One WebSocket: asyncio protocol below, `Transport` above."""

    __slots__ = ("_frozen", "_start", "framing")

    on_server_shutdown: ClassVar[Callable[["UvicornWebSocket"], bool] | None] = None
    """Asked when uvicorn shuts down; True: somebody else will close this connection."""

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
        super().__init__(config.ws_max_size, shared_by(config, server_state))
        self.framing: Framing = WEBSOCKET
        self._start: tuple[Config, ServerState, dict[str, Any]] | None
        self._start = (config, server_state, app_state)
        self._frozen: FrozenWebSocket | None = None

    # --- Transport, with `write` and `backlog` of the write half, `pause` and `resume` of the read
    # half, `close` and `abort` of the closer

    def freeze(self) -> Frozen | None:
        """Let go of the client without a word; not while it opens, closes or is TLS."""
        if self._stage != OPEN or not self._is_detached or self._fd < 0:
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
        self._stage, self._events, self._stopped_by = GONE, None, PAUSED
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
        if self._frozen is not None:
            self._go_on(self._frozen)

    def _go_on(self, frozen: FrozenWebSocket) -> None:
        self._frozen, self._stage, self._pinged = None, OPEN, frozen.pinged
        self._stopped_by = ANSWERS if frozen.owes_answers else 0
        self._expect_life(self._host.ping_timeout if frozen.pinged else self._host.ping_interval)
        self._put_back(frozen.unsent)
        if self._reader.unread:
            asyncio.get_running_loop().call_soon(self._read)

    def data_received(self, data: bytes) -> None:
        """Take the request, then frames."""
        if self._start is not None:
            self._receive_request(data, *self._start)
        else:
            self._take(data)

    @property
    def _is_detached(self) -> bool:
        """Whether it belongs to whom it was detached for, and has delivered what came before."""
        return self._endpoint is None and self._early is None

    @property
    def drains(self) -> bool:
        """Whether a drain ends it: it is detached, or its endpoint waits in `Lastcall.draining`."""
        if self._endpoint is None:
            return True
        scope = self._endpoint.scope  # none when it has returned, and its close is under way
        return scope is not None and DRAINING in scope["extensions"]

    def shutdown(self) -> None:
        """End the connection, because uvicorn stops."""
        hook = type(self).on_server_shutdown
        if hook is not None and self.drains and hook(self):
            return
        if self._endpoint is not None:
            self._endpoint.shutdown()
        else:
            self.close(ServerShutdown.code, ServerShutdown.reason)

    # --- the handshake

    def _receive_request(
        self, data: bytes, config: "Config", state: "ServerState", app_state: dict[str, Any]
    ) -> None:
        self._start = None
        self._reader.feed(glued_bytes(self._tcp.get_protocol()))
        upgrade = read_request(data)
        if isinstance(upgrade, Refusal):
            self.refuse(upgrade.response(state.default_headers))
            return
        endpoint = self._endpoint_for(upgrade, config, state, app_state)
        # Not in here: the application would run before uvicorn has made this object the
        # connection's protocol.
        asyncio.get_running_loop().call_soon(self._run, endpoint, config, state.tasks)

    def _endpoint_for(
        self, upgrade: Upgrade, config: "Config", state: "ServerState", app_state: dict[str, Any]
    ) -> Endpoint:
        endpoint = self._endpoint = self._events = Endpoint(self, upgrade, config, state)
        scope = endpoint.scope = _scope_of(upgrade, config, app_state)
        scope["client"], scope["server"] = _addresses_of(self._tcp)
        scope["scheme"] = "ws" if self.movable else "wss"
        scope["extensions"] = {"websocket.http.response": {}, DETACH: endpoint.detach}
        return endpoint

    def _run(self, endpoint: Endpoint, config: "Config", tasks: "set[asyncio.Task[None]]") -> None:
        """Run the application; one that need not wait has answered when this returns."""
        isolated = Context() if getattr(config, "reset_contextvars", False) else None
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is None:
            task = asyncio.Task(endpoint.run(), loop=loop, context=isolated, eager_start=True)
        else:
            task = loop.create_task(endpoint.run(), context=isolated)
        if not task.done():
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if self._stage == HANDSHAKE:
                self._host.deadlines.set(self, self.handshake_timeout)

    def refuse(self, response: bytes) -> None:
        """Answer the handshake with *response* and end the connection."""
        if self._stage == HANDSHAKE:
            self._stage = CLOSED
            self._transmit_last(response)
            self._finish()

    def open(self, response: bytes, framing: "Framing") -> None:
        """Answer the handshake with *response*; from here on this is a WebSocket."""
        if self._stage != HANDSHAKE:
            return
        self._stage, self.framing = OPEN, framing
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
        self._endpoint, self._events = None, events
        self._backlog_limit, self._reader.limit = max_backlog, max_message_size
        loop = asyncio.get_running_loop()
        if early:
            self._early = early
            self._stopped_by |= EARLY
        if self._stage >= CLOSED:
            loop.call_soon(self._end, self._code or ABNORMAL)
        elif early:
            self._stopped_by &= ~PAUSED  # that was the endpoint's
            loop.call_soon(self._deliver_early)


def _scope_of(upgrade: Upgrade, config: "Config", app_state: dict[str, Any]) -> dict[str, Any]:
    """The ASGI scope, but for what the connection knows: scheme, addresses, detach."""
    target, _, query = upgrade.target.partition(b"?")
    return {
        "type": "websocket",
        "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "root_path": config.root_path,
        "path": config.root_path + unquote(target.decode("ascii")),
        "raw_path": config.root_path.encode("ascii") + target,
        "query_string": query,
        "headers": upgrade.headers,
        "subprotocols": upgrade.subprotocols,
        "state": app_state.copy(),
    }


def _addresses_of(tcp: asyncio.Transport) -> tuple[Any, Any]:
    """The client's end and ours, as uvicorn says them."""
    client, server = tcp.get_extra_info("peername"), tcp.get_extra_info("sockname")
    if isinstance(client, tuple) and isinstance(server, tuple):
        return client[:2], server[:2]  # the loop knows them; uvicorn asks the system once more
    return get_remote_addr(tcp), get_local_addr(tcp)


if TYPE_CHECKING:
    _: type[Transport] = UvicornWebSocket
