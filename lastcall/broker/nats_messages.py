"""What lies in JetStream: messages, each with publications that follow each other. Pure.

JetStream numbers the messages of all channels together; a channel's offsets are ours, and stand in
the messages. Each also names its channel's messages before it, because JetStream cannot be asked
for what comes before something.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from lastcall.broker.base import Kind, Publication, StreamPosition

BEFORE = 32
"""How many earlier messages of its channel each one names: so many are read at once."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A publication without its place."""

    data: bytes
    kind: Kind = Kind.TEXT
    about: bytes = b""


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """One message. Without entries it only says where the channel stands."""

    epoch: str
    first: int
    """The offset of the first entry; where there is none, of the next that there will be."""
    at: int
    """Milliseconds, by the clock of who published it."""
    steps: Sequence[int]
    """The sequence of its channel's message before it, and how much less each earlier one has."""
    entries: Sequence[Entry]

    @property
    def top(self) -> StreamPosition:
        """Where the channel stands with it."""
        return StreamPosition(self.first - 1 + len(self.entries), self.epoch)

    @property
    def before(self) -> list[int]:
        """The sequences of its channel's messages before it, newest first."""
        sequences: list[int] = []
        at = 0
        for step in self.steps:
            at = at - step if sequences else step
            sequences.append(at)
        return sequences


class Kept(NamedTuple):
    """A message, and by which sequence JetStream knows it."""

    sequence: int
    stored: Stored


class Head(NamedTuple):
    """Where a channel stands: what whoever appends to it has to know."""

    top: StreamPosition
    before: tuple[int, ...]
    """The sequences of its last messages, newest first; empty: it has none."""

    @property
    def sequence(self) -> int:
        """Of its last message; 0: it has none."""
        return self.before[0] if self.before else 0

    def message(self, entries: Sequence[Entry], at: int) -> Stored:
        """What is appended here."""
        return Stored(self.top.epoch, self.top.offset + 1, at, _steps(self.before), entries)

    def after(self, count: int, sequence: int) -> "Head":
        """Where it stands when *count* entries are appended by a message of this *sequence*."""
        top = StreamPosition(self.top.offset + count, self.top.epoch)
        return Head(top, (sequence, *self.before[: BEFORE - 1]))


def head_of(kept: Kept) -> Head:
    """Where a channel stands whose last message is *kept*."""
    return Head(kept.stored.top, (kept.sequence, *kept.stored.before[: BEFORE - 1]))


def publications(channel: str, stored: Stored) -> list[Publication]:
    """What a message publishes in *channel*."""
    first, epoch = stored.first, stored.epoch
    return [
        Publication(channel, each.data, first + number, epoch, each.kind, each.about)
        for number, each in enumerate(stored.entries)
    ]


encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Stored)


def decode(payload: bytes) -> Stored:
    """What was encoded.

    Raises:
        ValueError: somebody else has written it.
    """
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"not of this server: {error}") from error


def _steps(before: Sequence[int]) -> list[int]:
    return [*before[:1], *(one - other for one, other in pairwise(before))]
