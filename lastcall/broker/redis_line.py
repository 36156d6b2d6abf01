"""One connection to a Redis for questions: in order, many under way at once, each bounded in time.

What is asked in one turn of the event loop leaves in one write. A connection that is lost takes
with it what it had been asked; what had not left yet waits for the next one, while it may.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import anyio
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError, ResponseError

from lastcall.broker.redis_question import Question, packed
from lastcall.broker.redis_scripts import Scripts, Standing

_OTHER_SERVER = (NoScriptError, ReadOnlyError)
"""It is not what we prepared when we connected: restored, flushed, or a replica by now. Whoever
connects again finds the right one, and in order: what is refused is not overtaken by its repeat."""
_ASKING = packed((b"ASKING",))
SECONDS_TO_ANSWER = 1.0
"""What a server has at least for one question, however long that has waited."""


type PassedOn = Callable[[Question, ResponseError], bool]
"""Takes a question that was refused, if it can be asked again; whoever does so lets it be known."""
type Settled = Callable[[Question], object]
"""Takes a question that was answered or failed."""


class RedisLine:
    """Asks one Redis, over whatever connection there is."""

    def __init__(
        self, is_passed_on: PassedOn | None = None, settled: Settled = lambda _: None
    ) -> None:
        """Begin without a connection; only a line of several passes on what is refused."""
        self._is_passed_on = is_passed_on
        self._settled = settled
        self._scripts = Scripts(Standing())
        self._waiting: deque[Question] = deque()
        self._under_way: deque[Question | None] = deque()
        self._asked = asyncio.Event()
        self._cut: anyio.CancelScope | None = None
        self.problem = "Redis was not reached yet"
        """Why there is no connection, if there is none."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._cut is not None

    @property
    def is_idle(self) -> bool:
        """Whether there is a connection, and no answer is waited for."""
        return self.is_connected and not self.has_questions

    @property
    def has_questions(self) -> bool:
        """Whether somebody waits for an answer of this server."""
        return bool(self._under_way or self._waiting)

    def put(self, question: Question) -> None:
        """Ask; a plain call, so that the order of calls is the order of answers."""
        self._waiting.append(question)
        self._asked.set()

    def take_back(self) -> list[Question]:
        """The questions of channels that have not left; somebody else has to ask them."""
        waiting, self._waiting = self._waiting, deque()
        self._waiting.extend(question for question in waiting if not question.key)
        return [question for question in waiting if question.key]

    def renew(self, scripts: Scripts, loading: Iterable[Question]) -> None:
        """Use these scripts from here on, after they were loaded."""
        self._scripts = scripts
        self._waiting.extendleft(loading)
        self._asked.set()

    async def serve(self, connection: AbstractConnection, scripts: Scripts) -> None:
        """Ask over *connection*, which knows *scripts*, until it is lost.

        Raises:
            redis.RedisError, OSError: it was, or does not answer in time.
        """
        self.problem = "Redis does not answer"
        self._scripts = scripts
        try:
            async with anyio.create_task_group() as tasks:
                self._cut = tasks.cancel_scope
                tasks.start_soon(self._write, connection)
                tasks.start_soon(self._read, connection)
            raise ConnectionError("no answer in time")
        finally:
            self._cut = None
            lost, self._under_way = self._under_way, deque()
            for question in lost:
                self._fail(question, "Redis was lost before it answered")

    def expire(self, now: float) -> None:
        """Fail what has waited too long; give a connection up that does not answer."""
        oldest = self._under_way[0] or self._under_way[1] if self._under_way else None
        if oldest is not None and oldest.answer_by <= now and self._cut is not None:
            self._cut.cancel()
        while self._waiting and self._waiting[0].until <= now:
            self._fail(self._waiting.popleft(), self.problem)

    def close(self, reason: str) -> None:
        """Fail all that waits."""
        while self._waiting:
            self._fail(self._waiting.popleft(), reason)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            self._asked.clear()
            written: list[bytes] = []
            answer_by = asyncio.get_running_loop().time() + SECONDS_TO_ANSWER
            while self._waiting:
                question = self._waiting.popleft()
                question.answer_by = max(question.until, answer_by)
                words = question.command
                if question.script:
                    words = (b"EVALSHA", self._scripts.name(question.script), *words)
                if question.is_aside:
                    self._under_way.append(None)
                    written.append(_ASKING)
                written.append(packed(words))
                self._under_way.append(question)
            if written:
                await connection.send_packed_command(b"".join(written), check_health=False)
            await self._asked.wait()

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            refusal = answer = None
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                refusal = error
            question = self._under_way.popleft()
            if question is None:
                continue  # ASKING; the question itself tells
            if refusal is None:
                question.succeed(answer)
            elif self._is_passed_on is not None and self._is_passed_on(question, refusal):
                continue
            else:
                question.fail(self._reason(refusal))
            self._settled(question)
            if isinstance(refusal, _OTHER_SERVER):
                raise refusal

    def _fail(self, question: Question | None, reason: str) -> None:
        if question is not None:
            question.fail(reason)
            self._settled(question)

    def _reason(self, refusal: ResponseError) -> str:
        if self._is_passed_on is None and isinstance(refusal, MovedError):
            return "this Redis is one of a cluster: name it by redis+cluster://"
        return f"Redis refused: {refusal}"
