"""What clients of one-way transports say: by requests that may come to any worker.

The stream down to a client is one worker's. The client names it (its node) and a secret of its own
(its session) in each request. A request that comes to another worker is passed on over the broker,
on a channel that only that worker hears: in order, and over the death of a sequencer.
"""

import contextlib
import secrets
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import anyio
import msgspec

from lastcall.broker.base import Broker, Kind, Publication
from lastcall.channels import EMULATED
from lastcall.connection import Connection
from lastcall.errors import BrokerUnavailable, LastcallError, Overloaded
from lastcall.hub import Hub, Later
from lastcall.interest import Interest
from lastcall.peers import Peers
from lastcall.protocol.base import Message
from lastcall.protocol.said import Said

if TYPE_CHECKING:
    import asyncio

    from lastcall.broker.base import StreamPosition

RETRY_PAUSE = 0.5


class _Letter(msgspec.Struct, frozen=True, array_like=True):
    session: str
    data: bytes
    binary: bool = False


class Mouth(Protocol):
    """The transport of a client that speaks elsewhere."""

    def take(self, message: Message, /) -> bool:
        """Receive what the client says; False: it has said too much that is not done."""
        ...


class UnknownNode(LastcallError):  # noqa: N818  (says what is so)
    """No worker of this server has that name, or not any more."""


@dataclass(frozen=True, slots=True)
class _Client:
    connection: Connection
    mouth: Mouth


class Emulation:
    """The clients of this worker that speak by requests, and the way to those of the others."""

    def __init__(
        self,
        broker: Broker,
        hub: Hub,
        interest: Interest,
        peers: Peers,
        later: Later,
    ) -> None:
        """Reach the others over *broker*; `start` before anybody is let in."""
        self._broker = broker
        self._hub = hub
        self._interest = interest
        self._peers = peers
        self._later = later
        self._clients: dict[str, _Client] = {}

    @cached_property
    def node(self) -> str:
        """The name of this worker, once it has arrived."""
        return self._peers.node

    async def start(self) -> None:
        """Hear the other workers; waits for the broker, however long it is away."""
        mine = EMULATED + self.node
        self._hub.tap(mine, self._passed_on)
        while True:
            with contextlib.suppress(BrokerUnavailable):
                await self._interest.listen([mine])
                return
            await anyio.sleep(RETRY_PAUSE)

    def begin(self, connection: Connection, mouth: Mouth) -> str:
        """Let who knows the secret that is returned speak for *connection*, until `end`."""
        session = secrets.token_urlsafe(24)
        self._clients[session] = _Client(connection, mouth)
        return session

    def end(self, session: str) -> None:
        """Let nobody speak for that client any more; unknown ones are ignored."""
        self._clients.pop(session, None)

    def say(self, said: Said) -> "asyncio.Future[StreamPosition] | None":
        """Do what a client says; None: it is done, or in line. Else done when it is passed on.

        Who is gone is not heard, and nobody is told: the end of the stream says that.

        Raises:
            UnknownNode: nobody knows the worker that should hear it.
            BrokerUnavailable: it was not passed on (through the future).
        """
        letter = _Letter(said.session, said.message.data, said.message.binary)
        if said.node == self.node:
            self._hear(letter)
            return None
        if not self._peers.knows(said.node):
            raise UnknownNode(said.node)
        encoded = msgspec.msgpack.encode(letter)
        return self._broker.publish(EMULATED + said.node, encoded, kind=Kind.BINARY)

    def _passed_on(self, publication: Publication) -> None:
        letter = msgspec.msgpack.decode(publication.data, type=_Letter)
        # The hub is writing what was published before; a reply must not overtake that.
        self._later(partial(self._hear, letter))

    def _hear(self, letter: _Letter) -> None:
        client = self._clients.get(letter.session)
        message = Message(letter.data, binary=letter.binary)
        if client is not None and not client.mouth.take(message):
            client.connection.disconnect(Overloaded())
