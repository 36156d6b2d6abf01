"""One connection to a Redis for questions: in order, many under way at once, each bounded in time.

What is asked in one turn of the event loop leaves in one write. A connection that is lost takes
with it what it had been asked; what had not left yet waits for the next one, while it may.
"""

import asyncio
from collections import deque

import anyio
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from lastcall.broker.redis_question import Question
from lastcall.broker.redis_scripts import Scripts

_OTHER_SERVER = (NoScriptError, ReadOnlyError)
"""It is not what we prepared when we connected: restored, flushed, or a replica by now. Whoever
connects again finds the right one, and in order: what is refused is not overtaken by its repeat."""
SECONDS_TO_ANSWER = 1.0
"""What a server has at least for one question, however long that has waited."""


class RedisLine:
    """Asks one Redis, over whatever connection there is."""

    def __init__(self) -> None:
        """Begin without a connection."""
        self._waiting: deque[Question] = deque()
        self._under_way: deque[Question] = deque()
        self._asked = asyncio.Event()
        self._cut: anyio.CancelScope | None = None
        self.problem = "Redis was not reached yet"
        """Why there is no connection, if there is none."""

    @property
    def is_idle(self) -> bool:
        """Whether there is a connection, and no answer is waited for."""
        return self._cut is not None and not self._under_way and not self._waiting

    def put(self, question: Question) -> None:
        """Ask; a plain call, so that the order of calls is the order of answers."""
        self._waiting.append(question)
        self._asked.set()

    async def serve(self, connection: AbstractConnection, scripts: Scripts) -> None:
        """Ask over *connection*, which knows *scripts*, until it is lost.

        Raises:
            redis.RedisError, OSError: it was, or does not answer in time.
        """
        self.problem = "Redis does not answer"
        try:
            async with anyio.create_task_group() as tasks:
                self._cut = tasks.cancel_scope
                tasks.start_soon(self._write, connection, scripts)
                tasks.start_soon(self._read, connection)
            raise ConnectionError("no answer in time")
        finally:
            self._cut = None
            lost, self._under_way = self._under_way, deque()
            for question in lost:
                question.fail("Redis was lost before it answered")

    def expire(self, now: float) -> None:
        """Fail what has waited too long; give a connection up that does not answer."""
        if self._under_way and self._under_way[0].until <= now and self._cut is not None:
            self._cut.cancel()
        while self._waiting and self._waiting[0].until <= now:
            self._waiting.popleft().fail(self.problem)

    def close(self, reason: str) -> None:
        """Fail all that waits."""
        while self._waiting:
            self._waiting.popleft().fail(reason)

    async def _write(self, connection: AbstractConnection, scripts: Scripts) -> None:
        while True:
            self._asked.clear()
            packed: list[bytes] = []
            answered_by = asyncio.get_running_loop().time() + SECONDS_TO_ANSWER
            while self._waiting:
                question = self._waiting.popleft()
                question.until = max(question.until, answered_by)
                words = question.command
                if question.script:
                    words = (b"EVALSHA", scripts.name(question.script), *words)
                packed.append(pack_command(words))  # type: ignore[arg-type]  # of any length
                self._under_way.append(question)
            if packed:
                await connection.send_packed_command(b"".join(packed), check_health=False)
            await self._asked.wait()

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                question = self._under_way.popleft()
                question.fail(f"Redis refused: {error}")
                if isinstance(error, _OTHER_SERVER):
                    raise
            else:
                self._under_way.popleft().succeed(answer)
