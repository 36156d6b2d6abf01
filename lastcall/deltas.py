"""Deltas between publications: each is made once, for all who read it."""

from lastcall.fossil_delta import delta

FOSSIL = "fossil"
"""What clients and settings call the only kind of deltas that there is."""
MAX_LENGTH = 128 * 1024
"""Bytes of a payload, past which nobody looks for what it has in common: that takes time."""
MAX_REMEMBERED = 4 * 2**20
"""Bytes of payloads and deltas that are remembered together."""


class Deltas:
    """Makes deltas and remembers them.

    The clients of all protocols stand at the same place of a channel, and those that come back
    together after a restart have all missed the same.
    """

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        """Remember nothing yet, and *max_remembered* bytes at most."""
        self._limit = max_remembered
        self._remembered: dict[tuple[bytes, bytes], bytes | None] = {}
        self._size = 0

    def between(self, before: bytes, after: bytes) -> bytes | None:
        """The delta by which who has *before* gets *after*; None: it would be no shorter."""
        if max(len(before), len(after)) > MAX_LENGTH:
            return None
        pair = before, after
        if pair in self._remembered:
            return self._remembered[pair]
        made = delta(before, after)
        found = made if len(made) < len(after) else None
        self._remember(pair, found)
        return found

    def _remember(self, pair: tuple[bytes, bytes], found: bytes | None) -> None:
        self._remembered[pair] = found
        self._size += _size(pair, found)
        while self._size > self._limit:
            oldest = next(iter(self._remembered))
            self._size -= _size(oldest, self._remembered.pop(oldest))


def _size(pair: tuple[bytes, bytes], found: bytes | None) -> int:
    return len(pair[0]) + len(pair[1]) + len(found or b"")
