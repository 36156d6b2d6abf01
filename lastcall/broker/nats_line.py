"""One connection to NATS that asks and hears: questions each bounded in time, subjects by number.

What is said in one turn of the event loop leaves in one write. A connection that is lost takes with
it what it had been asked; what had not left yet waits for the next one, while it may.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio

from lastcall.broker.heard_channels import ANSWER_SECONDS, fail
from lastcall.broker.nats_server import NatsConnection
from lastcall.broker.nats_wire import (
    PING,
    PONG,
    Message,
    Parser,
    Word,
    publish,
    subscribe,
    unsubscribe,
)
from lastcall.errors import BrokerUnavailable

MAX_QUESTIONS = 20_000
"""What may wait for its answer; more is refused at once."""
READ_BYTES = 256 * 1024
NOBODY = "NATS has no stream for us: JetStream is off, or not allowed, or has no leader now"
_ANSWERS = 1
"""The number of the subject under which answers come; those of channels are higher."""

type Heard = Callable[[str, Message], object]
"""Takes what was told, and under which name it was wanted."""


class NobodyAnswers(BrokerUnavailable):
    """There is nobody who could answer: no stream, or no JetStream. Nothing has been done."""


class ConnectionLost(BrokerUnavailable):
    """The connection was lost before there was an answer."""


class _Asked(NamedTuple):
    answer: "asyncio.Future[Message]"
    until: float
    command: bytes


class NatsLine:
    """Asks NATS and hears what it tells, over whatever connection there is."""

    def __init__(self, heard: Heard) -> None:
        """Pass on what is heard; a plain call that never raises."""
        self._heard = heard
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._number = 0
        self._waiting: dict[int, _Asked] = {}
        self._under_way: dict[int, _Asked] = {}
        self._sid = _ANSWERS
        self._names: dict[int, str] = {}
        self._sids: dict[str, int] = {}
        self._connection: NatsConnection | None = None
        self._cut: anyio.CancelScope | None = None
        self._outgoing: list[bytes] = []
        self._opened = anyio.Event()
        self._pinged = 0.0
        self.problem = "NATS was not reached yet"
        """Why there is no connection, if there is none."""

    @property
    def is_open(self) -> bool:
        """Whether what is asked leaves now."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Wait until there is a connection that takes questions."""
        if not self._opened.is_set():  # waiting for nothing costs a turn of the event loop
            await self._opened.wait()

    def ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: bytes = b"",
        *,
        until: float | None = None,
        prepares: bool = False,
    ) -> "asyncio.Future[Message]":
        """Ask; a plain call, so that the order of calls is the order in which NATS gets them.

        What *prepares* a connection does not wait until it is open.

        Raises (through the future):
            NobodyAnswers: nothing was done; the connection is given up.
            BrokerUnavailable: there was no answer in time, or it cannot be known any more.
        """
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if len(self._under_way) + len(self._waiting) >= MAX_QUESTIONS:
            fail(answer, f"too much waits for NATS: {self.problem}")
            return answer
        self._number += 1
        reply = f"{self._inbox}.{self._number}"
        until = anyio.current_time() + ANSWER_SECONDS if until is None else until
        asked = _Asked(answer, until, publish(subject, reply, payload, headers))
        if self._opened.is_set() or prepares:
            self._under_way[self._number] = asked
            self._say(asked.command)
        else:
            self._waiting[self._number] = asked
        return answer

    def hear(self, name: str, subject: str) -> None:
        """Hear *subject* from now on, as *name*, for as long as the connection lasts."""
        if name not in self._sids:
            self._sid += 1
            self._names[self._sid], self._sids[name] = name, self._sid
            self._say(subscribe(subject, self._sid))

    def unhear(self, name: str) -> None:
        """Hear *name* no more."""
        sid = self._sids.pop(name, None)
        if sid is not None:
            del self._names[sid]
            self._say(unsubscribe(sid))

    async def serve(
        self,
        connection: NatsConnection,
        prepare: Callable[[NatsConnection], Awaitable[None]],
        opened: Callable[[], object],
    ) -> None:
        """Ask and hear over *connection*, once it is prepared, until it is lost.

        What is wanted to be heard is said by *opened*, before anything else is asked.

        Raises:
            OSError: it was, or does not answer in time.
            ValueError: what it says is no NATS.
            BrokerUnavailable: it could not be prepared.
        """
        self.problem, self._pinged = "NATS does not answer", 0.0
        self._connection = connection
        try:
            async with anyio.create_task_group() as tasks:
                self._cut = tasks.cancel_scope
                self._say(subscribe(f"{self._inbox}.*", _ANSWERS))
                tasks.start_soon(self._read, connection)
                await prepare(connection)
                self._opened.set()
                opened()
                self._ask_what_waits()
            raise ConnectionError(self.problem)
        finally:
            self._connection = self._cut = None
            if self._opened.is_set():  # else somebody may wait for it already
                self._opened = anyio.Event()
            self._outgoing.clear()
            self._names.clear()
            self._sids.clear()
            lost, self._under_way = self._under_way, {}
            for asked in lost.values():
                if not asked.answer.done():
                    asked.answer.set_exception(ConnectionLost("NATS was lost before it answered"))

    def _ask_what_waits(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._under_way |= waiting
        for asked in waiting.values():
            self._say(asked.command)

    def cut(self, problem: str) -> None:
        """Give the connection up, if there is one."""
        if self._cut is not None:
            self.problem = problem
            self._cut.cancel()

    def expire(self, now: float) -> None:
        """Fail what has waited too long; give a connection up that does not answer."""
        for asked in (self._under_way, self._waiting):
            _expire(asked, now, self.problem)
        if self._pinged and now > self._pinged + ANSWER_SECONDS:
            self.cut("NATS does not answer")
        elif self._connection is not None and not self._pinged:
            self._pinged = now
            self._say(PING)

    def close(self, reason: str) -> None:
        """Fail all that waits."""
        for asked in self._waiting.values():
            fail(asked.answer, reason)
        self._waiting.clear()

    def _say(self, command: bytes) -> None:
        self._outgoing.append(command)
        if len(self._outgoing) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        if self._connection is not None:
            self._connection.write(b"".join(self._outgoing))
        self._outgoing.clear()

    async def _read(self, connection: NatsConnection) -> None:
        parser = Parser()
        while data := await connection.read(READ_BYTES):
            for said in parser.feed(data):
                match said:
                    case Message(sid=sid) if sid == _ANSWERS:
                        self._answered(said)
                    case Message(sid=sid):
                        # It may be on its way while it is unsubscribed.
                        if (name := self._names.get(sid)) is not None:
                            self._heard(name, said)
                    case Word(verb=b"PING"):
                        self._say(PONG)
                    case Word(verb=b"PONG"):
                        self._pinged = 0.0
                    case Word(verb=b"-ERR", rest=rest):
                        raise ConnectionError(f"NATS says {rest.decode(errors='replace')}")
                    case _:
                        pass  # news of the cluster
        raise ConnectionError("NATS has closed the connection")

    def _answered(self, message: Message) -> None:
        number = message.subject.rpartition(b".")[2]
        asked = self._under_way.pop(int(number), None) if number.isdigit() else None
        if asked is None or asked.answer.done():
            return
        if message.has_no_answer:
            asked.answer.set_exception(NobodyAnswers(NOBODY))
            self.cut(NOBODY)
        else:
            asked.answer.set_result(message)


def _expire(asked: dict[int, _Asked], now: float, problem: str) -> None:
    # Not all of them wait equally long, but none is far from its place.
    for number in [number for number, each in asked.items() if each.until <= now]:
        fail(asked.pop(number).answer, problem)
