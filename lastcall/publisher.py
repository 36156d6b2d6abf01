"""Publishes from another process of the host, over the workers' bus, without being a worker."""

import asyncio
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from lastcall.broker.base import BrokerEvents, Publication, StreamPosition, not_owed
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
from lastcall.errors import BrokerUnavailable
from lastcall.payload import Payload, encode
from lastcall.run_directory import all_below
from lastcall.settings_file import configured_run_dir
from lastcall.stream_log import Append
from lastcall.worker_coordinator import records_in

TICK_SECONDS = 0.5
SILENCE_SECONDS = 3.0
"""After which a sequencer that says nothing is taken for dead; it answers twice a second."""
RETRY_SECONDS = 0.05
_SOCKET = "bus.sock"


class Publisher:
    """Publishes to the server of this host: for a worker of a task queue, a cron job, a script.

    ``async with Publisher() as publisher`` or ``with Publisher() as publisher``. It has to run as
    the server's user, and to read the same `LASTCALL_RUN_DIR`, if that is set. The server needs its
    bus: several workers, or `LASTCALL_BROKER_URL=unix:`. Make it after a fork, not before.
    """

    def __init__(self, *, run_dir: Path | str | None = None, timeout: float = 10.0) -> None:
        """Look for the server below *run_dir*; by default where the settings say.

        *timeout* is how many seconds a publication may take, through a restart of the server.
        """
        self._base = Path(run_dir) if run_dir is not None else configured_run_dir()
        self._timeout = timeout
        self._client = BusClient()
        self._connection: BusConnection[FromSequencer] | None = None
        self._heard = 0.0
        self._problem = "no server runs here"
        self._stack: AsyncExitStack | None = None
        self._portal: BlockingPortal | None = None
        self._threads = ExitStack()

    async def __aenter__(self) -> Self:
        """Begin to look for the server; does not wait for it."""
        async with AsyncExitStack() as stack:
            self._client.open(_NOBODY)
            stack.callback(self._client.close)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            tasks.start_soon(self._follow)
            tasks.start_soon(self._tick)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bus."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.__aexit__(kind, error, traceback)

    def __enter__(self) -> Self:
        """Do the same in a thread of its own, for `publish_sync`."""
        with ExitStack() as threads:
            portal = threads.enter_context(start_blocking_portal())
            threads.enter_context(portal.wrap_async_context_manager(self))
            self._portal, self._threads = portal, threads.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bus and end the thread."""
        self._portal = None
        self._threads.__exit__(kind, error, traceback)

    async def publish(
        self, channel: str, payload: Payload, *, idempotency_key: str = ""
    ) -> StreamPosition:
        """Publish like `Lastcall.publish`: returns when it is stored.

        Raises:
            BrokerUnavailable: it was not accepted, or this cannot be known in time. With an
                *idempotency_key* it can be tried again without harm.
            RuntimeError: the publisher is not entered.
        """
        if self._stack is None:
            raise RuntimeError("a Publisher publishes inside `async with` or `with`")
        data, kind = encode(payload)
        stored = self._client.publish(Append(channel, data, kind, idempotency_key))
        stored.add_done_callback(not_owed)
        await asyncio.wait({stored}, timeout=self._timeout)
        if not stored.done():
            raise BrokerUnavailable(f"not accepted within {self._timeout:g} s: {self._problem}")
        return stored.result()

    def publish_sync(
        self, channel: str, payload: Payload, *, idempotency_key: str = ""
    ) -> StreamPosition:
        """Publish from a plain function, inside ``with Publisher()``; see `publish`."""
        if self._portal is None:
            raise RuntimeError("publish_sync needs `with Publisher()`; else await publish")
        return self._portal.call(
            partial(self.publish, channel, payload, idempotency_key=idempotency_key)
        )

    async def _follow(self) -> None:
        while True:
            path = await anyio.to_thread.run_sync(self._find)
            if path is not None:
                await self._stay_with(path)
            await anyio.sleep(RETRY_SECONDS)

    def _find(self) -> Path | None:
        """The socket of the one server here: not of one that leaves, if there is another."""
        found: dict[Path, bool] = {}
        for directory in all_below(self._base):
            states = {each.state for each in records_in(directory) if not each.has_left}
            path = directory.path / _SOCKET
            if states and path.exists():
                found[path] = "ready" in states
        best = [path for path, is_ready in found.items() if is_ready] or list(found)
        if len(best) == 1:
            return best[0]
        self._problem = (
            "several servers run here: give each a LASTCALL_RUN_DIR of its own"
            if best
            else "no server with a bus runs here (it needs several workers, or "
            "LASTCALL_BROKER_URL=unix:)"
        )
        return None

    async def _stay_with(self, path: Path) -> None:
        lost, loop = anyio.Event(), asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(
                lambda: BusConnection(DECODE_FROM_SEQUENCER, self._received, lambda _: lost.set()),
                str(path),
            )
        except OSError as error:
            self._problem = f"the server does not answer ({error.strerror})"
            return
        self._connection, self._heard = connection, loop.time()
        try:
            connection.send(Hello())
            await lost.wait()
        finally:
            self._connection = None
            self._client.disconnected()
            connection.cut()

    def _received(self, connection: BusConnection[FromSequencer], message: FromSequencer) -> None:
        self._heard = asyncio.get_running_loop().time()
        match message:
            case Welcome():
                self._problem = "the server is busy"
                self._client.connected(connection.send)
            case Refusal(reason):
                self._problem = reason
            case _:
                self._client.receive(message)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await anyio.sleep(TICK_SECONDS)
            self._client.expire(loop.time())
            if self._connection is None:
                continue
            if loop.time() > self._heard + SILENCE_SECONDS:
                self._problem = "the server hangs"
                self._connection.cut()
            else:
                self._connection.send(Ping())


class _Nobody:
    """Hears nothing: who only publishes subscribes to nothing."""

    def deliver(self, publication: Publication, /) -> None:
        pass

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        pass

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (the seam has it so)
        pass


_NOBODY = _Nobody()

if TYPE_CHECKING:
    _: BrokerEvents = _NOBODY
