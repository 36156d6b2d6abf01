"""`Lastcall`: the whole library, as an application sees it."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from lastcall.admission import Admission
from lastcall.attachment import Terms, attach, negotiated
from lastcall.broker.base import StreamPosition
from lastcall.channel_hooks import OnAuthenticate, OnPublish, OnRefresh, OnRpc, OnSubscribe
from lastcall.draining import Draining
from lastcall.errors import SettingsError
from lastcall.health import health_router
from lastcall.hooks import OnConnect, OnDisconnect, OnMessage
from lastcall.http_api import api_router
from lastcall.lifespan import RunningWorker, running
from lastcall.logs import set_up_logging
from lastcall.metrics_router import metrics_router
from lastcall.payload import Payload, encode
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.rulebook import Rulebook
from lastcall.server_methods import ServerMethods
from lastcall.settings import Settings
from lastcall.settings_source import cannot_start, settings_or_exit
from lastcall.streams import KINDS, StreamName, stream
from lastcall.streams_router import streams_router
from lastcall.uvicorn_host import find_host


class Endpoint:
    """One kind of WebSocket endpoint: what happens when its clients come, speak and go.

    A handler is a plain function, called in the event loop, which must not block; or an ``async``
    one, run in order for each connection. A handler's error is logged and harms no connection.
    """

    def __init__(self, lastcall: "Lastcall", name: str) -> None:
        """Made by `Lastcall.endpoint`."""
        self._lastcall = lastcall
        self._name = name
        self._hooks = lastcall.endpoints[name]

    def on_connect[F: OnConnect](self, handler: F) -> F:
        """Call ``handler(connection)`` for each client that was connected."""
        self._hooks.on_connect = handler
        return handler

    def on_message[F: OnMessage](self, handler: F) -> F:
        """Call ``handler(connection, message)``: a `str` for text, `bytes` for binary."""
        self._hooks.on_message = handler
        return handler

    def on_disconnect[F: OnDisconnect](self, handler: F) -> F:
        """Call ``handler(connection, code)`` for each client that is gone, with its close code."""
        self._hooks.on_disconnect = handler
        return handler

    async def attach(
        self,
        websocket: WebSocket,
        *,
        user: str | None = None,
        channels: Iterable[str] = (),
        subprotocol: str | None = None,
        protocol: Literal["plain-text", "centrifuge-json"] = "plain-text",
    ) -> None:
        """Make the client of *websocket* a connection that hears *channels*.

        The last statement of a WebSocket endpoint: where the server allows it, it returns at
        once and the connection lives on without a task; elsewhere it returns at its end. Accepts
        the handshake; or refuses it, with 403 for a foreign origin (`ALLOWED_ORIGINS`), or 503
        where the worker is full or nothing can be published. With `centrifuge-json` the client
        may ask for the same protocol in Protobuf, as the SDKs do.

        Raises:
            RuntimeError: the application's lifespan does not run `Lastcall`.
        """
        if isinstance(channels, str):
            raise TypeError(f"channels has to be a list of names: [{channels!r}]")
        worker, spoken = self._lastcall.now.worker, str(protocol)
        if protocol == CentrifugeJson.name and subprotocol is None:
            spoken, subprotocol = negotiated(websocket)
        terms = Terms(self._name, user, tuple(dict.fromkeys(channels)), subprotocol, spoken)
        await attach(worker, websocket, terms)

    async def stream(
        self,
        request: Request,
        transport: StreamName,
        *,
        user: str | None = None,
        channels: Iterable[str] = (),
    ) -> Response:
        """Make the client of *request* a connection that reads the response: return it.

        For clients without a WebSocket; what `/connection/<transport>` does, for *user*, who
        needs no token then. What SDKs say (`sse`, `http_stream`) comes to `/emulation`. A page of
        a foreign origin gets 403, as in `attach`.

        Raises:
            RuntimeError: the application's lifespan does not run `Lastcall`.
        """
        if isinstance(channels, str):
            raise TypeError(f"channels has to be a list of names: [{channels!r}]")
        named = tuple(dict.fromkeys(channels))
        terms = Terms(self._name, user, named, None, KINDS[transport].protocol)
        return await stream(self._lastcall.now.worker, request, transport, terms)


class Lastcall(Endpoint):
    """Real-time notifications for one FastAPI application; itself its default endpoint."""

    def __init__(self, settings: Settings | type[Settings] = Settings, **overrides: Any) -> None:
        """Go by *settings*; a class of them is read from `LASTCALL_…` and `lastcall.toml`.

        *overrides* win over what is read, by the settings' lower-case names.

        Raises:
            SystemExit: with status 3, after one sentence on stderr, if a setting that was read has
                no valid value. Status 3 is what servers take as "do not try again".
        """
        if not isinstance(settings, Settings):
            settings = settings_or_exit(settings, **overrides)
        try:
            self._rules = Rulebook.by(settings)
        except SettingsError as error:
            cannot_start(error)
        self.settings = self._rules.settings
        self.endpoints = self._rules.endpoints
        self._running: RunningWorker | None = None
        super().__init__(self, "")
        self.router = APIRouter()
        # First, because routes are tried in order: behind all the others a look-up would be a
        # tenth of what a connect costs, and after a restart everybody connects.
        self.router.add_api_websocket_route("/connection/websocket", self._centrifuge)
        self.router.include_router(streams_router(lambda: self.now.worker))
        self.router.include_router(health_router(self._not_ready))
        self.router.include_router(api_router(self.settings, self._server_methods))
        self.router.include_router(metrics_router(self._metrics))

    @property
    def now(self) -> RunningWorker:
        """The running worker.

        Raises:
            RuntimeError: there is none.
        """
        if self._running is None:
            raise RuntimeError(
                "Lastcall is not running: pass lifespan=lastcall.lifespan to FastAPI, "
                "or enter lastcall.run(app) in a lifespan of your own"
            )
        return self._running

    def endpoint(self, name: str) -> Endpoint:
        """Another kind of endpoint, with handlers of its own; the same *name* is the same one."""
        return Endpoint(self, name)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Give this to ``FastAPI(lifespan=…)``."""
        async with self.run(app):
            yield

    @asynccontextmanager
    async def run(self, app: Starlette) -> AsyncIterator[None]:
        """Serve while entered; for a lifespan of the application's own.

        What the application opens before it is there until the last client has left.
        """
        set_up_logging(self.settings.log_format)
        host = find_host()
        try:
            async with running(self._rules, host) as now:
                self._running = now
                with _gate(app, now):
                    yield
                return
        except SettingsError as error:
            sys.stderr.write(f"lastcall: {error}\n")
            if not host.refuse_to_start():
                raise
        finally:
            self._running = None
        # The server now ends with status 3, and cancels us on its way; that is no error to log.
        with contextlib.suppress(asyncio.CancelledError):
            yield

    def publish(
        self, channel: str, payload: Payload, *, idempotency_key: str = ""
    ) -> Awaitable[StreamPosition]:
        """Publish *payload* to every client that hears *channel*, on every worker.

        Takes its place in the channel's order when called; await it to know that it was stored.
        The same *idempotency_key* on the channel within five minutes publishes nothing and gives
        the position of the first: for retries, and for what each worker would publish.

        Raises (when awaited):
            BrokerUnavailable: it was not accepted.
        """
        data, kind = encode(payload)
        if not _in_event_loop():
            raise RuntimeError("publish works in the event loop: use publish_sync in a thread")
        worker = self.now.worker
        worker.counted["published_total"] += 1
        return worker.broker.publish(channel, data, kind=kind, idempotency_key=idempotency_key)

    def publish_sync(
        self, channel: str, payload: Payload, *, idempotency_key: str = "", timeout: float = 10.0
    ) -> StreamPosition:
        """Publish from a thread, such as a ``def`` endpoint's, and wait until it is stored.

        With the same *idempotency_key* a call that timed out can be repeated without harm.

        Raises:
            BrokerUnavailable: it was not accepted.
            TimeoutError: not within *timeout* seconds; it may still be delivered.
            RuntimeError: called in the event loop, which it would block for ever.
        """
        if _in_event_loop():
            raise RuntimeError("publish_sync would block the event loop: await publish there")

        loop = self.now.loop

        async def publish() -> StreamPosition:
            return await self.publish(channel, payload, idempotency_key=idempotency_key)

        return asyncio.run_coroutine_threadsafe(publish(), loop).result(timeout)

    def on_authenticate[F: OnAuthenticate](self, handler: F) -> F:
        """Ask ``handler(connection, data)`` who a client of the Centrifuge protocol is.

        Asked about clients that connect without a token, through an endpoint that did not say who
        they are; *data* is JSON text that the client sent along. An `Identity` is who it is, None
        nobody that is known: such a client is anonymous, if that is allowed. A `Refused` or a
        `Disconnect` that is raised is its answer.
        """
        self.endpoints.channels.on_authenticate(handler)
        return handler

    def on_refresh[F: OnRefresh](self, handler: F) -> F:
        """Ask ``handler(connection)`` who a client still is whose time is over.

        An `Identity` of the same user lets it stay until `expire_at`, anything else ends it with
        3005. With this function clients do not bring fresh tokens. Where it fails the client stays
        and it is asked again in a minute.
        """
        self.endpoints.channels.on_refresh(handler)
        return handler

    def on_subscribe[F: OnSubscribe](self, pattern: str) -> Callable[[F], F]:
        """Ask ``handler(connection, channel)`` who may subscribe to channels like *pattern*.

        `False` and `Refused` deny, anything else allows; a `Permit` says more. Clients
        with a token, and those that a user-limited channel names, are not asked about.
        """

        def register(handler: F) -> F:
            self.endpoints.channels.on_subscribe(pattern, handler)
            return handler

        return register

    def on_publish[F: OnPublish](self, pattern: str) -> Callable[[F], F]:
        """Ask ``handler(connection, channel, data)`` who may publish; *data* is JSON text.

        `False` and `Refused` deny, anything else allows; `Edited` changes what is published.
        """

        def register(handler: F) -> F:
            self.endpoints.channels.on_publish(pattern, handler)
            return handler

        return register

    def on_rpc[F: OnRpc](self, method: str) -> Callable[[F], F]:
        """Answer calls of *method* with what ``handler(connection, data)`` returns, as JSON.

        *data* is JSON text; a `Refused` that is raised is the caller's error.
        """

        def register(handler: F) -> F:
            self.endpoints.channels.on_rpc(method, handler)
            return handler

        return register

    def draining(self, request: HTTPConnection) -> Draining:
        """``async with lastcall.draining(request) as drain:`` in a long response of your own.

        The worker waits for the block; see `Draining` for what it does when the worker leaves.
        """
        return Draining(self.now.worker.connections, request)

    async def _centrifuge(self, websocket: WebSocket) -> None:
        await self.attach(websocket, protocol="centrifuge-json")

    def _server_methods(self) -> ServerMethods:
        return self.now.worker.server_methods

    def _metrics(self) -> str | None:
        return None if self._running is None else self._running.worker.metrics()

    def _not_ready(self) -> str | None:
        now = self._running
        if now is None:
            return "not started"
        if now.shutdown.is_requested:
            return "draining"
        return None if now.worker.hub.is_available else "broker unavailable"


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _gate(app: Starlette, now: RunningWorker) -> Iterator[None]:
    """Stand in front of the application's middleware, so that refusing costs it nothing."""

    def refuses() -> float | None:
        return now.shutdown.retry_after if now.shutdown.refuses else None

    inner = app.middleware_stack or app.build_middleware_stack()
    gate = Admission(inner, refuses, now.cutter)
    app.middleware_stack = gate
    try:
        yield
    finally:
        if app.middleware_stack is gate:
            app.middleware_stack = inner
