"""One Redis as a worker uses it: a connection that asks and one that hears, kept up."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager

import anyio
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from lastcall.broker.redis_ear import RedisEar
from lastcall.broker.redis_line import RedisLine
from lastcall.broker.redis_question import Question, Waiting
from lastcall.broker.redis_scripts import Scripts, Standing
from lastcall.broker.redis_server import ask
from lastcall.logs import log_event

FIRST_RETRY, LAST_RETRY = 0.05, 1.0
"""Seconds between two attempts to connect, growing; spread, so that workers do not come at once."""

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
        self._complaint = ""
        self._signs = Waiting()

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
            tasks.start_soon(self._keep, self._ask)
            tasks.start_soon(self._keep, self._hear)

    def tick(self, now: float) -> None:
        """Give up what does not answer; let who is idle give a sign of life."""
        self.line.expire(now)
        self.ear.expire(now)
        if self.line.is_idle:
            sign = self._signs.question(b"", (b"PING",), b"", bool)
            if sign is not None:
                sign.answer.add_done_callback(_seen)
                self.line.put(sign)

    async def _keep(self, use: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_RETRY
        while True:
            started = anyio.current_time()
            try:
                await use()
            except* (RedisError, OSError) as problems:
                self._complain(f"Redis is away: {_first(problems)}")
            if anyio.current_time() - started > LAST_RETRY:
                pause = FIRST_RETRY
            self._changed()
            await anyio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  (no secret)
            pause = min(2 * pause, LAST_RETRY)

    async def _ask(self) -> None:
        async with self._found() as (connection, standing):
            scripts = Scripts(standing)
            for script in scripts.prepared.values():
                await ask(connection, "SCRIPT", "LOAD", script)
            self._is_asking = True
            self._tell_change()
            try:
                await self.line.serve(connection, scripts)
            finally:
                self._is_asking = False

    async def _hear(self) -> None:
        async with self._found() as (connection, _standing):
            self._is_hearing = True
            self._tell_change()
            try:
                await self.ear.serve(connection, self._wanted())
            finally:
                self._is_hearing = False

    def _tell_change(self) -> None:
        if self.is_available:
            self._complaint = ""
        self._changed()

    def _complain(self, problem: str) -> None:
        self.line.problem = problem
        # Once, not with every attempt; a wrong password is found by reading this.
        if problem != self._complaint:
            self._complaint = problem
            log_event("broker problem", "{problem}", level=logging.WARNING, problem=problem)


def _first(problems: BaseExceptionGroup[Exception]) -> BaseException:
    """One of the reasons: that of the task that noticed first."""
    problem: BaseException = problems
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def _seen(answer: "asyncio.Future[object]") -> None:
    """See how a sign of life was answered: that it was not is found out otherwise."""
    if not answer.cancelled():
        answer.exception()
