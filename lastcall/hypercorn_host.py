"""hypercorn around us: it waits for its connections when it stops, which is time for a drain.

It tells nobody of its stop: its master sets an event that the worker asks for, and the lifespan
hears last of all. So we look at what its one coroutine holds. Nothing of hypercorn's is imported or
changed; where it looks different, we are on a server that we know nothing about.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any

from lastcall.host import AsgiHost, Host, OnServerStop, OnSignal
from lastcall.process_identity import ProcessIdentity
from lastcall.stop_limit import StopLimit

LOOK_EVERY = 0.05
"""Seconds between looks for the listeners; hypercorn has no event for them."""
ALL_STOPPED = 0.5
"""Seconds in which every worker has heard of the stop: they ask ten times a second."""
LAST_ANSWERS = 1.0
"""Seconds that clients have to answer their close before hypercorn cancels what serves them."""


class HypercornHost(AsgiHost):
    """One worker of hypercorn on asyncio, with its master or (`--workers 0`) without."""

    name = "hypercorn"

    def __init__(self, serving: Coroutine[Any, Any, Any]) -> None:
        """Live in the worker that *serving* runs."""
        self._serving = serving
        config = self._local("config")
        self.workers = max(1, config.workers)
        self.drains = not config.use_reloader
        parent = multiprocessing.parent_process()
        self.master = ProcessIdentity.of(parent.pid) if parent and parent.pid else None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def is_listening(self) -> bool:
        """The lifespan starts before the port is listened on."""
        return bool(self._local("servers"))

    @contextmanager
    def stops(
        self,
        on_signal: OnSignal,
        on_server_stop: OnServerStop,  # noqa: ARG002  (it has one kind of stop)
    ) -> Iterator[None]:
        """Take hypercorn's own stop for a SIGTERM; and a SIGTERM that it would just die of."""
        loop = asyncio.get_running_loop()
        is_ours = _nobody_handles(signal.SIGTERM)
        if is_ours:
            # A worker has no handler, and systemd signals every process of a service.
            loop.add_signal_handler(signal.SIGTERM, on_signal, signal.SIGTERM)
        watch = loop.create_task(self._wait_for_stop(on_signal))
        try:
            yield
        finally:
            watch.cancel()
            if is_ours:
                loop.remove_signal_handler(signal.SIGTERM)

    def stop_limits(self) -> list[StopLimit]:
        """Hypercorn's own time-out, where it does not begin with the end of the last connection."""
        loop, timeout = asyncio.get_running_loop(), self._local("config").graceful_timeout
        # It waits for the connections of its listeners first, which only asyncio's own can.
        if isinstance(loop, asyncio.BaseEventLoop) and sys.version_info >= (3, 12, 1):
            return []
        seconds = max(0.0, float(timeout) - LAST_ANSWERS)
        return [StopLimit(seconds, "hypercorn's --graceful-timeout", kills=False)]

    def stop(self, *, now: bool, within: float = 0) -> None:  # noqa: ARG002  (it knows one way only)
        """End this worker, unless that is what hypercorn is doing already."""
        terminate = getattr(self._local("context"), "terminate", None)
        if terminate is not None:
            self._stopping = asyncio.get_running_loop().create_task(terminate.set())

    async def _wait_for_stop(self, on_signal: OnSignal) -> None:
        while not self.is_listening:  # noqa: ASYNC110  (a variable of a coroutine has no event)
            await asyncio.sleep(LOOK_EVERY)
        context = self._local("context")
        if not hasattr(context, "terminated"):
            return
        # hypercorn closes its own; these are for `_refuse_connections`.
        listeners = [socket(fileno=os.dup(each.fileno())) for each in self._listeners()]
        try:
            await context.terminated.wait()
            on_signal(signal.SIGTERM)
            if not context.terminate.is_set():
                await asyncio.sleep(ALL_STOPPED)
                _refuse_connections(listeners)
        finally:
            for each in listeners:
                each.close()

    def _listeners(self) -> list[socket]:
        """What somebody else keeps open."""
        sockets = self._local("sockets")
        if sockets is None or self.master is None:
            return []
        return [*sockets.secure_sockets, *sockets.insecure_sockets]

    def _local(self, name: str) -> Any:
        frame = getattr(self._serving, "cr_frame", None)
        return frame.f_locals.get(name) if frame is not None else None


def find_hypercorn() -> HypercornHost | None:
    """The worker that runs this event loop, if the `hypercorn` command started it."""
    for task in asyncio.all_tasks():
        # What a task awaits in turn is not asked for: `cr_await` has crashed Python 3.12.1.
        coroutine: Any = task.get_coro()
        code = getattr(coroutine, "cr_code", None)
        if code is None or code.co_name != "worker_serve":
            continue
        if "hypercorn" in Path(code.co_filename).parts:
            return HypercornHost(coroutine)
    return None


def _refuse_connections(listeners: list[socket]) -> None:
    """Have the kernel refuse who connects now, for all workers: they stop together.

    The master keeps its listeners open, where nobody accepts: clients would hang until the end. If
    this is a reload, the next worker's `listen` brings them back.
    """
    for each in listeners:
        with suppress(OSError):  # macOS does not know this, and says so
            each.shutdown(SHUT_RDWR)


def _nobody_handles(number: signal.Signals) -> bool:
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and hasattr(signal, "SIGKILL") and signal.getsignal(number) is signal.SIG_DFL


if TYPE_CHECKING:
    _: type[Host] = HypercornHost
