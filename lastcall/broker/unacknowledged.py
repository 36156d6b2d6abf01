"""What a worker published and nobody has acknowledged yet: sent again after each loss, bounded."""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lastcall.broker.base import StreamPosition
from lastcall.broker.bus_messages import Outcome
from lastcall.errors import BrokerUnavailable
from lastcall.stream_log import Append

ANSWER_SECONDS = 10.0
"""How long a publisher waits for its answer, through the loss of any sequencer."""
MAX_BYTES = 16 * 2**20
"""What may wait to be acknowledged; more is refused at once. It has to fit into the backlog of one
connection (`bus_connection.MAX_BACKLOG`), because all of it is sent again at once."""
MAX_DATA = 8 * 2**20
"""Bytes of one publication."""
_OVERHEAD = 256
"""About what a waiting publication takes beside its data."""


@dataclass(eq=False, slots=True)
class _Waiting:
    append: Append
    result: "asyncio.Future[StreamPosition]"
    until: float
    size: int


class Unacknowledged:
    """Numbers the publications of one worker and keeps them until their outcome is known."""

    def __init__(self) -> None:
        """Begin as a publisher that nobody has heard of."""
        self._publisher = secrets.randbits(62) | 1
        self._sequence = 0
        self._bytes = 0
        self._waiting: dict[int, _Waiting] = {}

    def __iter__(self) -> Iterator[Append]:
        """All that has to be sent again, in order."""
        return iter([waiting.append for waiting in self._waiting.values()])

    def add(self, append: Append, result: "asyncio.Future[StreamPosition]") -> Append | None:
        """Give the next number to *append*; None if there is no room: *result* says so."""
        data = len(append.data) + len(append.about)
        if data > MAX_DATA:
            fail(result, f"{data} bytes are more than the {MAX_DATA} of one publication")
            return None
        size = data + len(append.channel) + len(append.key) + _OVERHEAD
        if self._bytes + size > MAX_BYTES:
            fail(result, "too many publications wait to be acknowledged")
            return None
        self._sequence += 1
        settled = next(iter(self._waiting), self._sequence) - 1
        numbered = Append(
            append.channel,
            append.data,
            append.kind,
            append.key,
            append.about,
            self._publisher,
            self._sequence,
            settled,
        )
        until = result.get_loop().time() + ANSWER_SECONDS
        self._waiting[self._sequence] = _Waiting(numbered, result, until, size)
        self._bytes += size
        return numbered

    def take(self, outcome: Outcome) -> None:
        """Tell the publisher what became of it."""
        if (waiting := self._waiting.get(outcome.sequence)) is None:
            return
        self._forget(waiting)
        if outcome.position is None:
            fail(waiting.result, outcome.reason)
        elif not waiting.result.done():
            waiting.result.set_result(outcome.position)

    def expire(self, now: float) -> None:
        """Fail what was not acknowledged in time."""
        while self._waiting and (oldest := next(iter(self._waiting.values()))).until <= now:
            self._forget(oldest)
            fail(oldest.result, "it was not acknowledged in time")

    def fail_all(self, reason: str) -> None:
        """Give up."""
        for waiting in list(self._waiting.values()):
            self._forget(waiting)
            fail(waiting.result, reason)

    def _forget(self, waiting: _Waiting) -> None:
        del self._waiting[waiting.append.sequence]
        self._bytes -= waiting.size


def fail(result: "asyncio.Future[Any]", reason: str) -> None:
    """Let *result* raise BrokerUnavailable, if somebody still waits for it."""
    if not result.done():
        result.set_exception(BrokerUnavailable(reason))
