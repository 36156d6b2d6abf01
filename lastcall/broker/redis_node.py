"""One Redis as a worker uses it: a connection that asks and one that hears, kept up."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from lastcall.broker.reconnecting import Complaints, keep_up
from lastcall.broker.redis_ear import RedisEar
from lastcall.broker.redis_line import RedisLine
from lastcall.broker.redis_question import Question, Waiting, Word
from lastcall.broker.redis_scripts import Scripts, Standing
from lastcall.broker.redis_server import ask

type Found = Callable[[], AbstractAsyncContextManager[tuple[AbstractConnection, Standing]]]
"""Connects to the server, wherever it is now; the connection ends with the block."""


class RedisNode:
    """A server's line and its ear, each connected again whenever it is lost."""

    def __init__(
        self,
        found: Found,
        line: RedisLine,
        ear: RedisEar,
        wanted: Callable[[], Iterable[bytes]],
        changed: Callable[[], object],
    ) -> None:
        """Hear the names that are *wanted* when connecting; *changed* is called at every change."""
        self.line = line
        self.ear = ear
        self._found = found
        self._wanted = wanted
        self._changed = changed
        self._is_asking = self._is_hearing = False
        self._complaints = Complaints()
        self._signs = Waiting()
        self.standing = Standing()
        """What the server was when we connected to it."""

    @property
    def is_available(self) -> bool:
        """Whether both connections are there."""
        return self._is_asking and self._is_hearing

    @property
    def problem(self) -> str:
        """Why one is not there."""
        return self.line.problem

    def put(self, question: Question) -> None:
        """Ask; a plain call, so that the order of calls is the order of answers."""
        self.line.put(question)

    def want(self, name: bytes, *, yes: bool) -> None:
        """Hear *name* from now on, or no more."""
        self.ear.want(name, yes=yes)

    def close(self, reason: str) -> None:
        """Fail all that waits for an answer."""
        self.line.close(reason)

    async def run(self) -> None:
        """Keep both connections up until cancelled."""
        async with anyio.create_task_group() as tasks:
            for use in (self._ask, self._hear):
                tasks.start_soon(keep_up, use, (RedisError, OSError), self._away, self._changed)

    def tick(self, now: float) -> None:
        """Give up what does not answer; let who is idle give a sign of life."""
        self.line.expire(now)
        self.ear.expire(now)
        if self.line.is_idle:
            self.ask_for_itself((b"PING",), bool)

    def ask_for_itself(self, words: tuple[Word, ...], take: Callable[[Any], object]) -> None:
        """Ask what is no channel's matter, and is asked again some time if it was not answered."""
        if self.line.is_connected and (question := self._of_its_own(words, take)):
            self.line.put(question)

    def renew(self, standing: Standing) -> None:
        """The server has become something else: let its scripts know."""
        self.standing = standing
        scripts = Scripts(standing)
        loading = [
            self._of_its_own((b"SCRIPT", b"LOAD", script), bool)
            for script in scripts.prepared.values()
        ]
        self.line.renew(scripts, [each for each in loading if each])

    def _of_its_own(
        self, words: tuple[Word, ...], take: Callable[[Any], object]
    ) -> Question | None:
        question = self._signs.question(b"", words, b"", take)
        if question is not None:
            question.answer.add_done_callback(_seen)
        return question

    async def _ask(self) -> None:
        async with self._found() as (connection, standing):
            self.standing, scripts = standing, Scripts(standing)
            for script in scripts.prepared.values():
                await ask(connection, "SCRIPT", "LOAD", script)
            self._is_asking = True
            self._tell_change()
            try:
                await self.line.serve(connection, scripts)
            finally:
                self._is_asking = False

    async def _hear(self) -> None:
        async with self._found() as (connection, standing):
            self._is_hearing = True
            self._tell_change()
            try:
                is_of_slots = standing.tell == "SPUBLISH"
                await self.ear.serve(connection, self._wanted(), is_of_slots=is_of_slots)
            finally:
                self._is_hearing = False

    def _tell_change(self) -> None:
        if self.is_available:
            self._complaints.settled()
        self._changed()

    def _away(self, reason: str) -> None:
        self.line.problem = f"Redis is away: {reason}"
        self._complaints.tell(self.line.problem)


def _seen(answer: "asyncio.Future[object]") -> None:
    """See how a sign of life was answered: that it was not is found out otherwise."""
    if not answer.cancelled():
        answer.exception()
