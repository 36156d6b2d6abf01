"""One connection to Redis for questions: in order, many under way at once, each bounded in time.

What is asked in one turn of the event loop leaves in one write. A connection that is lost takes
with it what it had been asked; what had not left yet waits for the next one, while it may.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from lastcall.broker.heard_channels import ANSWER_SECONDS, fail

MAX_BYTES = 16 * 2**20
"""What may wait for its answer; more is refused at once."""
_OVERHEAD = 512
"""About what a waiting question takes beside its words."""

_OTHER_SERVER = (NoScriptError, ReadOnlyError)
"""It is not what we prepared when we connected: restored, flushed, or a replica by now. Whoever
connects again finds the right one, and in order: what is refused is not overtaken by its repeat."""

type Word = bytes | str | int


def _as_it_is(answer: Any) -> Any:
    return answer


@dataclass(eq=False, slots=True)
class _Asked:
    command: tuple[Word, ...]
    take: Callable[[Any], object]
    answer: "asyncio.Future[Any]"
    until: float
    size: int


class RedisLine:
    """Asks Redis, over whatever connection there is."""

    def __init__(self) -> None:
        """Begin without a connection."""
        self._waiting: deque[_Asked] = deque()
        self._under_way: deque[_Asked] = deque()
        self._bytes = 0
        self._asked = asyncio.Event()
        self._cut: anyio.CancelScope | None = None
        self.problem = "Redis was not reached yet"
        """Why there is no connection, if there is none."""

    @property
    def is_busy(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._under_way or self._waiting)

    def ask[Answer](
        self, *command: Word, take: Callable[[Any], Answer] = _as_it_is
    ) -> "asyncio.Future[Answer]":
        """Ask; a plain call, so that the order of calls is the order of answers.

        The future's result is what *take* makes of the answer.

        Raises (through the future):
            BrokerUnavailable: it was refused, or it cannot be known what became of it.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        size = _OVERHEAD + sum(len(word) for word in command if not isinstance(word, int))
        if self._bytes + size > MAX_BYTES:
            fail(answer, f"too much waits for Redis: {self.problem}")
            return answer
        self._bytes += size
        self._waiting.append(_Asked(command, take, answer, loop.time() + ANSWER_SECONDS, size))
        self._asked.set()
        return answer

    async def serve(self, connection: AbstractConnection) -> None:
        """Ask over *connection* until it is lost.

        Raises:
            redis.RedisError, OSError: it was, or does not answer in time.
        """
        self.problem = "Redis does not answer"
        try:
            async with anyio.create_task_group() as tasks:
                self._cut = tasks.cancel_scope
                tasks.start_soon(self._write, connection)
                tasks.start_soon(self._read, connection)
            raise ConnectionError("no answer in time")
        finally:
            self._cut = None
            lost, self._under_way = self._under_way, deque()
            for asked in lost:
                self._settled(asked)
                fail(asked.answer, "Redis was lost before it answered")

    def expire(self, now: float) -> None:
        """Fail what has waited too long; give a connection up that does not answer."""
        if self._under_way and self._under_way[0].until <= now and self._cut is not None:
            self._cut.cancel()
        while self._waiting and self._waiting[0].until <= now:
            asked = self._waiting.popleft()
            self._settled(asked)
            fail(asked.answer, self.problem)

    def close(self, reason: str) -> None:
        """Fail all that waits."""
        while self._waiting:
            asked = self._waiting.popleft()
            self._settled(asked)
            fail(asked.answer, reason)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            self._asked.clear()
            packed: list[bytes] = []
            while self._waiting:
                asked = self._waiting.popleft()
                packed.append(pack_command(asked.command))  # type: ignore[arg-type]  # of any length
                self._under_way.append(asked)
            if packed:
                await connection.send_packed_command(b"".join(packed), check_health=False)
            await self._asked.wait()

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                answer = error
            asked = self._under_way.popleft()
            self._settled(asked)
            if isinstance(answer, ResponseError):
                fail(asked.answer, f"Redis refused: {answer}")
                if isinstance(answer, _OTHER_SERVER):
                    raise answer
            elif not asked.answer.done():
                try:
                    asked.answer.set_result(asked.take(answer))
                except ValueError as error:
                    fail(asked.answer, f"what lies in Redis cannot be read: {error}")

    def _settled(self, asked: _Asked) -> None:
        self._bytes -= asked.size
