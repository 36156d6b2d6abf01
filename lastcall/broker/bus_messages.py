"""What workers and their sequencer say to each other: msgpack arrays, each behind its length.

`Hello`, `Welcome` and `Refusal` must be understood by every release for ever; fields may only be
added at their ends. All others may change with `NEWEST`; a release speaks `OLDEST` to `NEWEST`, so
that workers of two neighbouring releases can share a bus during an upgrade, or say why not.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec

from lastcall.broker.base import Publication, StreamPosition
from lastcall.stream_log import Append

OLDEST = 1
NEWEST = 1
MAX_FRAME = 32 * 2**20
"""Bytes in one message; more on the wire is garbage."""
_LENGTH_BYTES = 4


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A worker's first word."""

    oldest: int = OLDEST
    newest: int = NEWEST


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The sequencer's answer to `Hello`: from here the bus carries publications, in *version*."""

    version: int


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The sequencer's last word, for a person to read."""

    reason: str


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Are you there?"""


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """I am, and the log can be written or not; also unasked, when that changes."""

    writable: bool


class Publish(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Take this into the log; answered by an `Outcome`."""

    append: Append


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """Where the publication of a sequence number is, or why it is nowhere."""

    sequence: int
    position: StreamPosition | None
    reason: str = ""


class Outcomes(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """What became of this worker's publications of one batch."""

    outcomes: list[Outcome]


class Delivery(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The next publication of a channel to which the worker is subscribed."""

    publication: Publication


class Subscribe(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Deliver *channel* from *since*, or from its head; answered by a `Page`."""

    request: int
    channel: str
    since: StreamPosition | None


class Unsubscribe(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """No longer deliver *channel*."""

    channel: str


class Read(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Read history; answered by a `Page`."""

    request: int
    channel: str
    since: StreamPosition | None
    limit: int | None


class Page(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Publications that follow *since*, as many as one message should hold.

    A subscription is live after the page that reaches the *top*; before that the worker asks for
    the next page. *since* differs from what was asked for when that could not be given.
    """

    request: int
    since: StreamPosition
    publications: Sequence[Publication]
    top: StreamPosition
    unrecoverable: bool = False
    failure: str = ""

    @property
    def end(self) -> StreamPosition:
        """The position after this page."""
        last = self.publications[-1:]
        return StreamPosition(last[0].offset, last[0].epoch) if last else self.since


class Clear(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Forget what was published in *channel*; answered by a `Page` without publications."""

    request: int
    channel: str


FromWorker = Hello | Ping | Publish | Subscribe | Unsubscribe | Read | Clear
FromSequencer = Welcome | Refusal | Pong | Outcomes | Delivery | Page
DECODE_FROM_WORKER = msgspec.msgpack.Decoder(FromWorker)
DECODE_FROM_SEQUENCER = msgspec.msgpack.Decoder(FromSequencer)
_encoder = msgspec.msgpack.Encoder()


def frame(message: FromWorker | FromSequencer) -> bytes:
    """Put *message* as it goes over the wire."""
    encoded = _encoder.encode(message)
    return len(encoded).to_bytes(_LENGTH_BYTES) + encoded


class Outgoing:
    """A message to any number of workers: encoded once, and only if one is in another process."""

    def __init__(self, message: FromSequencer) -> None:
        """Hold *message*."""
        self.message = message

    @cached_property
    def frame(self) -> bytes:
        """The message as it goes over the wire."""
        return frame(self.message)


class FrameReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        """Begin at the start of a stream."""
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Take *data*; the encoded messages that are complete now.

        Raises:
            ValueError: this is no stream of ours.
        """
        if self._rest:
            self._rest += data
            # Joined once when the message is whole, not with each piece of a large one.
            if len(self._rest) < _end_of_first(self._rest):
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, view = 0, memoryview(data)
        while at < len(data) and (end := at + _end_of_first(view[at:])) <= len(data):
            yield view[at + _LENGTH_BYTES : end]
            at = end
        self._rest += view[at:]


def _end_of_first(stream: bytearray | memoryview) -> int:
    """How many bytes of *stream* the first message takes, as far as it can be said."""
    if len(stream) < _LENGTH_BYTES:
        return _LENGTH_BYTES
    length = int.from_bytes(stream[:_LENGTH_BYTES])
    if length > MAX_FRAME:
        raise ValueError(f"a message of {length} bytes")
    return _LENGTH_BYTES + length


def common_version(hello: Hello) -> int | None:
    """The newest version that both sides speak."""
    version = min(hello.newest, NEWEST)
    return version if version >= max(hello.oldest, OLDEST) else None
