"""Where Redis is, and a connection to it that is ready to be used or not there at all."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import signature

import anyio
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

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
        where = self._pool.connection_kwargs
        place = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        return f"redis at {place}, database {self.database}"

    @asynccontextmanager
    async def connected(self, *scripts: bytes) -> AsyncIterator[AbstractConnection]:
        """Connect, let the server know *scripts*; the connection ends with the block.

        Raises:
            redis.RedisError, OSError: that could not be done in time, or the block raised it.
        """
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        writer = None
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
                writer = connection._writer  # noqa: SLF001  (it forgets it while it still sends)
                for script in scripts:
                    await connection.send_command("SCRIPT", "LOAD", script)
                    await connection.read_response()
            yield connection
        finally:
            if writer is not None:
                writer.transport.abort()  # closing alone would wait until all was sent
            with anyio.CancelScope(shield=True):
                await connection.disconnect(nowait=True)
