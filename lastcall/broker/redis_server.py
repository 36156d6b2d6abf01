"""A connection to one Redis that is ready to be used, or not there at all."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import signature
from typing import Any

import anyio
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from lastcall.broker.redis_address import Place, shown
from lastcall.broker.redis_scripts import Standing

CONNECT_SECONDS = 3.0


class RedisServer:
    """One server, by its URL."""

    def __init__(self, url: str) -> None:
        """Take *url* as redis-py does: its query names further options.

        Raises:
            ValueError: it is none.
        """
        pool = ConnectionPool.from_url(
            url,
            client_name=f"lastcall-{os.getpid()}",
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_SECONDS,
        )
        # What is read and heard here is bytes, in the older of the two forms, and waited for by us.
        pool.connection_kwargs |= {"decode_responses": False, "protocol": 2, "socket_timeout": None}
        if "driver_info" in signature(AbstractConnection.__init__).parameters:
            # Newer versions tell the server theirs, and read a file to know it, each time.
            pool.connection_kwargs["driver_info"] = None
        self._pool = pool

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self._pool.connection_kwargs.get("db") or 0)

    @property
    def name(self) -> str:
        """What may be shown of it: no user and no password."""
        return f"redis at {self.place}, database {self.database}"

    @property
    def place(self) -> str:
        """Its host and port, or its socket."""
        where = self._pool.connection_kwargs
        return where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"

    @asynccontextmanager
    async def connected(self, at: Place | None = None) -> AsyncIterator[AbstractConnection]:
        """Connect, to another one of the same kind if it is *at* a host and port.

        The connection ends with the block.

        Raises:
            redis.RedisError, OSError: that could not be done in time, or the block raised it.
        """
        options: dict[str, Any] = dict(self._pool.connection_kwargs)
        if at is not None:
            options["host"], options["port"] = at
        connection: AbstractConnection = self._pool.connection_class(**options)
        writer = None
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
                writer = connection._writer  # noqa: SLF001  (it forgets it while it still sends)
            yield connection
        finally:
            if writer is not None:
                writer.transport.abort()  # closing alone would wait until all was sent
            with anyio.CancelScope(shield=True):
                await connection.disconnect(nowait=True)

    @asynccontextmanager
    async def found(self) -> AsyncIterator[tuple[AbstractConnection, Standing]]:
        """Connect; see `RedisNode`."""
        async with self.connected() as connection:
            yield connection, Standing()


async def require_master(connection: AbstractConnection, place: Place) -> None:
    """See that it is no replica.

    Raises:
        redis.RedisError, OSError: it is one, or did not answer in time.
    """
    try:
        role, *_ = await ask(connection, "ROLE")
    except ResponseError:
        return  # we may not ask; a replica refuses whatever else we want
    if role != b"master":
        raise ConnectionError(f"{shown(place)} is not a master yet, or no more")


async def ask(connection: AbstractConnection, *words: str | bytes) -> Any:
    """Ask one thing on a connection that nobody else uses.

    Raises:
        redis.RedisError, OSError: it was refused, or not answered in time.
    """
    with anyio.fail_after(CONNECT_SECONDS):
        await connection.send_command(*words)
        return await connection.read_response()
