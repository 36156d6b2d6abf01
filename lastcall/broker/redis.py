"""The broker of the workers of many hosts: streams in Redis, told by its pub/sub.

See docs/decisions/redis.md for the whole picture. Each worker has two connections to a server, one
that asks (`redis_line`) and one that hears (`redis_ear`); `redis_lua` has what is one step in
Redis, and `following` decides what is delivered of what is heard.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import anyio

from lastcall.broker.availability import Availability
from lastcall.broker.base import (
    Broker,
    BrokerEvents,
    History,
    Kind,
    Retention,
    StreamPosition,
)
from lastcall.broker.heard_channels import HeardChannels, fail
from lastcall.broker.redis_address import Kind as Setup
from lastcall.broker.redis_address import RedisAddress, address
from lastcall.broker.redis_cluster import RedisCluster
from lastcall.broker.redis_ear import Listener, RedisEar
from lastcall.broker.redis_line import RedisLine
from lastcall.broker.redis_names import Names
from lastcall.broker.redis_node import RedisNode
from lastcall.broker.redis_sentinel import SentinelMaster
from lastcall.broker.redis_server import RedisServer
from lastcall.broker.redis_streams import RedisStreams
from lastcall.errors import BrokerUnavailable, SettingsError

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

logger = logging.getLogger(__name__)

NOT_RUNNING = "the broker is not running"
TICK_SECONDS = 0.5


class RedisBroker:
    """Carries publications between all workers that use the same Redis and the same *prefix*."""

    def __init__(
        self,
        url: str,
        limits: Retention,
        *,
        prefix: str = "lastcall",
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Use the Redis at *url*; the time is its own where there is no *clock*.

        Raises:
            SettingsError: it is no such URL.
        """
        try:
            place = address(url)
            server = RedisServer(place.server_url)
        except ValueError as error:
            raise SettingsError(f"LASTCALL_BROKER_URL cannot be used: {error}") from error
        self._names = Names(prefix, server.database)
        self._site, self._name = self._site_at(place, server)
        self._streams = RedisStreams(self._site.put, self._names, limits, clock)
        self._channels = HeardChannels(
            "Redis", partial(self._streams.read, was_there=True), self._want
        )
        self._events: BrokerEvents | None = None
        self._availability = Availability()

    @property
    def name(self) -> str:
        """What may be shown of where it is."""
        return self._name

    async def run(self, events: BrokerEvents, *, task_status: "TaskStatus[None]") -> None:
        """Carry publications until cancelled; see `Broker.run`."""
        self._events = events
        self._channels.open(events)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._tick)
                tasks.start_soon(self._site.run)
                await self._availability.carried.wait()
                task_status.started()
        finally:
            self._events = None
            self._site.close(NOT_RUNNING)
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
        return self._streams.publish(channel, data, kind=kind, about=about, key=idempotency_key)

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

    def _site_at(
        self, place: RedisAddress, server: RedisServer
    ) -> tuple[RedisNode | RedisCluster, str]:
        """What asks and hears for us, and what may be shown of where that is."""
        listener = Listener(self._heard, self._confirmed, self._deaf_to_all)
        if place.kind is Setup.CLUSTER:
            cluster = RedisCluster(
                server, place.hosts, listener, self._deaf, self._tell_availability
            )
            return cluster, cluster.name
        found: RedisServer | SentinelMaster = server
        if place.kind is Setup.SENTINEL:
            sentinels = RedisServer(place.sentinel_url)
            found = SentinelMaster(server, sentinels, place.hosts, place.service)
        ear = RedisEar(listener)
        node = RedisNode(found.found, RedisLine(), ear, self._wanted, self._tell_availability)
        return node, found.name

    def _wanted(self) -> Iterable[bytes]:
        return map(self._names.told, self._channels.wanted)

    def _want(self, channel: str, yes: bool) -> None:  # noqa: FBT001  (one fact, one argument)
        self._site.want(self._names.told(channel), yes=yes)

    def _heard(self, name: bytes, told: bytes) -> None:
        try:
            publication = self._names.heard(name, told)
        except ValueError as error:
            logger.warning("somebody else publishes to %r in Redis: %s", name, error)
        else:
            self._channels.heard(publication)

    def _confirmed(self, name: bytes) -> None:
        self._channels.confirmed(self._names.channel(name))

    def _deaf(self, names: Iterable[bytes]) -> None:
        self._channels.deaf(map(self._names.channel, names))

    def _deaf_to_all(self) -> None:
        self._channels.deaf(self._channels.wanted)

    async def _tick(self) -> None:
        while True:
            await anyio.sleep(TICK_SECONDS)
            now = anyio.current_time()
            self._site.tick(now)
            self._channels.tick(now)
            self._tell_availability()

    def _tell_availability(self) -> None:
        site = self._site
        self._availability.tell(
            self._events, yes=site.is_available, name=self.name, problem=site.problem
        )

    def _require_running(self) -> None:
        if self._events is None:
            raise BrokerUnavailable(NOT_RUNNING)


if TYPE_CHECKING:
    _: type[Broker] = RedisBroker
