"""One uvicorn server in this process: stopped by a signal in every phase, with an exit status."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import anyio
import uvicorn

from lastcall.exit_status import CANNOT_START, FAILED

READY = b"ready"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger("lastcall")


class StoppableServer(uvicorn.Server):
    """uvicorn's server, which by itself hears a signal only after the application has started.

    Imports end at once when a signal comes, the lifespan's startup is cancelled; from then on
    it is uvicorn's own business.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        """Prepare; *on_ready* is called when it listens and the application has started."""
        super().__init__(config)
        self._on_ready = on_ready
        self._importing = False
        self._served = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._startup: anyio.CancelScope | None = None

    def run_to_status(self, sockets: list[socket.socket]) -> int:
        """Serve until a signal or a limit; return what the process shall exit with.

        0 after an asked-for stop or a limit, 3 if the application cannot start, 1 if it failed
        later. Handlers for SIGTERM and SIGINT stay in place: the process is about to end.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._around_serving)
        try:
            self.run(sockets=sockets)
        except SystemExit as ended:
            if isinstance(ended.code, str):
                sys.stderr.write(f"{ended.code}\n")
            if ended.code and self.started:
                return FAILED
            return CANNOT_START if ended.code else 0
        return self._status()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Import the application before uvicorn takes the signals, then serve."""
        self._import()
        try:
            await super().serve(sockets)
        finally:
            self._served = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start up, unless asked to stop before or meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._startup = anyio.CancelScope()
        with self._startup as scope:
            if self.should_exit:
                scope.cancel()
            try:
                await super().startup(sockets=sockets)
            except OSError as error:
                # Two servers that start together may both bind; only one can listen.
                logger.error("cannot listen: %s", error)  # noqa: TRY400  (no bug of ours to trace)
                raise SystemExit(CANNOT_START) from error
        if self.started:
            self._on_ready()
        elif scope.cancelled_caught:
            # What the application says about having been cancelled is not news.
            silent = logging.getLogger("lastcall.silent")
            silent.disabled = True
            lifespan: Any = self.lifespan
            lifespan.logger = silent

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal while serving; called by uvicorn's handler or by one in front of it."""
        super().handle_exit(sig, frame)
        if self._loop is not None and self._startup is not None and not self.started:
            self._loop.call_soon_threadsafe(self._startup.cancel)

    def _import(self) -> None:
        self._importing = True
        try:
            self._end_if_asked()
            self.config.load()
        except Exception:
            self._end_if_asked()  # what an interrupted import stumbles over is not news
            logger.exception("the application cannot be loaded")
            raise SystemExit(CANNOT_START) from None
        finally:
            self._importing = False

    def _end_if_asked(self) -> None:
        if self.should_exit:
            raise SystemExit(0)

    def _around_serving(self, number: int, _frame: FrameType | None) -> None:
        is_first, self.should_exit = not self.should_exit, True
        if self._importing and is_first:
            # Only once: a second exception would break what the first one is cleaning up.
            self._end_if_asked()
        if self._served and number == signal.SIGINT:
            # Something hangs while the interpreter ends, and the operator waits no longer.
            os._exit(self._status())

    def _status(self) -> int:
        if not self.started:
            return 0 if self.should_exit and not self._cannot_start() else CANNOT_START
        lifespan: Any = self.lifespan
        return FAILED if getattr(lifespan, "shutdown_failed", False) else 0

    def _cannot_start(self) -> bool:
        """Older releases of uvicorn say this in the same word as an asked-for stop."""
        lifespan: Any = getattr(self, "lifespan", None)
        return bool(getattr(lifespan, "should_exit", False))


def log_running(place: str) -> None:
    """Say that it serves, in words that people know from uvicorn."""
    logger.info("Lastcall running on %s (Press CTRL+C to quit)", place)


def run_worker(config: uvicorn.Config, sockets: list[socket.socket], master: Connection) -> None:
    """Serve as a worker of the supervisor; the target of a new process.

    Raises:
        SystemExit: always, with the status that the supervisor goes by.
    """
    # Blocked by the supervisor, so that Ctrl-C cannot interrupt the interpreter's own start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    config.configure_logging()
    for listener in sockets:
        listener.set_inheritable(False)  # a program that the application starts must not hold it

    def ready() -> None:
        with contextlib.suppress(OSError):  # without a master it is the lifespan that notices
            master.send_bytes(READY)

    sys.exit(StoppableServer(config, ready).run_to_status(sockets))
