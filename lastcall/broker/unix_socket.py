"""The broker of all workers of one host: one of them is the sequencer, elected by a lock.

See docs/decisions/host-bus.md for the whole picture. This module only decides who leads and whom
to follow; `bus_client` is what a worker says, `sequencer` what the elected one does.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from lastcall.broker.base import (
    Broker,
    BrokerEvents,
    History,
    Kind,
    Retention,
    StreamPosition,
)
from lastcall.broker.bus_client import BusClient
from lastcall.broker.bus_connection import BusConnection
from lastcall.broker.bus_messages import (
    DECODE_FROM_SEQUENCER,
    FromSequencer,
    Hello,
    Ping,
    Refusal,
    Welcome,
)
from lastcall.broker.bus_watchdog import Watchdog
from lastcall.broker.election_lock import ElectionLock
from lastcall.broker.log_place import LogPlace
from lastcall.broker.tenure import Tenure
from lastcall.errors import SettingsError
from lastcall.stream_log import Append

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

logger = logging.getLogger(__name__)

SOCKET_NAME = "bus.sock"
LOCK_NAME = "bus.lock"
MAX_SOCKET_PATH = 107
"""Bytes in the path of a unix socket, without the zero that ends it (unix(7))."""
TICK_SECONDS = 0.5
FIRST_RETRY, LAST_RETRY = 0.002, 0.01
"""Seconds between two looks for a sequencer, growing: a take-over takes milliseconds."""
END_SECONDS = 5.0
COURTESY_SECONDS = 1.0
"""How long who leaves lets those who stay go first."""


class UnixSocketBroker:
    """Carries publications between the workers that share *run_dir*; history is in *state_dir*.

    Linux only. What was acknowledged survives the death of any worker, and of all of them.
    """

    def __init__(
        self,
        run_dir: Path,
        state_dir: Path,
        limits: Retention,
        *,
        clock: Callable[[], float] = time.time,
        boot: str | None = None,
        stands_back: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take part in the bus of *run_dir*, which must exist and be this user's alone.

        While *stands_back* says yes this worker does not want to be the sequencer: it leaves, and
        others stay.

        Raises:
            SettingsError: the path of *run_dir* is too long for a unix socket.
        """
        self._socket_path = run_dir.absolute() / SOCKET_NAME
        if (length := len(os.fsencode(self._socket_path))) > MAX_SOCKET_PATH:
            raise SettingsError(
                f"LASTCALL_RUN_DIR is {str(run_dir)!r}, which makes a socket path of {length}"
                f" bytes; at most {MAX_SOCKET_PATH} are allowed"
            )
        self._place = LogPlace(run_dir.absolute(), state_dir.absolute(), boot)
        self._limits = limits
        self._clock = clock
        self._stands_back = stands_back
        self._lock = ElectionLock(run_dir / LOCK_NAME)
        self._watchdog = Watchdog(self._lock, TICK_SECONDS)
        self._client = BusClient()
        self._tenure: Tenure | None = None
        self._followed: BusConnection[FromSequencer] | None = None
        self._carried = anyio.Event()

    async def run(self, events: BrokerEvents, *, task_status: "TaskStatus[None]") -> None:
        """Carry publications until cancelled; see `Broker.run`."""
        self._client.open(events)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._tick)
                tasks.start_soon(self._take_part)
                await self._carried.wait()
                task_status.started()
        finally:
            self._client.close()
            with anyio.move_on_after(END_SECONDS, shield=True):
                await anyio.to_thread.run_sync(self._tidy_up)

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        kind: Kind = Kind.TEXT,
        about: bytes = b"",
        idempotency_key: str = "",
    ) -> "asyncio.Future[StreamPosition]":
        """Append to the channel's stream and deliver; see `Broker.publish`."""
        return self._client.publish(Append(channel, data, kind, idempotency_key, about))

    async def subscribe(self, channel: str) -> StreamPosition:
        """Start delivering *channel*; see `Broker.subscribe`."""
        return await self._client.subscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        """Stop delivering *channel*; unknown channels are ignored."""
        self._client.unsubscribe(channel)

    async def history(
        self, channel: str, since: StreamPosition | None = None, limit: int | None = None
    ) -> History:
        """Read what the channel remembers; see `Broker.history`."""
        return await self._client.history(channel, since, limit)

    async def clear(self, channel: str) -> None:
        """Forget what *channel* remembers; see `Broker.clear`."""
        await self._client.clear(channel)

    async def _take_part(self) -> None:
        pause, vacant_since = FIRST_RETRY, anyio.current_time()
        while True:
            if self._stands(vacant_since) and await self._is_elected():
                await self._lead()
            elif not await self._follow():
                await anyio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY)
                continue
            pause, vacant_since = FIRST_RETRY, anyio.current_time()

    def _stands(self, vacant_since: float) -> bool:
        # Every time the office changes hands all publications wait: once in a deploy is enough.
        is_urgent = anyio.current_time() - vacant_since > COURTESY_SECONDS
        return is_urgent or not self._stands_back()

    async def _is_elected(self) -> bool:
        while True:
            try:
                return await anyio.to_thread.run_sync(self._lock.acquire)
            except OSError as error:
                # Somebody removed the run directory; whoever coordinates the workers makes it anew.
                logger.error("the host bus has no place: %s", error)  # noqa: TRY400  (expected)
                await anyio.sleep(TICK_SECONDS)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await anyio.sleep(TICK_SECONDS)
            self._client.expire(loop.time())
            if self._tenure is not None:
                await self._tenure.tick()
            elif await self._watchdog.tick(loop.time()) and self._followed is not None:
                self._followed.cut()
            elif self._followed is not None:
                self._followed.send(Ping())

    async def _follow(self) -> bool:
        """Follow the sequencer until it is lost; False if there is none to be found."""
        lost = anyio.Event()

        def make() -> BusConnection[FromSequencer]:
            return BusConnection(DECODE_FROM_SEQUENCER, self._received, lambda _: lost.set())

        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(make, str(self._socket_path))
        except OSError:
            return False
        self._followed = connection
        try:
            connection.send(Hello())
            await lost.wait()
        finally:
            self._followed = None
            self._client.disconnected()
            connection.cut()
        return True

    def _received(self, connection: BusConnection[FromSequencer], message: FromSequencer) -> None:
        if connection is not self._followed:
            return
        self._watchdog.heard()
        match message:
            case Welcome():
                self._client.connected(connection.send)
                self._carried.set()
            case Refusal(reason):
                logger.error("this worker cannot take part in the host bus: %s", reason)
            case _:
                self._client.receive(message)

    async def _lead(self) -> None:
        tenure = Tenure(
            self._socket_path,
            self._lock,
            self._place,
            self._limits,
            clock=self._clock,
            leaves_to_others=self._stands_back,
        )
        self._tenure = tenure
        try:
            await tenure.serve(self._client, self._carried.set)
        except OSError as error:
            logger.error("the host bus cannot listen: %s", error)  # noqa: TRY400  (expected)
            await anyio.sleep(TICK_SECONDS)
        finally:
            self._tenure = None
            self._watchdog.heard()

    def _tidy_up(self) -> None:
        if self._stands_back():  # they need the lock now, and will do it
            self._lock.release()
            return
        # Whoever gets the lock at its end is followed by nobody; else others need these files.
        with contextlib.suppress(OSError):  # the directory is gone, and they with it
            if self._lock.acquire():
                self._socket_path.unlink(missing_ok=True)
        self._lock.release()


if TYPE_CHECKING:
    _: type[Broker] = UnixSocketBroker
