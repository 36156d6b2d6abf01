"""Channels as streams: positions, a bounded ring, idempotency keys, doubles.

The one core under the brokers of this package. It knows no file, no socket and no clock: the time
is passed in. An append is two steps, `prepare` (decide) and `apply` (let it be so), because a
broker with a file writes the batch in between, and nothing may be seen that was not written.
"""

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from lastcall.broker.base import (
    History,
    HistoryLimits,
    Kind,
    Publication,
    Retention,
    StreamPosition,
)
from lastcall.doubles import Keys, Sequences
from lastcall.errors import UnrecoverablePosition

IDLE_SECONDS = 3600
"""How long a stream without publications and subscribers keeps its position past the ttl."""


class Append(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a publisher wants in a channel.

    *publisher* (0: nobody resends) numbers its appends: *sequence* only ever grows, and all up to
    *settled* will not be sent again.
    """

    channel: str
    data: bytes
    kind: Kind = Kind.TEXT
    key: str = ""
    about: bytes = b""
    publisher: int = 0
    sequence: int = 0
    settled: int = 0


class StreamState(msgspec.Struct, frozen=True, array_like=True):
    """What a file remembers of a channel: its position, and when it was last published to."""

    channel: str
    epoch: str
    head: int
    used: float


class LogState(msgspec.Struct, frozen=True):
    """What a file remembers of a log when it is opened again."""

    epoch: str
    generation: int = 0
    streams: Sequence[StreamState] = ()
    keys: Sequence[tuple[str, str, StreamPosition, float]] = ()
    sequences: Sequence[tuple[int, int, StreamPosition, float]] = ()


@dataclass(slots=True)
class Batch:
    """Appends on their way into the log, decided but not yet so.

    *positions* has one for each append that was asked for; None: a double of something that was
    refused or forgotten, so nobody can say that it was stored. *publications* are the new ones
    and *appends* what they came from.
    """

    at: float
    positions: list[StreamPosition | None] = field(default_factory=list)
    publications: list[Publication] = field(default_factory=list)
    appends: list[Append] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, str], StreamPosition] = field(default_factory=dict)
    sequences: dict[int, dict[int, StreamPosition]] = field(default_factory=dict)


@dataclass(slots=True)
class _Stream:
    """One channel: its head, and the ring that ends there without a gap."""

    epoch: str
    head: int
    used: float
    older_in_file: bool = False
    ring: deque[tuple[float, Publication]] | None = None
    """Publications with their times; None while empty, because an empty deque takes 760 bytes
    and most channels of a large server are idle."""

    @property
    def start(self) -> int:
        """The offset after which the ring has everything."""
        return self.head - len(self.ring or ())

    def add(self, publication: Publication, at: float) -> None:
        """Put *publication* at the top."""
        self.head = publication.offset
        if self.ring is None:
            self.ring = deque()
        self.ring.append((at, publication))

    def trim(self, limits: HistoryLimits, now: float) -> None:
        """Forget what is beyond the limits."""
        oldest = now - limits.ttl
        while self.ring and (self.ring[0][0] <= oldest or len(self.ring) > limits.size):
            self.ring.popleft()
            # All that the file has is older than this one was.
            self.older_in_file = False
        self.ring = self.ring or None


class StreamLog:
    """All channels of a server: gapless offsets from 1 in an epoch, bounded history.

    One owner calls it from one thread. Between `prepare` and `apply` of a batch no other batch may
    be prepared and nothing forgotten; reading is allowed and sees the state before the batch.
    """

    def __init__(self, limits: Retention, state: LogState | None = None) -> None:
        """Begin a new log, or go on where *state* ended."""
        state = state or LogState(epoch=new_epoch())
        self._limits = limits
        self._epoch = state.epoch
        self._generation = state.generation
        self._streams = {
            s.channel: _Stream(s.epoch, s.head, s.used, older_in_file=True) for s in state.streams
        }
        self._keys = Keys(state.keys)
        self._sequences = Sequences(state.sequences)
        self._sweep: list[str] = []

    @property
    def generation(self) -> int:
        """How often streams were forgotten; a stream that begins after that has another epoch."""
        return self._generation

    def prepare(self, appends: Iterable[Append], now: float) -> Batch:
        """Decide where each of *appends* goes; nothing is seen of it before `apply`."""
        batch = Batch(now)
        for append in appends:
            if append.publisher and append.sequence <= self._last_sequence(append, batch):
                position = self._position_of_double(append, batch)
            elif append.key and (known := self._position_of_key(append, batch)) is not None:
                position = known
            else:
                position = self._place(append, batch)
            batch.positions.append(position)
        return batch

    def apply(self, batch: Batch) -> None:
        """Let a prepared batch be so: from here its publications are in the history."""
        for publication in batch.publications:
            self._streams[publication.channel].add(publication, batch.at)
        for channel in batch.heads:
            stream = self._streams[channel]
            stream.used = batch.at
            stream.trim(self._limits.of(channel), batch.at)
        if batch.keys:
            self._keys.remember(batch.keys, batch.at)
        for publisher, positions in batch.sequences.items():
            self._sequences.remember(publisher, positions, batch.at)
        for append in batch.appends:
            if append.publisher:
                self._sequences.settle(append.publisher, append.settled)

    def position(self, channel: str, now: float) -> StreamPosition:
        """Where *channel* stands; it stays known from here on, also if nothing is published."""
        stream = self._streams.get(channel) or self._begin(channel, now)
        return StreamPosition(stream.head, stream.epoch)

    def history(
        self, channel: str, since: StreamPosition | None, limit: int | None, now: float
    ) -> History:
        """Read at most *limit* publications after *since*, or from the oldest without one.

        Raises:
            UnrecoverablePosition: *since* is of another epoch, or publications after it are gone.
        """
        # A channel that nobody published to is not begun by looking at it: that would let anybody
        # who may read grow the log.
        stream = self._streams.get(channel) or _Stream(self._epoch_of_new(), 0, now)
        stream.trim(self._limits.of(channel), now)
        top = StreamPosition(stream.head, stream.epoch)
        ring = stream.ring or ()
        first = 0
        if since is not None:
            first = since.offset - stream.start
            if since.epoch != stream.epoch or not 0 <= first <= len(ring):
                raise UnrecoverablePosition(
                    f"{channel!r} does not reach back to {since.offset} of epoch {since.epoch!r}"
                )
        last = None if limit is None else first + max(limit, 0)
        return History([publication for _, publication in islice(ring, first, last)], top)

    def clear(self, channel: str) -> None:
        """Forget the publications of *channel*, those in the file too; its position stays."""
        stream = self._streams.get(channel)
        if stream is not None:
            stream.ring, stream.older_in_file = None, False

    def older_in_file(self, channel: str, since: StreamPosition | None) -> StreamPosition | None:
        """Where the ring starts, if what `history` needs before it may be in the file."""
        stream = self._streams.get(channel)
        if stream is None or not stream.older_in_file:
            return None
        if since is not None and (since.epoch != stream.epoch or since.offset >= stream.start):
            return None
        return StreamPosition(stream.start, stream.epoch)

    def fill(
        self,
        channel: str,
        end: StreamPosition,
        older: Sequence[tuple[float, Publication]],
        now: float,
    ) -> None:
        """Put what the file had before *end* in front of the ring."""
        stream = self._streams.get(channel)
        if stream is None or not stream.older_in_file or end.epoch != stream.epoch:
            return
        # Whatever was appended during the reading, the ring still begins at *end*: had it lost its
        # front, nothing in the file would be wanted any more.
        stream.ring = stream.ring or deque()
        stream.ring.extendleft(reversed(older))
        stream.older_in_file = False
        stream.trim(self._limits.of(channel), now)

    def expire(self, now: float, subscribed: Collection[str], at_most: int = 1000) -> list[str]:
        """Forget what is too old, looking at *at_most* channels; call it about every second.

        Returns the channels that were forgotten as a whole.
        """
        if not self._sweep:
            self._sweep = list(self._streams)
        forgotten = []
        for channel in self._sweep[-at_most:]:
            stream = self._streams[channel]
            limits = self._limits.of(channel)
            stream.trim(limits, now)
            idle = stream.used <= now - limits.ttl - IDLE_SECONDS
            if idle and channel not in subscribed:
                del self._streams[channel]
                forgotten.append(channel)
        del self._sweep[-at_most:]
        if forgotten:
            # A forgotten channel that begins again counts from 1: another epoch tells them apart.
            self._generation += 1
        self._keys.expire(now)
        self._sequences.expire(now)
        return forgotten

    def _place(self, append: Append, batch: Batch) -> StreamPosition:
        channel = append.channel
        stream = self._streams.get(channel) or self._begin(channel, batch.at)
        offset = batch.heads.get(channel, stream.head) + 1
        position = StreamPosition(offset, stream.epoch)
        batch.heads[channel] = offset
        batch.appends.append(append)
        batch.publications.append(
            Publication(channel, append.data, offset, stream.epoch, append.kind, append.about)
        )
        if append.key:
            batch.keys[channel, append.key] = position
        if append.publisher:
            batch.sequences.setdefault(append.publisher, {})[append.sequence] = position
        return position

    def _begin(self, channel: str, now: float) -> _Stream:
        stream = self._streams[channel] = _Stream(self._epoch_of_new(), 0, now)
        return stream

    def _epoch_of_new(self) -> str:
        return f"{self._epoch}.{self._generation}" if self._generation else self._epoch

    def _position_of_key(self, append: Append, batch: Batch) -> StreamPosition | None:
        here = batch.keys.get((append.channel, append.key))
        return here or self._keys.position(append.channel, append.key, batch.at)

    def _last_sequence(self, append: Append, batch: Batch) -> int:
        if append.publisher in batch.sequences:
            return next(reversed(batch.sequences[append.publisher]))
        return self._sequences.last(append.publisher)

    def _position_of_double(self, append: Append, batch: Batch) -> StreamPosition | None:
        known = batch.sequences.get(append.publisher, {}).get(append.sequence)
        known = known or self._sequences.position(append.publisher, append.sequence)
        if known is None and append.key:
            return self._position_of_key(append, batch)
        return known


def new_epoch() -> str:
    """Make an epoch that no other log has."""
    return secrets.token_hex(6)
