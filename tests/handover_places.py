"""Two workers in one process: real clients, real sockets between them, one stream for both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from starlette.websockets import WebSocket

from lastcall.assembly import Loop, assemble
from lastcall.attachment import PLAIN_TEXT, Terms, attach
from lastcall.broker.base import Broker, BrokerEvents, History, HistoryLimits, Kind, StreamPosition
from lastcall.commands import Commands
from lastcall.connection import Connection
from lastcall.errors import BrokerUnavailable
from lastcall.handover_receiver import HandoverReceiver
from lastcall.handover_sender import HandoverSender
from lastcall.moving import Mover
from lastcall.rulebook import Rulebook
from lastcall.settings import Settings
from lastcall.socket_handover import socket_path
from lastcall.stream_log import Append, StreamLog
from lastcall.uvicorn_host import UvicornHost
from lastcall.worker_record import WorkerRecord
from tests.fakes import FakeCoordinator
from tests.uvicorn_host import Host, hosting

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

CHANNEL = "news"


class Bus:
    """What is published, for everybody who looks at it through a `View`."""

    def __init__(self, size: int = 1000) -> None:
        self.log = StreamLog(HistoryLimits(size, 3600))
        self.views: list[View] = []

    def publish(
        self, text: str | bytes, channel: str = CHANNEL, kind: Kind = Kind.TEXT
    ) -> StreamPosition:
        data = text.encode() if isinstance(text, str) else text
        batch = self.log.prepare([Append(channel, data, kind)], 0)
        self.log.apply(batch)
        for view in self.views:
            view.waiting += batch.publications
            if not view.lags:
                view.deliver()
        position = batch.positions[0]
        assert position is not None
        return position


class View:
    """One worker's broker; it delivers when the test says so, if it *lags*."""

    events: BrokerEvents

    def __init__(self, bus: Bus) -> None:
        self.lags = False
        self.is_away = False
        self.waiting: list[Any] = []
        self._bus = bus
        self._heard: dict[str, StreamPosition] = {}
        bus.views.append(self)

    def deliver(self) -> None:
        """Let the worker hear what it has not heard yet."""
        waiting, self.waiting = self.waiting, []
        for publication in waiting:
            if publication.channel in self._heard:
                position = StreamPosition(publication.offset, publication.epoch)
                self._heard[publication.channel] = position
                self.events.deliver(publication)

    async def run(self, events: BrokerEvents, *, task_status: "TaskStatus[None]") -> None:
        raise NotImplementedError

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        kind: Kind = Kind.TEXT,
        about: bytes = b"",
        idempotency_key: str = "",
    ) -> "asyncio.Future[StreamPosition]":
        assert (about, idempotency_key) == (b"", "")
        future: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
        future.set_result(self._bus.publish(data, channel, kind))
        return future

    async def subscribe(self, channel: str) -> StreamPosition:
        if self.is_away:
            raise BrokerUnavailable("away")
        if channel not in self._heard:
            self._heard[channel] = self._bus.log.position(channel, 0)
        return self._heard[channel]

    def unsubscribe(self, channel: str) -> None:
        self._heard.pop(channel, None)

    async def history(
        self, channel: str, since: StreamPosition | None = None, limit: int | None = None
    ) -> History:
        return self._bus.log.history(channel, since, limit, 0)

    async def clear(self, channel: str) -> None:
        self._bus.log.clear(channel)


class Place:
    """One worker, put together as the lifespan does it, without the tasks that it does not need."""

    def __init__(self, bus: Bus, run_dir: Path, pid: int, **settings: Any) -> None:
        self.pid = pid
        self.is_leaving = False
        limits = {"max_backlog": 50_000_000, "max_connections": 100}
        rules = Rulebook.by(Settings(**{**limits, **settings}))
        self.endpoints = rules.endpoints
        self.ends: list[int] = []
        self.view = View(bus)
        hooks = self.endpoints[""]
        hooks.on_message = lambda _, message: self.view.publish(CHANNEL, str(message).encode())
        hooks.on_disconnect = lambda _, code: self.ends.append(code)
        self.tasks: set[asyncio.Task[None]] = set()
        self.coordinator = FakeCoordinator()
        self.worker = assemble(
            rules,
            Commands(self.endpoints, self._start, print, settings.get("message_rate", 0)),
            Loop(asyncio.get_running_loop().call_soon, changed=lambda: None),
            self.view,
            self.coordinator,
        )
        self.hub = self.view.events = self.worker.hub
        self.path = socket_path(run_dir, pid)
        self._run_dir = run_dir
        self.host: Host
        self.mover: Mover
        self.sender: HandoverSender

    @property
    def record(self) -> WorkerRecord:
        return WorkerRecord(self.pid, state="ready", connections=self.worker.connections.count)

    @property
    def announced(self) -> dict[str, int]:
        """What the others would have to say, were this worker killed."""
        return self.coordinator.announced

    @property
    def connection(self) -> Connection:
        """The only one that could move."""
        (connection,) = self.worker.connections.movable()
        return connection

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve clients, and take connections over."""
        async with hosting(self._app, interface="asgi3") as self.host:
            self.mover = Mover(self.worker, UvicornHost(self.host.server))
            self.sender = HandoverSender(self.worker, self.mover, self._run_dir)
            receiver = HandoverReceiver(self.worker, self.mover, self.path, lambda: self.is_leaving)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receiver.run)
                await self.host.until(self.path.exists)
                yield
                tasks.cancel_scope.cancel()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        terms = Terms("", "somebody", (CHANNEL,), None, PLAIN_TEXT)
        if scope["path"].endswith("/sdk"):
            terms = Terms("", "somebody", (), None, "centrifuge-json")
        await attach(self.worker, WebSocket(scope, receive, send), terms)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


@asynccontextmanager
async def two_places(
    run_dir: Path, *, history: int = 1000, **settings: Any
) -> AsyncIterator[tuple[Place, Place, Bus]]:
    """A worker that will leave, a ready one, and what is published to both."""
    bus = Bus(history)
    old, new = Place(bus, run_dir, 1001, **settings), Place(bus, run_dir, 1002, **settings)
    async with old.open(), new.open():
        yield old, new, bus


if TYPE_CHECKING:
    _: type[Broker] = View
