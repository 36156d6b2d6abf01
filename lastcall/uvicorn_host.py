"""uvicorn around us: found in the lifespan, lived in without a patch.

When the lifespan starts, uvicorn has installed ``Server.handle_exit`` for SIGINT and SIGTERM. The
bound method leads to the running server; ours stands in front of it and calls it when the drain
is over. The server's own order (close every connection, tell the lifespan last) would be too late.
"""

import asyncio
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from uvicorn import Server
from uvicorn.supervisors.multiprocess import Process as MultiprocessWorker

from lastcall.forked_child import forget
from lastcall.host import MASTER_VARIABLE, AsgiHost, Host, OnServerStop, OnSignal
from lastcall.hypercorn_host import find_hypercorn
from lastcall.process_identity import ProcessIdentity
from lastcall.stop_limit import StopLimit
from lastcall.transport.base import Transport, TransportEvents
from lastcall.uvicorn_entrance import install_entrance
from lastcall.uvicorn_websocket import UvicornWebSocket, install

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CUT_AFTER = 1.0
"""Seconds that responses under way have to end when the time is over, before they are cut."""
LAST_REQUESTS = 1
"""Seconds that requests in progress have at least; uvicorn counts in whole ones."""
FORCE_AFTER = 2.0
"""Seconds that the server has to stop then, before it is forced to, without the lifespan's end."""

NEVER = 1
"""A start time that no process has: no stranger with the pid of a dead master is taken for it."""

type Handler = Callable[[int, FrameType | None], Any]


def find_host() -> Host:
    """The server that runs this event loop, as far as we know it."""
    server = _running_server()
    if server is not None:
        return UvicornHost(server)
    return find_hypercorn() or AsgiHost()


class UvicornHost:
    """One worker of `uvicorn`, `fastapi run`, gunicorn with uvicorn's worker, or our own master."""

    name = "uvicorn"
    takes_connections = True

    def __init__(self, server: Server) -> None:
        """Live in *server*."""
        self._server = server
        self._config = server.config
        self._first_signal: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Handler] = {}
        self._spare: list[socket] = []
        self._own_master = _own_master()
        self._gunicorn = _gunicorn_worker(self._config.callback_notify)
        self.workers = self._count_workers()
        self.obeys_last_worker = self._own_master is not None or _has_uvicorn_master()
        self.master = self._find_master()
        self.drains = not self._config.should_reload

    @property
    def is_listening(self) -> bool:
        """Uvicorn says so itself: the lifespan starts before the port is bound."""
        return self._server.started

    def stop_limits(self) -> list[StopLimit]:
        """Uvicorn's own time-out, and gunicorn's."""
        limits = []
        if self._config.timeout_graceful_shutdown is not None:
            seconds = float(self._config.timeout_graceful_shutdown)
            limits.append(StopLimit(seconds, "--timeout-graceful-shutdown", kills=False))
        if self._gunicorn is not None:
            seconds = float(self._gunicorn.cfg.graceful_timeout)
            limits.append(StopLimit(seconds, "gunicorn's --graceful-timeout"))
        return limits

    def wait_at_most(self, seconds: float) -> None:
        """Bound uvicorn's own wait, unless the operator has: then ours is the shorter by that."""
        if self._config.timeout_graceful_shutdown is None:
            self._config.timeout_graceful_shutdown = math.ceil(seconds) + LAST_REQUESTS

    @contextmanager
    def stops(self, on_signal: OnSignal, on_server_stop: OnServerStop) -> Iterator[None]:
        """Stand in front of uvicorn's signal handlers, and of its end of every WebSocket."""
        # Unless the operator chose another class (`--ws`), which then ends clients as it does.
        if self._config.ws == "auto":
            install(self._config)
        install_entrance(self._config)
        UvicornWebSocket.on_server_shutdown = staticmethod(lambda _websocket: on_server_stop())
        if self._server.should_exit:
            # By a signal before we were there: all goes its usual way, the end of a start included.
            on_signal(signal.SIGTERM)
        try:
            with self._signals(on_signal):
                yield
        finally:
            UvicornWebSocket.on_server_shutdown = None

    @contextmanager
    def _signals(self, on_signal: OnSignal) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def ours(number: int, _frame: FrameType | None) -> None:
            received = signal.Signals(number)
            self._first_signal = self._first_signal or received
            # Wakes a loop that waits in select: the handler runs between its byte codes.
            loop.call_soon_threadsafe(on_signal, received)

        # Two Ctrl-C before we were there would make the server skip the lifespan's shutdown, and
        # leave our files behind; with nobody connected, it ends at once in order, too.
        self._server.force_exit = False
        previous = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number, handler in previous.items():
                if callable(handler):
                    signal.signal(number, ours)
                    self._handlers[number] = handler
        except ValueError:
            self._handlers.clear()  # not the main thread: whoever has it deals with signals
        try:
            with self._gunicorns_sigquit(on_signal):
                yield
        finally:
            for number, handler in self._handlers.items():
                if signal.getsignal(number) is ours:
                    signal.signal(number, handler)

    @contextmanager
    def _gunicorns_sigquit(self, on_signal: OnSignal) -> Iterator[None]:
        """Ctrl-C reaches gunicorn's workers as SIGQUIT, for which uvicorn has no ears."""
        worker = self._gunicorn
        if worker is None or not self._handlers:
            yield
            return
        loop, number = asyncio.get_running_loop(), signal.SIGQUIT
        loop.add_signal_handler(number, on_signal, signal.SIGINT)
        try:
            yield
        finally:
            loop.add_signal_handler(number, worker.handle_exit, number, None)

    def stop_listening(self) -> bool:
        """Close this worker's listeners; only with siblings, who listen on the same socket."""
        if self.workers == 1 or not self._server.started:
            return False
        for server in self._server.servers:
            # By descriptor: what uvloop shows as a socket cannot be duplicated.
            self._spare += [socket(fileno=os.dup(each.fileno())) for each in server.sockets]
            server.close()
        self._server.servers.clear()
        return True

    async def listen_again(self) -> None:
        """Accept on the same sockets again."""
        loop, config = asyncio.get_running_loop(), self._config
        server = self._server

        def protocol() -> asyncio.Protocol:
            http = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
            return http(
                config=config, server_state=server.server_state, app_state=server.lifespan.state
            )

        while self._spare:
            listener = await loop.create_server(
                protocol, sock=self._spare.pop(), ssl=config.ssl, backlog=config.backlog
            )
            server.servers.append(listener)

    def thaw(
        self, state: bytes, events: TransportEvents, *, max_backlog: int, max_message_size: int
    ) -> Transport:
        """Make a connection of this server that has its handshake behind it."""
        server = self._server
        websocket = UvicornWebSocket(self._config, server.server_state, server.lifespan.state)
        websocket.thaw(state, events, max_backlog, max_message_size)
        return websocket

    async def go_on(self, transport: Transport, descriptor: int) -> None:
        """Let the event loop read from the socket, as if it had just accepted it."""
        forget(descriptor)
        loop, client = asyncio.get_running_loop(), socket(fileno=descriptor)
        try:
            protocol = cast("UvicornWebSocket", transport)  # made by `thaw`
            await loop.connect_accepted_socket(lambda: protocol, client)
        except BaseException:
            client.close()
            raise

    def cutter(self, send: Callable[..., object]) -> Callable[[], object] | None:
        """Its own `send` is a method of the request, which knows its connection."""
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        return getattr(transport, "abort", None)

    def refuse_to_start(self) -> bool:
        """Uvicorn exits with 3 after the lifespan's startup, which makes its master stop too."""
        self._server.lifespan.should_exit = True
        return True

    def stop(self, *, now: bool, within: float = 0) -> None:
        """Hand the first signal on: uvicorn ends by it, with the exit status of always.

        By default it waits for requests in progress for ever, and a stream may never end.
        """
        for each in self._spare:
            each.close()
        self._spare.clear()
        number = self._first_signal or signal.SIGTERM
        handler = self._handlers.get(number, self._server.handle_exit)
        # A second SIGINT would be taken for somebody in a hurry, who cuts the lifespan off.
        if not self._server.should_exit:
            self._config.timeout_graceful_shutdown = max(LAST_REQUESTS, math.ceil(within))
            handler(number, None)
        if now:
            loop = asyncio.get_running_loop()
            loop.call_later(CUT_AFTER, self._cut_connections)
            loop.call_later(FORCE_AFTER, self._server.handle_exit, signal.SIGINT, None)

    def _cut_connections(self) -> None:
        # The server waits for a response until it has been read, and some clients never do.
        for each in tuple(self._server.server_state.connections):
            transport = getattr(each, "transport", None)
            if transport is not None:
                transport.abort()

    def _count_workers(self) -> int:
        if self._gunicorn is not None:
            return int(self._gunicorn.cfg.workers)
        return self._config.workers if self._own_master or _has_uvicorn_master() else 1

    def _find_master(self) -> ProcessIdentity | None:
        if self._own_master is not None:
            return self._own_master
        if self._gunicorn is not None:
            return ProcessIdentity.of(os.getppid())
        if self._config.should_reload or _has_uvicorn_master():
            return _parent()
        return None


def _parent() -> ProcessIdentity | None:
    """Who started this process by `multiprocessing`, even if it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None or not parent.pid:
        return None
    identity = ProcessIdentity.of(parent.pid)
    # Looked at afterwards: if it is the parent still, the pid was its own until now.
    if identity is None or os.getppid() != parent.pid:
        return ProcessIdentity(parent.pid, NEVER)
    return identity


def _running_server() -> Server | None:
    """From the signal handler; or, off the main thread, from the task that runs the server."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(owner, Server) and threading.current_thread() is threading.main_thread():
        return owner
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        owner = frame.f_locals.get("self") if frame is not None else None
        if isinstance(owner, Server):
            return owner
    return None


def _own_master() -> ProcessIdentity | None:
    """Our own supervisor, if it has started us: the variable may have been inherited.

    Even if it is dead by now. A worker that took itself for a server of its own would stay.
    """
    try:
        master = ProcessIdentity.parse(os.environ.get(MASTER_VARIABLE, ""))
    except ValueError:
        return None
    started_by = multiprocessing.parent_process()
    # One that was forked, as in a simulated deploy, knows its parent from the kernel alone.
    parents = {os.getppid(), started_by.pid if started_by is not None else None}
    return master if master.pid in parents else None


def _has_uvicorn_master() -> bool:
    """Whether uvicorn's multiprocess master started us: its worker's entry is on our stack.

    A parent process alone proves nothing: it may be a test runner, a reloader or a shell.
    """
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  (the interpreter's own door)
    while frame is not None:
        if frame.f_code is MultiprocessWorker.target.__code__:
            return True
        frame = frame.f_back
    return False


def _gunicorn_worker(callback: Callable[..., Any] | None) -> Any | None:
    owner = getattr(callback, "__self__", None)
    return owner if hasattr(getattr(owner, "cfg", None), "graceful_timeout") else None


if TYPE_CHECKING:
    _: type[Host] = UvicornHost
