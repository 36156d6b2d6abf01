"""The last orders to all workers, for connections that were on their way when they came.

Such a connection is nobody's for some milliseconds. Its state says which order its last worker had
heard; what came after that is done to it when it has arrived, or is back.
"""

from collections import deque
from dataclasses import dataclass

from lastcall.broker.base import StreamPosition

KEPT_SECONDS = 10.0
"""Longer than a connection can be on its way."""
KEPT_BYTES = 4 * 2**20
"""Of all bodies together; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """An order, and its place among all."""

    at: float
    position: StreamPosition
    what: str
    body: bytes


class OrderMemory:
    """Bounded in time and in bytes."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._orders: deque[Remembered] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._orders)

    def add(self, order: Remembered) -> None:
        """Remember *order*, the newest of all."""
        self._orders.append(order)
        self._bytes += len(order.body)
        while self._bytes > KEPT_BYTES or self._orders[0].at < order.at - KEPT_SECONDS:
            self._bytes -= len(self._orders.popleft().body)

    def since(self, position: StreamPosition) -> list[Remembered]:
        """Those that came after *position*, oldest first; none if it is of another epoch.

        Of another epoch is not known which of them had been heard, and what was done before is
        not to be done again: the client may have come back since, and be welcome.
        """
        return [
            each
            for each in self._orders
            if each.position.epoch == position.epoch and each.position.offset > position.offset
        ]
