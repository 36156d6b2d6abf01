"""The master of a service, as its sentinels name it: asked for at every connect, and looked after.

A failover has a number of its own, which all sentinels agree on and which only grows: whoever says
an older one than we have heard has not heard of it yet, and is not believed.
"""

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from lastcall.broker.redis_address import Place, shown
from lastcall.broker.redis_scripts import Standing
from lastcall.broker.redis_server import RedisServer, ask, require_master

WATCH_SECONDS = 1.0
"""Between two questions whether it is still the master; a cut-off one does not know better."""


class Named(NamedTuple):
    """What a sentinel says: the master, and the number of the failover that made it one."""

    failover: int
    place: Place


class SentinelMaster:
    """Whoever is the master of a service now."""

    def __init__(
        self, servers: RedisServer, sentinels: RedisServer, places: tuple[Place, ...], service: str
    ) -> None:
        """Ask the *sentinels* at these places; connect to the *servers* that they name."""
        self._servers = servers
        self._sentinels = sentinels
        self._places = deque(places)
        self._service = service
        self._last = 0

    @property
    def database(self) -> int:
        """The number of the database."""
        return self._servers.database

    @property
    def name(self) -> str:
        """What may be shown of it: no user and no password."""
        places = ", ".join(f"{host}:{port}" for host, port in self._places)
        return f"redis {self._service}, watched by sentinels at {places}, database {self.database}"

    @asynccontextmanager
    async def found(self) -> AsyncIterator[tuple[AbstractConnection, Standing]]:
        """Connect to the master, until the sentinels name another; see `RedisNode`."""
        named = await self._ask_around()
        async with self._servers.connected(named.place) as connection:
            await require_master(connection, named.place)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, named)
                yield connection, Standing(reign=f"failover-{named.failover}")
                tasks.cancel_scope.cancel()

    async def _ask_around(self) -> Named:
        """Ask one after the other, a different one first each time."""
        problem: Exception = ConnectionError("no sentinel answers")
        outdated: Named | None = None
        for place in self._turned():
            try:
                async with self._sentinels.connected(place) as connection:
                    named = await self._ask(connection)
            except (RedisError, OSError) as error:
                problem = ConnectionError(f"sentinel at {shown(place)}: {error}")
                continue
            if named.failover >= self._last:
                self._last = named.failover
                return named
            outdated = outdated or named
        if outdated is None:
            raise problem
        # All of them count anew: the service was taken from them and given to them again.
        self._last = outdated.failover
        return outdated

    def _turned(self) -> list[Place]:
        self._places.rotate(-1)
        return list(self._places)

    async def _ask(self, connection: AbstractConnection) -> Named:
        # In this order: who names the new master has counted its failover already.
        place = await ask(connection, "SENTINEL", "get-master-addr-by-name", self._service)
        if place is None:
            raise ConnectionError(f"there is no service {self._service!r}")
        told = await ask(connection, "SENTINEL", "MASTER", self._service)
        facts = dict(zip(told[::2], told[1::2], strict=True))
        host, port = place
        return Named(int(facts.get(b"config-epoch", 0)), (host.decode(), int(port)))

    async def _watch(self, named: Named) -> None:
        """Raise as soon as a sentinel names another: the old master may not know of it."""
        while True:
            # A sentinel less is no reason: the master is as good as before.
            with contextlib.suppress(RedisError, OSError):
                now = await self._other_than(named, self._turned()[0])
                if now.failover >= named.failover:
                    break
            await anyio.sleep(WATCH_SECONDS)
        raise ConnectionError(f"the sentinels name {shown(now.place)} as master now")

    async def _other_than(self, named: Named, place: Place) -> Named:
        async with self._sentinels.connected(place) as connection:
            while True:
                now = await self._ask(connection)
                if now != named:
                    return now
                await anyio.sleep(WATCH_SECONDS)
