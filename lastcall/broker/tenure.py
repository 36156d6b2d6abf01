"""One worker's time as the sequencer, from the won election to the hand-over.

It ends in one of five ways: the worker ends, it leaves while others stay, the log is damaged,
somebody removed the lock file, or the event loop is blocked and a thread resigns for it.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from lastcall.broker.base import Retention
from lastcall.broker.bus_client import BusClient
from lastcall.broker.bus_messages import Outgoing
from lastcall.broker.bus_server import BusServer
from lastcall.broker.election_lock import ElectionLock
from lastcall.broker.log_place import LogPlace
from lastcall.broker.sequencer import Peer, Sequencer
from lastcall.log_file import LogClosedError, LogFile
from lastcall.log_schema import UnusableLogError
from lastcall.stream_log import LogState, StreamLog

logger = logging.getLogger(__name__)

STALL_SECONDS = 2.0
"""How long the event loop may be blocked before this worker resigns; the others would end it."""
LOG_RETRY = 1.0
END_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_COURTESY_SECONDS = 0.1
"""Between two looks at whether others stay: a stop of all of them reaches each in turn. Together
they take less time than passes before the first client moves."""


class Tenure:
    """The office: socket, log and lock. Make a new one for each election that was won."""

    def __init__(
        self,
        socket_path: Path,
        lock: ElectionLock,
        place: LogPlace,
        limits: Retention,
        *,
        clock: Callable[[], float],
        leaves_to_others: Callable[[], bool],
    ) -> None:
        """Take office with *lock*, which this worker holds, until it *leaves_to_others*."""
        self._socket_path = socket_path
        self._lock = lock
        self._place = place
        self._limits = limits
        self._clock = clock
        self._leaves_to_others = leaves_to_others
        self._server = BusServer(socket_path)
        self._scope = anyio.CancelScope()
        self._alive_at = time.monotonic()
        self._vacating = threading.Lock()
        self._vacant = threading.Event()

    async def serve(self, client: BusClient, carried: Callable[[], None]) -> None:
        """Be the sequencer until cancelled or the office is lost; *client* is our own worker.

        *carried* is called when publications can be carried.
        """
        watch = threading.Thread(target=self._resign_when_stalled, daemon=True)
        last = False
        try:
            with self._scope:
                await self._server.open()
                watch.start()
                sequencer = await self._begin()
                try:
                    await self._serve(sequencer, client, carried)
                finally:
                    last = sequencer.alone
        finally:
            # The ticks may have ended with us: leaving is no stall.
            self._alive_at = time.monotonic() + END_SECONDS
            client.disconnected()
            clean = not self._leaves_to_others()
            with anyio.move_on_after(END_SECONDS, shield=True):
                await self._server.close()
                await anyio.to_thread.run_sync(partial(self._vacate, last=last, clean=clean))

    async def tick(self) -> None:
        """Say that the event loop runs; call it twice a second."""
        self._alive_at = time.monotonic()
        if not await anyio.to_thread.run_sync(self._lock.is_in_place):
            # Others elect by the file that is there now. One of us would be one too many.
            logger.warning("%s was removed; the host's sequencer is elected anew", self._lock.path)
            self._scope.cancel()

    async def _begin(self) -> Sequencer:
        file, state = await self._open_log()
        return Sequencer(file, StreamLog(self._limits, state), self._limits, self._clock)

    async def _serve(
        self, sequencer: Sequencer, client: BusClient, carried: Callable[[], None]
    ) -> None:
        def send(outgoing: Outgoing) -> None:
            client.receive(outgoing.message)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sequencer.run)
                tasks.start_soon(self._resign_for_others, sequencer)
                self._server.serve(sequencer)
                ourselves = Peer(send)
                client.connected(partial(sequencer.receive, ourselves))
                sequencer.attach(ourselves)
                carried()
        except* UnusableLogError:
            await anyio.to_thread.run_sync(self._place.set_aside)
        except* LogClosedError:
            pass  # We resigned, and the event loop is back: follow our successor.
        except* (OSError, sqlite3.Error) as errors:
            logger.error("the log is opened anew: %s", errors.exceptions[0])  # noqa: TRY400  (expected of a disk)

    async def _open_log(self) -> tuple[LogFile, LogState]:
        said = ""
        while True:
            try:
                file = await anyio.to_thread.run_sync(self._place.open)
                return file, await anyio.to_thread.run_sync(file.load, self._clock())
            except UnusableLogError:
                await anyio.to_thread.run_sync(self._place.set_aside)
            except (OSError, sqlite3.Error) as error:
                if said != (said := str(error)):
                    logger.error("the log cannot be opened: %s", said)  # noqa: TRY400  (expected of a disk)
                await anyio.sleep(LOG_RETRY)

    async def _resign_for_others(self, sequencer: Sequencer) -> None:
        """Make way at once when this worker drains: whoever stays leads before clients move."""
        looks = 0
        while looks < 2:  # noqa: PLR2004  (see the pause between them)
            await anyio.sleep(_COURTESY_SECONDS)
            looks = looks + 1 if self._leaves_to_others() else 0
        # While all go on publishing: who opens the log has little to read then.
        await sequencer.shorten_log()
        self._scope.cancel()

    def _resign_when_stalled(self) -> None:
        looked = time.monotonic()
        while not self._vacant.wait(_LOOK_SECONDS):
            now = time.monotonic()
            # A thread that is late as well was stopped with all the process, or had no processor.
            late, looked = now - looked > 2 * _LOOK_SECONDS, now
            if late:
                self._alive_at = now
            elif now - self._alive_at > STALL_SECONDS:
                logger.warning(
                    "the event loop of worker %d has been blocked for %.0f seconds; another worker"
                    " carries this host's publications from here",
                    os.getpid(),
                    STALL_SECONDS,
                )
                self._vacate(last=False, clean=True)
                return

    def _vacate(self, *, last: bool, clean: bool) -> None:
        """Let go of socket, log and lock, in this order; the second call does nothing."""
        with self._vacating:
            if self._vacant.is_set():
                return
            self._vacant.set()
            try:
                if self._lock.is_in_place():
                    self._socket_path.unlink(missing_ok=True)
                self._place.close(last=last, clean=clean)
            except (OSError, sqlite3.Error) as error:
                logger.warning("the log was not closed cleanly: %s", error)
            finally:
                # From here another worker leads.
                self._lock.release()
