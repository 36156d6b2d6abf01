"""One connection to Redis that hears: the names wanted by this worker and no others."""

from collections.abc import Callable, Iterable
from itertools import batched

import anyio
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection

NAMES_AT_ONCE = 500
"""In one command; the server does nothing else while it works on one."""
SILENCE_SECONDS = 5.0
"""After which a connection is given up; it is asked for a sign of life twice a second."""

type Message = Callable[[bytes, bytes], object]
"""Takes a name, and what was told under it."""
type Confirmed = Callable[[bytes], object]
"""Takes a name: what is told under it from here on comes."""


class RedisEar:
    """Hears what is told under names, over whatever connection there is."""

    def __init__(self, message: Message, confirmed: Confirmed, deaf: Callable[[], object]) -> None:
        """Pass on what is heard, and that nothing is; all are plain calls and never raise."""
        self._message = message
        self._confirmed = confirmed
        self._deaf = deaf
        self._wishes: dict[bytes, bool] = {}
        self._wished = anyio.Event()
        self._cut: anyio.CancelScope | None = None
        self._heard = 0.0

    def want(self, name: bytes, *, yes: bool) -> None:
        """Hear *name* from now on, or no more; without a connection `serve` is told of all."""
        if self._cut is not None:
            self._wishes.pop(name, None)  # the later wish is the last in line
            self._wishes[name] = yes
            self._wished.set()

    async def serve(self, connection: AbstractConnection, names: Iterable[bytes]) -> None:
        """Hear *names*, and what is wanted meanwhile, until *connection* is lost.

        Raises:
            redis.RedisError, OSError: it was, or nothing is heard any more.
        """
        self._heard = anyio.current_time()
        self._wishes = dict.fromkeys(names, True)
        self._wished = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                self._cut = tasks.cancel_scope
                tasks.start_soon(self._write, connection)
                tasks.start_soon(self._read, connection)
            raise ConnectionError("nothing is heard any more")
        finally:
            self._cut = None
            self._deaf()

    def expire(self, now: float) -> None:
        """Give a connection up that says nothing; ask it for a sign of life."""
        if self._cut is None:
            return
        if now > self._heard + SILENCE_SECONDS:
            self._cut.cancel()
        else:
            self._wished.set()

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            self._wished = anyio.Event()
            wishes, self._wishes = self._wishes, {}
            commands = [
                (b"SUBSCRIBE" if yes else b"UNSUBSCRIBE", *some)
                for yes in (True, False)
                for some in batched([n for n, wish in wishes.items() if wish is yes], NAMES_AT_ONCE)
            ]
            for command in commands or [(b"PING",)]:
                packed = pack_command(command)  # type: ignore[arg-type]  # of any length
                await connection.send_packed_command(packed, check_health=False)
            await self._wished.wait()

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            match await connection.read_response(disable_decoding=True):
                case [b"message", bytes(name), bytes(told)]:
                    self._message(name, told)
                case [b"subscribe", bytes(name), _]:
                    self._confirmed(name)
                case _:
                    pass  # a pong, or the end of what was not wanted any more
            self._heard = anyio.current_time()
