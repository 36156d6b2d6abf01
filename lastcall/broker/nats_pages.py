"""How a channel's history is read: from its last message back, as far as is needed. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from lastcall.broker.base import HistoryLimits, StreamPosition
from lastcall.broker.following import Page
from lastcall.broker.nats_messages import Head, Kept, Stored, head_of, publications


class Reading:
    """Reads what follows a position; says what to get next, and at the end what was found."""

    def __init__(
        self,
        channel: str,
        last: Kept,
        since: StreamPosition | None,
        limit: int,
        limits: HistoryLimits,
        *,
        now: int,
    ) -> None:
        """Read at most *limit* publications after *since*, from a channel that ends with *last*."""
        self._channel = channel
        self._since = since
        self._limit = limit
        self._oldest_at = now - int(limits.ttl * 1000)
        self._top = last.stored.top
        self._least = max(1, self._top.offset - limits.size + 1)
        """The first offset that may be read."""
        self._found: list[Stored] = []
        """Newest first."""
        self._before: Sequence[int] = ()
        self.take([last])

    @property
    def wanted(self) -> Sequence[int]:
        """The sequences of the messages to get next; none: it is read."""
        if not self._before or (self._since is None and self._limit == 0):
            return ()
        since, top, first = self._since, self._top, self._least
        if since is not None and since.epoch == top.epoch and since.offset <= top.offset:
            first = max(first, since.offset + 1)
        # Each message has a publication at least, but for a few.
        return self._before[: max(0, self._found[-1].first - first)]

    def take(self, found: Sequence[Kept | None]) -> None:
        """Take what was got, in the order of `wanted`."""
        self._before = ()
        for kept in found:
            if kept is None or not self._continues(kept.stored):
                return  # what lies further back is gone, or too old
            self._found.append(kept.stored)
        self._before = self._found[-1].before

    def page(self) -> Page:
        """What was found."""
        since, top = self._since, self._top
        first = max(self._least, self._found[-1].first if self._found else top.offset + 1)
        is_reached = (
            since is not None
            and since.epoch == top.epoch
            and first - 1 <= since.offset <= top.offset
        )
        start = since if since is not None and is_reached else StreamPosition(first - 1, top.epoch)
        found = [
            each
            for stored in reversed(self._found)
            for each in publications(self._channel, stored)
            if each.offset > start.offset
        ]
        return Page(start, top, is_reached, found[: self._limit])

    def _continues(self, stored: Stored) -> bool:
        end = self._found[-1].first - 1 if self._found else self._top.offset
        return stored.top == StreamPosition(end, self._top.epoch) and stored.at > self._oldest_at


class Mark(NamedTuple):
    """A message without publications that has to be appended before a channel is read."""

    stored: Stored
    expected: int
    """The sequence that the channel's last message must have."""
    is_necessary: bool


def mark(
    last: Kept | None,
    heard: StreamPosition | None,
    *,
    now: int,
    renew: int,
    new_epoch: str,
) -> Mark | None:
    """What has to be said about a channel before it is read, if anything.

    *heard* is what a worker has heard itself. A channel that nobody has published to for *renew*
    milliseconds is told anew where it stands, before that is forgotten.
    """
    begin = Head(StreamPosition(0, new_epoch), ())
    if last is None:
        return Mark(begin.message((), now), 0, is_necessary=True)
    top = last.stored.top
    if heard is not None and heard.epoch == top.epoch and heard.offset > top.offset:
        # The stream has gone back in time: a disk lost its last second, an old copy was restored.
        # The offsets that are missing will be given again, so the epoch must be another.
        return Mark(begin.message((), now), last.sequence, is_necessary=True)
    if last.stored.at <= now - renew:
        return Mark(head_of(last).message((), now), last.sequence, is_necessary=False)
    return None


def forgetting(last: Kept, now: int) -> Mark:
    """What says that nothing before it is to be read, and that the channel goes on where it is."""
    return Mark(Head(last.stored.top, ()).message((), now), last.sequence, is_necessary=True)
