"""The broker of the workers of many hosts: streams in NATS JetStream, told by its republishing.

See docs/decisions/nats.md for the whole picture. Each worker has one connection (`nats_line`),
which asks and hears. `nats_appender` numbers what is published, `nats_streams` reads it, and
`following` decides what is delivered of what is heard.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from lastcall.broker.availability import Availability
from lastcall.broker.base import (
    Broker,
    BrokerEvents,
    History,
    Kind,
    Retention,
    StreamPosition,
)
from lastcall.broker.following import Page
from lastcall.broker.heard_channels import HeardChannels, fail
from lastcall.broker.nats_appender import NatsAppender
from lastcall.broker.nats_line import NatsLine
from lastcall.broker.nats_messages import Kept, decode, publications
from lastcall.broker.nats_names import Names
from lastcall.broker.nats_server import NatsConnection, NatsServer
from lastcall.broker.nats_setup import look_at, set_up
from lastcall.broker.nats_streams import NatsStreams
from lastcall.broker.nats_wire import Message
from lastcall.broker.reconnecting import Complaints, keep_up
from lastcall.errors import BrokerUnavailable, SettingsError

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

logger = logging.getLogger(__name__)

NOT_RUNNING = "the broker is not running"
TICK_SECONDS = 0.5
LOOK_SECONDS = 5.0
FAILURES = (OSError, ValueError, BrokerUnavailable)
"""After which the connection is made anew."""


class NatsBroker:
    """Carries publications between all workers that use the same NATS and the same *prefix*."""

    def __init__(
        self,
        url: str,
        limits: Retention,
        *,
        prefix: str = "lastcall",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use the NATS at *url*.

        Raises:
            SettingsError: it is no such URL.
        """
        try:
            self._server = NatsServer(url)
        except ValueError as error:
            raise SettingsError(f"LASTCALL_BROKER_URL cannot be used: {error}") from error
        self._names = Names(prefix)
        self._line = NatsLine(self._heard)
        self._streams = NatsStreams(self._line, self._names, limits, clock)
        self._appender = NatsAppender(self._line, self._streams)
        self._channels = HeardChannels("NATS", self._read, self._want)
        self._events: BrokerEvents | None = None
        self._tasks: TaskGroup | None = None
        self._availability = Availability()
        self._complaints = Complaints()

    @property
    def name(self) -> str:
        """What may be shown of where it is."""
        return self._server.name

    async def run(self, events: BrokerEvents, *, task_status: "TaskStatus[None]") -> None:
        """Carry publications until cancelled; see `Broker.run`."""
        self._events = events
        self._channels.open(events)
        try:
            async with anyio.create_task_group() as self._tasks:
                self._appender.open(self._tasks)
                self._tasks.start_soon(self._tick)
                self._tasks.start_soon(
                    keep_up, self._serve, FAILURES, self._away, self._tell_availability
                )
                await self._availability.carried.wait()
                task_status.started()
        finally:
            self._events = self._tasks = None
            self._appender.close(NOT_RUNNING)
            self._line.close(NOT_RUNNING)
            self._channels.close(NOT_RUNNING)

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
        if self._events is None:
            refused: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
            fail(refused, NOT_RUNNING)
            return refused
        return self._appender.publish(channel, data, kind=kind, about=about, key=idempotency_key)

    async def subscribe(self, channel: str) -> StreamPosition:
        """Start delivering *channel*; see `Broker.subscribe`."""
        self._require_running()
        return await self._channels.subscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        """Stop delivering *channel*; unknown channels are ignored."""
        self._channels.unsubscribe(channel)

    async def history(
        self, channel: str, since: StreamPosition | None = None, limit: int | None = None
    ) -> History:
        """Read what the channel remembers; see `Broker.history`."""
        self._require_running()
        return await self._streams.history(channel, since, limit)

    async def clear(self, channel: str) -> None:
        """Forget what *channel* remembers; see `Broker.clear`."""
        self._require_running()
        await self._streams.clear(channel)

    async def _serve(self) -> None:
        async with self._server.connected() as connection:
            try:
                await self._line.serve(connection, self._prepare, self._opened)
            finally:
                self._channels.deaf(self._channels.wanted)

    async def _prepare(self, connection: NatsConnection) -> None:
        wish = self._streams.wish(self._server.replicas)
        await set_up(self._line, self._names, wish, connection.version)
        self._appender.connected(connection.max_payload)

    def _opened(self) -> None:
        for channel in self._channels.wanted:
            self._want(channel, True)  # noqa: FBT003  (one fact, one argument)
        self._tell_availability()

    def _want(self, channel: str, yes: bool) -> None:  # noqa: FBT001  (one fact, one argument)
        if not yes:
            self._line.unhear(channel)
        elif self._line.is_open:
            self._line.hear(channel, self._names.told(channel))
            # What is asked after this is answered after it: the reading that follows finds all
            # that was stored before NATS knew that we hear.
            self._channels.confirmed(channel)

    def _heard(self, channel: str, message: Message) -> None:
        try:
            sequence, stored = int(message.header(b"Nats-Sequence")), decode(message.payload)
        except ValueError as error:
            logger.warning("somebody else publishes to %r in NATS: %s", channel, error)
            return
        self._appender.saw(channel, Kept(sequence, stored))
        for publication in publications(channel, stored):
            self._channels.heard(publication)
        if not stored.entries:
            # Where the channel stands is said, and it may stand elsewhere than we think.
            self._channels.confirmed(channel)

    def _read(
        self, channel: str, since: StreamPosition | None, limit: int
    ) -> "asyncio.Future[Page]":
        answer: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        if self._tasks is None:
            fail(answer, NOT_RUNNING)
        else:
            self._tasks.start_soon(self._read_into, answer, channel, since, limit)
        return answer

    async def _read_into(
        self,
        answer: "asyncio.Future[Page]",
        channel: str,
        since: StreamPosition | None,
        limit: int,
    ) -> None:
        try:
            answer.set_result(await self._streams.read(channel, since, limit, was_there=True))
        except BrokerUnavailable as problem:
            answer.set_exception(problem)

    async def _tick(self) -> None:
        next_look = 0.0
        while True:
            await anyio.sleep(TICK_SECONDS)
            now = anyio.current_time()
            if self._line.is_open and now >= next_look:
                # The server may be there, and the stream gone or without its leader.
                look_at(self._line, self._names)
                next_look = now + LOOK_SECONDS
            self._line.expire(now)
            self._appender.expire(now)
            self._channels.tick(now)

    def _tell_availability(self) -> None:
        if self._line.is_open:
            self._complaints.settled()
        self._availability.tell(
            self._events, yes=self._line.is_open, name=self.name, problem=self._line.problem
        )

    def _away(self, reason: str) -> None:
        self._line.problem = f"NATS is away: {reason}"
        self._complaints.tell(self._line.problem)

    def _require_running(self) -> None:
        if self._events is None:
            raise BrokerUnavailable(NOT_RUNNING)


if TYPE_CHECKING:
    _: type[Broker] = NatsBroker
