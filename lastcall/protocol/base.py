"""The seam between clients' languages and the rest: messages in, commands out, and back."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from lastcall.broker.base import Publication
from lastcall.errors import Disconnect, Refused
from lastcall.protocol.centrifuge import Call, Invalid, Pong, Push, Reply


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message as the client sends or reads it; text is UTF-8 unless *binary*."""

    data: bytes
    binary: bool = False


class Positioned(Message, frozen=True, gc=False):
    """A message with which its reader comes further in some channels."""

    moves: tuple[tuple[str, int | None, str], ...] = ()
    """Channel, offset and epoch; no offset: the channel is not heard any more; no epoch: the same.
    """
    begins: bool = False
    """Whether these are channels that the reader did not hear before."""


@dataclass(frozen=True, slots=True)
class Send:
    """The client sent *message* to the application, outside any channel."""

    message: Message


type Command = Send | Call | Pong | Invalid


class ClientProtocol(Hashable, Protocol):
    """What a client speaks. Stateless: one object serves all connections."""

    name: str
    """As it stands in logs, metrics and hand-over states."""
    reconnects: bool
    """Whether its clients come back by themselves after a code that lets them, and go on there.

    A leaving worker releases such clients from the start, at a pace, and leaves others alone until
    its time is over. Where it is true, `farewell` has to say 3001 for a `ServerShutdown`.
    """

    def decode(self, message: Message) -> Sequence[Command]:
        """What the client asks for, in order.

        Raises:
            Disconnect: the message is not of this protocol; the code says why.
        """
        ...

    def publication(self, publication: Publication) -> Message:
        """Tell a client of a publication."""
        ...

    def notice(self, text: str) -> Sequence[Message]:
        """Tell a client something about the server: a heartbeat, a shutdown."""
        ...

    def farewell(self, why: Disconnect) -> tuple[int, str]:
        """The close code and reason, in this protocol's terms; never an empty reason."""
        ...


class SessionProtocol(ClientProtocol, Protocol):
    """What a client speaks that connects, subscribes and is answered: one that has a `Session`."""

    ping: Message
    """To be answered by a `Pong`, but by clients that only listen."""
    only_listens: bool
    """Whether its clients say nothing but who they are."""

    def body(self, publication: Publication) -> bytes:
        """A publication as it stands in a history or a reply."""
        ...

    def by_delta(self, publication: Publication, base: Publication | None) -> Publication:
        """What clients that apply deltas are told instead of *publication*.

        *base* is what they were told of last; without one, and where a delta would be no shorter,
        that is all of it.
        """
        ...

    def reply(self, reply: Reply) -> Message:
        """Answer a `Call`."""
        ...

    def push(self, push: Push) -> Message:
        """Tell a client what it did not ask for."""
        ...

    def goodbye(self, code: int, reason: str) -> Message:
        """The last message where a transport has no close codes."""
        ...

    def refusal(self, why: Refused) -> Disconnect | None:
        """How a connection ends whose `Connect` is refused; None: it is answered with *why*."""
        ...
