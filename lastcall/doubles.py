"""What was published already: idempotency keys, and appends that a publisher sends again.

Pure, like `stream_log`, whose half it is. A batch looks things up while it is prepared (its own
appends included) and is remembered when it is applied.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lastcall.broker.base import StreamPosition

KEY_SECONDS = 300
"""How long an idempotency key is remembered; `Broker.publish` promises it."""
MAX_KEYS = 100_000
"""Idempotency keys remembered, at most: past it the oldest goes first."""
PUBLISHER_SECONDS = 60
"""How long a publisher's last sequence number is remembered; longer than it ever resends."""


class Keys:
    """Where the publication of each idempotency key is, for five minutes."""

    def __init__(self, known: Iterable[tuple[str, str, StreamPosition, float]] = ()) -> None:
        """Remember *known*, the oldest first: channel, key, position, time."""
        self._keys = {(channel, key): (at, to) for channel, key, to, at in known}

    def position(self, channel: str, key: str, now: float) -> StreamPosition | None:
        """Where *key* was published in *channel*."""
        at, position = self._keys.get((channel, key), (0.0, None))
        return position if at > now - KEY_SECONDS else None

    def remember(self, positions: Mapping[tuple[str, str], StreamPosition], now: float) -> None:
        """Remember new keys."""
        for key, position in positions.items():
            # Taken out first: the dict has to stay in the order of time.
            self._keys.pop(key, None)
            self._keys[key] = (now, position)
        self.expire(now)

    def expire(self, now: float) -> None:
        """Forget what is too old or too much."""
        while self._keys:
            key = next(iter(self._keys))
            if self._keys[key][0] > now - KEY_SECONDS and len(self._keys) <= MAX_KEYS:
                break
            del self._keys[key]


@dataclass(slots=True)
class _Publisher:
    """What one publisher has in the log and may send again."""

    last: int = 0
    used: float = 0
    positions: dict[int, StreamPosition] = field(default_factory=dict)


class Sequences:
    """How far each publisher came: a number that is not above its last is a double."""

    def __init__(self, known: Iterable[tuple[int, int, StreamPosition, float]] = ()) -> None:
        """Remember *known*, the oldest first: publisher, sequence number, position, time."""
        self._publishers: dict[int, _Publisher] = {}
        for publisher, sequence, position, at in known:
            self.remember(publisher, {sequence: position}, at)

    def last(self, publisher: int) -> int:
        """The highest number that was stored; 0 if none is known."""
        known = self._publishers.get(publisher)
        return known.last if known else 0

    def position(self, publisher: int, sequence: int) -> StreamPosition | None:
        """Where *sequence* was stored; None if it was refused, settled or forgotten."""
        known = self._publishers.get(publisher)
        return known.positions.get(sequence) if known else None

    def remember(self, publisher: int, positions: Mapping[int, StreamPosition], now: float) -> None:
        """Remember what was stored, in the order of numbers."""
        known = self._publishers.setdefault(publisher, _Publisher())
        known.positions.update(positions)
        known.last = max(known.last, *positions)
        known.used = now

    def settle(self, publisher: int, settled: int) -> None:
        """Forget where the numbers up to *settled* went: they will not come again."""
        known = self._publishers.get(publisher)
        while known and known.positions and (first := next(iter(known.positions))) <= settled:
            del known.positions[first]

    def expire(self, now: float) -> None:
        """Forget publishers that are gone."""
        oldest = now - PUBLISHER_SECONDS
        for publisher in [p for p, known in self._publishers.items() if known.used <= oldest]:
            del self._publishers[publisher]
