"""What a worker appends to a channel: one message at a time, with the offsets that are next. Pure.

JetStream takes a message only if the channel's last one is still the one that its author knew.
Whoever was overtaken looks where the channel stands now, and tries again with other offsets. While
a message is under way, what is published meanwhile waits, and leaves with the next one together.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from lastcall.broker.base import StreamPosition
from lastcall.broker.nats_messages import Entry, Head, Stored

MESSAGE_ENTRIES = 500
"""Publications in one message, at most."""


class Waiting[Ticket](NamedTuple):
    """A publication that is to be appended, and the ticket of who waits for it."""

    entry: Entry
    size: int
    until: float
    """When nobody waits for it any more."""
    message_id: str
    """What JetStream knows it by, if it has an idempotency key; then it is a message of its own."""
    ticket: Ticket


class Append(NamedTuple):
    """A message that is to be sent now."""

    stored: Stored
    expected: int
    """The sequence that the channel's last message must have."""
    message_id: str
    until: float


class Appends[Ticket]:
    """One channel: where it stands as far as we know, what is under way, and what waits."""

    __slots__ = ("_under_way", "_waiting", "head")

    def __init__(self) -> None:
        """Begin without knowing anything."""
        self.head: Head | None = None
        self._under_way: tuple[Head, Sequence[Waiting[Ticket]]] | None = None
        self._waiting: deque[Waiting[Ticket]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return self._under_way is None and not self._waiting

    def add(self, waiting: Waiting[Ticket]) -> None:
        """Append this after everything that was added before."""
        self._waiting.append(waiting)

    def saw(self, head: Head) -> None:
        """Somebody has seen where the channel stood a moment ago."""
        if self.head is None or head.sequence > self.head.sequence:
            self.head = head

    def leave(self, at: int, room: int) -> Append | None:
        """The message that can be sent now, if there is one, at this time.

        It has *room* bytes at most, if its first publication has no more.
        """
        if self._under_way is not None or self.head is None or not self._waiting:
            return None
        batch = [self._waiting.popleft()]
        size, message_id = batch[0].size, batch[0].message_id
        while self._waiting and not message_id and len(batch) < MESSAGE_ENTRIES:
            following = self._waiting[0]
            size += following.size
            if following.message_id or size > room:
                break
            batch.append(self._waiting.popleft())
        self._under_way = self.head, batch
        stored = self.head.message([each.entry for each in batch], at)
        return Append(stored, self.head.sequence, message_id, batch[0].until)

    def stored(self, sequence: int) -> list[tuple[Waiting[Ticket], StreamPosition]]:
        """What is under way was stored; who waited for it, and for what."""
        head, batch = self._arrived()
        self.saw(head.after(len(batch), sequence))
        first, epoch = head.top.offset + 1, head.top.epoch
        return [(each, StreamPosition(first + number, epoch)) for number, each in enumerate(batch)]

    def refused(self) -> None:
        """What is under way was not stored: somebody was first, or nobody was there."""
        head, batch = self._arrived()
        self._waiting.extendleft(reversed(batch))
        if self.head is not None and self.head.sequence <= head.sequence:
            self.head = None

    def publish_again(self, sequence: int) -> None:
        """What is under way has the key of the message of this *sequence*, which was long ago."""
        _, (only,) = self._arrived()
        self._waiting.appendleft(only._replace(message_id=f"{only.message_id}.{sequence}"))

    def lost(self) -> Sequence[Waiting[Ticket]]:
        """Nobody knows what became of what is under way; who waits for it."""
        _, batch = self._arrived()
        self.head = None
        return batch

    def expire(self, now: float) -> list[Waiting[Ticket]]:
        """Give up what has waited too long, and return it."""
        expired = []
        while self._waiting and self._waiting[0].until <= now:
            expired.append(self._waiting.popleft())
        return expired

    def abandon(self) -> list[Waiting[Ticket]]:
        """Give everything up, and return it."""
        under_way = () if self._under_way is None else self._under_way[1]
        given_up = [*under_way, *self._waiting]
        self._under_way = None
        self._waiting.clear()
        return given_up

    def _arrived(self) -> tuple[Head, Sequence[Waiting[Ticket]]]:
        assert self._under_way is not None  # noqa: S101  (asked only about what leave() gave)
        arrived, self._under_way = self._under_way, None
        return arrived
