"""What is asked of Redis: one command, who waits for the answer, and for how long."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hiredis import pack_command

from lastcall.broker.heard_channels import ANSWER_SECONDS, fail

MAX_BYTES = 16 * 2**20
"""What may wait for its answer; more is refused at once."""
_OVERHEAD = 512
"""About what a waiting question takes beside its words."""

type Word = bytes | str | int


def packed(words: tuple[Word, ...]) -> bytes:
    """A command as it is sent."""
    sent: bytes = pack_command(words)  # type: ignore[arg-type]  # of any length
    return sent


@dataclass(eq=False, slots=True)
class Question:
    """One command under a channel's key; a script's arguments where there is a *script*."""

    key: bytes
    """In a cluster it decides who is asked; all of a channel have the same."""
    command: tuple[Word, ...]
    script: bytes
    take: Callable[[Any], object]
    """Makes the result of what is answered."""
    answer: "asyncio.Future[Any]"
    until: float
    size: int
    waiting: "Waiting"
    answer_by: float = 0.0
    """When whoever was asked is given up."""
    slot: int = -1
    """Of the key, in a cluster."""
    is_aside: bool = False
    """Whether it is asked of a server that does not own the slot yet."""

    def succeed(self, answered: Any) -> None:
        """Give the result, if somebody still waits for it."""
        self.waiting.size -= self.size
        if not self.answer.done():
            try:
                self.answer.set_result(self.take(answered))
            except ValueError as error:
                fail(self.answer, f"what lies in Redis cannot be read: {error}")

    def fail(self, reason: str) -> None:
        """Raise BrokerUnavailable where the result is waited for."""
        self.waiting.size -= self.size
        fail(self.answer, reason)


class Waiting:
    """How much waits for an answer, all servers together."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.size = 0

    def question(
        self, key: bytes, command: tuple[Word, ...], script: bytes, take: Callable[[Any], object]
    ) -> Question | None:
        """A question that somebody has to ask, answer or fail; None if too much waits already."""
        size = _OVERHEAD + sum(len(word) for word in command if not isinstance(word, int))
        if self.size + size > MAX_BYTES:
            return None
        self.size += size
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        return Question(
            key, command, script, take, answer, loop.time() + ANSWER_SECONDS, size, self
        )
