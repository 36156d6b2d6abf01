"""All workers of this server: tell each of them something, or ask all and collect the answers.

Over the broker, on channels of our own that no client can name. Who is asked is who is ready or
draining; a worker that dies meanwhile costs the asker its patience, not the answer. Workers of
several hosts know each other by the signs of life that they tell here.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import msgspec

from lastcall.broker.base import Broker, Kind, Publication, StreamPosition, not_owed
from lastcall.channels import ANSWERS
from lastcall.connection import Connection
from lastcall.errors import BrokerUnavailable
from lastcall.hub import Hub
from lastcall.interest import Interest
from lastcall.order_memory import OrderMemory, Remembered
from lastcall.peers import Peers
from lastcall.roster import SIGN_SECONDS, Sign

if TYPE_CHECKING:
    import asyncio

PATIENCE = 2.0
"""Seconds for the answers of all workers."""
RETRY_PAUSE = 0.5
GREETING = 0.3
"""Seconds in which a new worker hears who works on other hosts."""
ORDERS = "\0everyone"
"""The channel on which all workers are told and asked."""
_SIGN = "here"

type CarryOut = Callable[[bytes, Connection | None], object]
"""Does what a body says to one connection, or to all that are here and not on their way."""
type Answer = Callable[[bytes], bytes | None]
"""Does what a body says; the answer, or None where nobody waits for one."""


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What all workers are told or asked, as it travels."""

    what: str
    body: bytes
    asker: str = ""
    question: int = 0


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What one of them answers."""

    question: int
    body: bytes
    pid: int
    name: str = ""
    """Who answers, see `Peers`; a neighbour of an older release says only its pid."""


@dataclass(slots=True)
class _Question:
    expected: set[str]
    """Names of those who have yet to answer; others may, too: a worker that is done still hears."""
    replies: list[bytes] = field(default_factory=list)
    complete: anyio.Event = field(default_factory=anyio.Event)


class Everyone:
    """This worker's voice and ear among all workers of the server."""

    def __init__(self, broker: Broker, hub: Hub, interest: Interest, peers: Peers) -> None:
        """Speak over *broker*; `start` before anything is told or asked."""
        self._broker = broker
        self._hub = hub
        self._interest = interest
        self.peers = peers
        self._name = secrets.token_hex(8)
        self._answers: dict[str, Answer] = {}
        self._orders: dict[str, CarryOut] = {}
        self._memory = OrderMemory()
        self._questions: dict[int, _Question] = {}
        self._last = 0
        self._until_sign = 0
        self._has_parted = self._is_deaf = False
        self.absences = 0
        """How often those of other hosts may have taken this worker for gone."""
        self.on(_SIGN, self._met)

    def on_order(self, what: str, carry_out: CarryOut) -> None:
        """Let *carry_out* do what is told under the name *what*, also to those who are moved."""
        self._answers[what] = lambda body: _done(carry_out(body, None))
        self._orders[what] = carry_out

    @property
    def heard(self) -> StreamPosition | None:
        """Up to which order all connections here have been told; None: that is not known."""
        return self._hub.head(ORDERS)

    def catch_up(self, connection: Connection, heard: StreamPosition) -> None:
        """Do to *connection*, which has just arrived, what was ordered since *heard*."""
        self._hub.flush()
        for order in self._memory.since(heard):
            self._orders[order.what](order.body, connection)

    def on(self, what: str, answer: Answer) -> None:
        """Let *answer* do what is told or asked under the name *what*."""
        self._answers[what] = answer

    async def start(self) -> None:
        """Hear the others from here on; waits for the broker, however long it is away."""
        mine = ANSWERS + self._name
        self._hub.tap(ORDERS, self._ordered)
        self._hub.tap(mine, self._replied)
        while True:
            with contextlib.suppress(BrokerUnavailable):
                await self._interest.listen([ORDERS, mine])
                await self._greet()
                return
            await anyio.sleep(RETRY_PAUSE)

    def next_second(self, announced: Mapping[str, int]) -> list[Sign]:
        """Give a sign of life now and then; the workers of other hosts that give none any more."""
        if not self.peers.spans_hosts or self._has_parted:
            return []
        if not self._hub.is_available:
            self._excuse()
            return []
        self._is_deaf = False
        self._until_sign -= 1
        if self._until_sign < 0:
            self.give_sign(announced)
        return self.peers.fallen()

    def _excuse(self) -> None:
        self.peers.excuse()
        self.absences += not self._is_deaf
        self._is_deaf = True
        self._until_sign = 0  # as soon as somebody can hear it

    def give_sign(self, announced: Mapping[str, int]) -> None:
        """Let the other hosts know now how this worker is."""
        if self.peers.spans_hosts:
            self._until_sign = SIGN_SECONDS - 1
            self._tell_sign(self.peers.sign(announced))

    def part(self) -> "asyncio.Future[StreamPosition] | None":
        """Let the other hosts know that this worker leaves; None: there are none."""
        if not self.peers.spans_hosts:
            return None
        self._has_parted = True
        return self._tell_sign(Sign(self.peers.name, "", "done"))

    def bury(self, pid: int) -> None:
        """Let the other hosts know that a worker of this one has died."""
        if self.peers.spans_hosts:
            self._tell_sign(self.peers.buried(pid))

    def tell(self, what: str, body: bytes) -> "asyncio.Future[StreamPosition]":
        """Let every worker do something, this one too; done when that is certain.

        Raises (through the future):
            BrokerUnavailable: nobody was told.
        """
        return self._send(ORDERS, Order(what, body))

    async def ask(self, what: str, body: bytes) -> list[bytes]:
        """The answers of all workers, or of those that answered in time.

        Raises:
            BrokerUnavailable: nobody was asked.
        """
        question = _Question(self.peers.answering() | {self.peers.name})
        return await self._ask(question, what, body, PATIENCE)

    async def _ask(
        self, question: _Question, what: str, body: bytes, patience: float
    ) -> list[bytes]:
        self._last += 1
        number = self._last
        self._questions[number] = question
        try:
            with anyio.move_on_after(patience):
                await self._send(ORDERS, Order(what, body, self._name, number))
                await question.complete.wait()
        finally:
            del self._questions[number]
        return question.replies

    async def _greet(self) -> None:
        """Hear who works on other hosts, and be known there, before anything is asked."""
        if self.peers.spans_hosts:
            own = msgspec.msgpack.encode(self.peers.sign())
            nobody_knows_how_many = _Question({""})
            for sign in await self._ask(nobody_knows_how_many, _SIGN, own, GREETING):
                self._met(sign)

    def _met(self, sign: bytes) -> bytes:
        self.peers.heard(msgspec.msgpack.decode(sign, type=Sign))
        return msgspec.msgpack.encode(self.peers.sign())

    def _tell_sign(self, sign: Sign) -> "asyncio.Future[StreamPosition]":
        told = self.tell(_SIGN, msgspec.msgpack.encode(sign))
        told.add_done_callback(not_owed)
        return told

    def _send(self, channel: str, message: Order | Reply) -> "asyncio.Future[StreamPosition]":
        encoded = msgspec.msgpack.encode(message)
        return self._broker.publish(channel, encoded, kind=Kind.BINARY)

    def _ordered(self, publication: Publication) -> None:
        order = msgspec.msgpack.decode(publication.data, type=Order)
        if order.what in self._orders:
            position = StreamPosition(publication.offset, publication.epoch)
            self._memory.add(Remembered(time.monotonic(), position, order.what, order.body))
        answer = self._answers.get(order.what)
        body = answer(order.body) if answer is not None else b""
        if order.asker:
            reply = Reply(order.question, body or b"", os.getpid(), self.peers.name)
            self._send(ANSWERS + order.asker, reply).add_done_callback(not_owed)

    def _replied(self, publication: Publication) -> None:
        reply = msgspec.msgpack.decode(publication.data, type=Reply)
        question = self._questions.get(reply.question)
        if question is None:
            return
        question.replies.append(reply.body)
        question.expected.discard(reply.name or self.peers.name_of(reply.pid))
        if not question.expected:
            question.complete.set()


def _done(_: object) -> None:
    """Nobody waits for an answer to an order."""
