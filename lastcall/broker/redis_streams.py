"""The channels' streams in Redis: append, read and forget, each as one question."""

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from lastcall.broker.base import History, Kind, Publication, Retention, StreamPosition
from lastcall.broker.following import Page
from lastcall.broker.heard_channels import PAGE, fail
from lastcall.broker.redis_names import Names, body, page, position
from lastcall.broker.redis_question import Question, Waiting, Word
from lastcall.broker.redis_scripts import PUBLISH, READ
from lastcall.errors import UnrecoverablePosition

PAGE_BYTES = 2**20
"""One answer holds about so much of a history, at most; more is asked for again."""
MAX_DATA = 8 * 2**20
"""Bytes of one publication."""
IDLE_SECONDS = 3600
"""How long a channel without publications and subscribers keeps its position past its ttl."""
KEY_SECONDS = 300
"""How long an idempotency key is remembered; `Broker.publish` promises it."""


class RedisStreams:
    """Asks for one thing at a time; what it means to this worker is decided elsewhere."""

    def __init__(
        self,
        put: Callable[[Question], object],
        names: Names,
        limits: Retention,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Ask by *put*, in order; the time is the server's own where there is no *clock*."""
        self._put = put
        self._waiting = Waiting()
        self._names = names
        self._limits = limits
        self._clock = clock
        # An epoch begins with this; the script adds the time, so that no two are alike.
        self._new_epoch = secrets.token_hex(6)

    def publish(
        self, channel: str, data: bytes, *, kind: Kind, about: bytes, key: str
    ) -> "asyncio.Future[StreamPosition]":
        """Append and tell in one step; see `Broker.publish`."""
        if len(data) + len(about) > MAX_DATA:
            refused: asyncio.Future[StreamPosition] = asyncio.get_running_loop().create_future()
            fail(refused, f"more than the {MAX_DATA} bytes of one publication")
            return refused
        limits = self._limits.of(channel)
        keys = self._names.keys(channel, key)
        return self._ask(
            keys,
            self._names.told(channel),
            body(data, kind, about),
            limits.size,
            _ms(limits.ttl),
            _ms(limits.ttl + IDLE_SECONDS),
            self._new_epoch,
            _ms(KEY_SECONDS),
            self._now(),
            script=PUBLISH,
            take=position,
        )

    def read(
        self,
        channel: str,
        since: StreamPosition | None,
        limit: int = PAGE,
        *,
        was_there: bool = False,
    ) -> "asyncio.Future[Page]":
        """Read a page of what follows *since*, or of everything, and where the channel stands.

        Who has heard the publication at *since* itself says so by *was_there*: if the stream does
        not reach that far any more, it begins anew, in another epoch.
        """
        limits = self._limits.of(channel)
        keys = self._names.keys(channel)
        return self._ask(
            keys,
            "" if since is None else since.offset,
            "" if since is None else since.epoch,
            min(limit, PAGE),
            PAGE_BYTES,
            _ms(limits.ttl),
            _ms(limits.ttl + IDLE_SECONDS),
            self._new_epoch,
            self._now(),
            int(was_there),
            script=READ,
            take=partial(page, channel),
        )

    async def history(
        self, channel: str, since: StreamPosition | None, limit: int | None
    ) -> History:
        """See `Broker.history`."""
        found: list[Publication] = []
        at, left = since, PAGE if limit is None else max(limit, 0)
        while True:
            here = await self.read(channel, at, left)
            if not here.is_reached:
                if since is not None:
                    raise UnrecoverablePosition(
                        f"{channel!r} does not reach back to {since.offset}"
                        f" of epoch {since.epoch!r}"
                    )
                # Trimmed behind our back: from the beginning means from where it begins now.
                found.clear()
            found += here.publications
            left = PAGE if limit is None else limit - len(found)
            end = here.publications[-1:]
            if left <= 0 or not end or end[0].offset >= here.top.offset:
                return History(found if limit is None else found[: max(limit, 0)], here.top)
            at = StreamPosition(end[0].offset, end[0].epoch)

    async def clear(self, channel: str) -> None:
        """See `Broker.clear`; the head stays, so that nobody who hears the channel notices."""
        keys = self._names.keys(channel)
        answer: asyncio.Future[bool] = self._question(keys[0], (b"UNLINK", keys[1]), b"", bool)
        await answer

    def _ask[Answer](
        self,
        keys: tuple[bytes, ...],
        *arguments: Word,
        script: bytes,
        take: Callable[[Any], Answer],
    ) -> "asyncio.Future[Answer]":
        return self._question(keys[0], (len(keys), *keys, *arguments), script, take)

    def _question[Answer](
        self, key: bytes, words: tuple[Word, ...], script: bytes, take: Callable[[Any], Answer]
    ) -> "asyncio.Future[Answer]":
        question = self._waiting.question(key, words, script, take)
        if question is not None:
            self._put(question)
            return question.answer
        refused: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        fail(refused, "too much waits for Redis")
        return refused

    def _now(self) -> str:
        return "" if self._clock is None else str(_ms(self._clock()))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
