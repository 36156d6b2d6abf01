"""How many connections move at a time: decided by how long the last ones waited."""

from dataclasses import dataclass

FIRST = 16
SMALLEST, LARGEST = 8, 32
"""Fewer would not wait less: they wait for a core then. Of more, each waits for all the others."""
WANTED = 0.005
"""Seconds for which the clients of a batch should be served by nobody."""


@dataclass(slots=True)
class BatchSize:
    """The size of the next batch."""

    next: int = FIRST

    def took(self, seconds: float) -> None:
        """The clients of the last batch waited for so long."""
        if seconds > 2 * WANTED:
            self.next = max(SMALLEST, self.next // 2)
        elif seconds < WANTED:
            self.next = min(LARGEST, self.next * 2)
