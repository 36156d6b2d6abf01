"""The broker of a single worker: nothing beside it, nothing between publishing and delivering."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from lastcall.broker.base import (
    Broker,
    BrokerEvents,
    History,
    Kind,
    Retention,
    StreamPosition,
)
from lastcall.errors import BrokerUnavailable
from lastcall.stream_log import Append, StreamLog

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

EXPIRE_INTERVAL = 1.0
"""Seconds between two looks for history that is too old."""


class MemoryBroker:
    """Keeps all channels in this process; they end with it.

    Delivers within `publish`, before it returns. Each start is a new epoch.
    """

    def __init__(self, limits: Retention, *, clock: Callable[[], float] = time.time) -> None:
        """Remember as much as *limits* allow, by *clock*."""
        self._log = StreamLog(limits)
        self._clock = clock
        self._subscribed: set[str] = set()
        self._events: BrokerEvents | None = None

    async def run(self, events: BrokerEvents, *, task_status: "TaskStatus[None]") -> None:
        """Carry publications until cancelled."""
        self._events = events
        try:
            events.available(True)  # noqa: FBT003  (one fact, one argument)
            task_status.started()
            while True:
                await anyio.sleep(EXPIRE_INTERVAL)
                self._log.expire(self._clock(), self._subscribed)
        finally:
            self._events = None

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        kind: Kind = Kind.TEXT,
        about: bytes = b"",
        idempotency_key: str = "",
    ) -> "asyncio.Future[StreamPosition]":
        """Append to the channel's stream and deliver to its subscriber; see `Broker.publish`."""
        future: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
        if self._events is None:
            future.set_exception(BrokerUnavailable("the broker is not running"))
            return future
        append = Append(channel, data, kind, idempotency_key, about)
        batch = self._log.prepare((append,), self._clock())
        self._log.apply(batch)
        if batch.publications and channel in self._subscribed:
            self._events.deliver(batch.publications[0])
        future.set_result(batch.positions[0])  # type: ignore[arg-type]  # no publisher, no double
        return future

    async def subscribe(self, channel: str) -> StreamPosition:
        """Start delivering *channel*; see `Broker.subscribe`."""
        self._require_running()
        self._subscribed.add(channel)
        return self._log.position(channel, self._clock())

    def unsubscribe(self, channel: str) -> None:
        """Stop delivering *channel*; unknown channels are ignored."""
        self._subscribed.discard(channel)

    async def history(
        self, channel: str, since: StreamPosition | None = None, limit: int | None = None
    ) -> History:
        """Read what the channel remembers; see `Broker.history`."""
        self._require_running()
        return self._log.history(channel, since, limit, self._clock())

    async def clear(self, channel: str) -> None:
        """Forget what *channel* remembers; see `Broker.clear`."""
        self._require_running()
        self._log.clear(channel)

    def _require_running(self) -> None:
        if self._events is None:
            raise BrokerUnavailable("the broker is not running")


if TYPE_CHECKING:
    _: type[Broker] = MemoryBroker
