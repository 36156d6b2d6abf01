"""One uvicorn server in this process: stopped by a signal in every phase, with an exit status."""

import asyncio
import contextlib
import faulthandler
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import anyio
import uvicorn

from lastcall.collector import spare_the_end
from lastcall.exit_status import CANNOT_START, FAILED

READY = b"ready"
BEAT = b"beat"
WORN = b"worn"
LEFT = b"left"
"""What a worker tells its master: it is ready, its loop turns, it wants to be replaced, its loop
has ended."""
BEAT_INTERVAL = 1.0
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
        finally:
            spare_the_end()
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


class MasterLine:
    """A worker's word to its master, over a pipe that never makes the worker wait."""

    def __init__(self, pipe: Connection, config: uvicorn.Config) -> None:
        """Take over the limit of requests from uvicorn, which would leave first and then be missed.

        The master brings up a successor instead, and this worker serves until that is ready.
        """
        os.set_blocking(pipe.fileno(), False)
        self._pipe = pipe
        self._requests = config.limit_max_requests
        if self._requests is not None:
            jitter = getattr(config, "limit_max_requests_jitter", 0)  # of a later uvicorn
            self._requests += random.randint(0, jitter)  # noqa: S311  (no secret)
        config.limit_max_requests = None
        self.server = StoppableServer(config, self._ready)

    def say(self, what: bytes) -> None:
        """Tell the master, unless it is gone, which the lifespan notices, or does not listen."""
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(what)

    def _ready(self) -> None:
        self.say(READY)
        self._beat()

    def _beat(self) -> None:
        self.say(BEAT)
        if self._requests is not None and self.server.server_state.total_requests >= self._requests:
            self._requests = None
            self.say(WORN)
        asyncio.get_running_loop().call_later(BEAT_INTERVAL, self._beat)


def run_worker(config: uvicorn.Config, sockets: list[socket.socket], master: Connection) -> None:
    """Serve as a worker of the supervisor; the target of a new process.

    Raises:
        SystemExit: always, with the status that the supervisor goes by.
    """
    # Blocked by the supervisor, so that Ctrl-C cannot interrupt the interpreter's own start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for number in (signal.SIGHUP, signal.SIGUSR2):
        # Meant for the master, but sent to all: a terminal that closes does, and some managers.
        # Not ignored, which would be inherited by the programs that the application starts.
        signal.signal(number, lambda *_: None)
    # The master ends a worker whose loop hangs by SIGABRT: then the log says where it hung.
    faulthandler.enable(all_threads=True)
    config.configure_logging()
    for listener in sockets:
        listener.set_inheritable(False)  # a program that the application starts must not hold it
    line = MasterLine(master, config)
    status = line.server.run_to_status(sockets)
    line.say(LEFT)
    sys.exit(status)
