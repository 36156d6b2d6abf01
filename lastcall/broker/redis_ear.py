"""One connection to a Redis that hears: the names wanted by this worker and no others."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import batched

import anyio
import anyio.lowlevel
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError

from lastcall.broker.redis_question import packed

NAMES_AT_ONCE = 500
"""In one write; the server does nothing else while it works on one."""
SILENCE_SECONDS = 5.0
"""After which a connection is given up; it is asked for a sign of life twice a second."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Whoever is told what is heard; all are plain calls and never raise."""

    message: Callable[[bytes, bytes], object]
    """Takes a name, and what was told under it."""
    confirmed: Callable[[bytes], object]
    """Takes a name: what is told under it from here on comes."""
    deaf: Callable[[], object]
    """Nothing is heard any more."""
    left: Callable[[bytes], object] = lambda _: None
    """Takes a name: nothing is told here under it any more, asked for or not."""
    moved: Callable[[MovedError], object] = lambda _: None
    """Takes an answer to a wish: the slot of the name is elsewhere."""


class RedisEar:
    """Hears what is told under names, over whatever connection there is."""

    def __init__(self, listener: Listener) -> None:
        """Pass on what is heard."""
        self._listener = listener
        self._wishes: dict[bytes, bool] = {}
        self._wished = anyio.Event()
        self._cut: anyio.CancelScope | None = None
        self._heard = 0.0
        self._is_of_slots = False

    def want(self, name: bytes, *, yes: bool) -> None:
        """Hear *name* from now on, or no more; without a connection `serve` is told of all."""
        if self._cut is not None:
            self._wishes.pop(name, None)  # the later wish is the last in line
            self._wishes[name] = yes
            self._wished.set()

    def leave(self, name: bytes) -> None:
        """Another server tells *name* now."""
        if self._is_of_slots:
            self._wishes.pop(name, None)  # the server lets go of it by itself
        else:
            self.want(name, yes=False)

    async def serve(
        self, connection: AbstractConnection, names: Iterable[bytes], *, is_of_slots: bool = False
    ) -> None:
        """Hear *names*, and what is wanted meanwhile, until *connection* is lost.

        With *is_of_slots* by the pub/sub that tells only the server that owns a name's slot.

        Raises:
            redis.RedisError, OSError: it was, or nothing is heard any more.
        """
        self._heard = anyio.current_time()
        self._is_of_slots = is_of_slots
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
            self._listener.deaf()

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
            for command, yes in ((b"SUBSCRIBE", True), (b"UNSUBSCRIBE", False)):
                names = [name for name, wish in wishes.items() if wish is yes]
                for some in batched(names, NAMES_AT_ONCE):
                    write = self._packed(command, some)
                    await connection.send_packed_command(write, check_health=False)
                    await anyio.lowlevel.checkpoint()  # there may be a hundred thousand
            if not wishes:
                ping = packed((b"PING",))
                await connection.send_packed_command(ping, check_health=False)
            await self._wished.wait()

    def _packed(self, command: bytes, names: tuple[bytes, ...]) -> bytes:
        if not self._is_of_slots:
            return packed((command, *names))
        # All names of one command would have to be of one slot, and few of them are.
        return b"".join(packed((b"S" + command, name)) for name in names)

    async def _read(self, connection: AbstractConnection) -> None:
        told, clock = self._listener, asyncio.get_running_loop().time
        while True:
            try:
                answer = await connection.read_response(disable_decoding=True)
            except MovedError as error:
                answer = None
                told.moved(error)
            match answer:
                case [b"message" | b"smessage", bytes(name), bytes(message)]:
                    told.message(name, message)
                case [b"subscribe" | b"ssubscribe", bytes(name), _]:
                    told.confirmed(name)
                case [b"unsubscribe" | b"sunsubscribe", bytes(name), _]:
                    told.left(name)
                case _:
                    pass  # a pong
            self._heard = clock()
