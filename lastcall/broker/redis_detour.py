"""The way that the questions of one slot take while its servers refuse them. Pure.

What was asked of a slot is on its way to a server when that refuses some of it: the slot moves, or
is on both sides for a while. A question that was refused may be asked again, but only where nothing
of the same key has been done since: the order in which somebody asked is the order of a channel.
So what is under way is waited for first, and then one question of each key is asked at a time,
until a round goes by in which none is refused.
"""

from collections import deque
from collections.abc import Callable, Iterator

from lastcall.broker.redis_address import Place


class Detour[Question]:
    """The questions of a slot, from the first that was refused until all can be asked as ever."""

    def __init__(self, key: Callable[[Question], bytes], under_way: int) -> None:
        """Begin with so many questions of which nobody knows yet what becomes of them."""
        self._key = key
        self._under_way = under_way
        self._refused: dict[bytes, list[Question]] = {}
        self._waiting: dict[bytes, deque[Question]] = {}
        self._aside: dict[bytes, Place] = {}
        self.has_asked = False
        """Whether there was a round already."""
        self._is_clear = False
        """Whether all of this round were answered, and by the owner of the slot."""

    @property
    def is_over(self) -> bool:
        """Whether all that waits may be asked at once, and whatever comes."""
        return not self._under_way and (self._is_clear or not (self._refused or self._waiting))

    def put(self, question: Question) -> None:
        """It was asked since, and waits for its turn."""
        self._waiting.setdefault(self._key(question), deque()).append(question)

    def refused(self, question: Question, aside: Place | None = None) -> None:
        """It was not done; this once it has to be asked *aside*, if somewhere else."""
        self._under_way -= 1
        self._is_clear = False
        key = self._key(question)
        self._refused.setdefault(key, []).append(question)
        if aside is not None:
            self._aside[key] = aside

    def returned(self, question: Question) -> None:
        """It has not left; of several, the last that was asked comes first."""
        self._under_way -= 1
        self._is_clear = False
        self._waiting.setdefault(self._key(question), deque()).appendleft(question)

    def answered(self, question: Question) -> list[Question]:
        """It was done, or nobody knows; return whom it overtook: they must not be done any more."""
        self._under_way -= 1
        return self._refused.pop(self._key(question), [])

    def expired(self, is_late: Callable[[Question], bool]) -> list[Question]:
        """Take out those that have waited too long."""
        late = []
        for key, waiting in list(self._waiting.items()):
            while waiting and is_late(waiting[0]):
                late.append(waiting.popleft())
            if not waiting:
                del self._waiting[key]
        return late

    def round(self) -> list[tuple[Question, Place | None]]:
        """What to ask now, each of the owner or aside; nothing while answers are waited for."""
        if self._under_way:
            return []
        self._gather()
        self.has_asked = True
        self._is_clear = not self._aside
        aside, self._aside = self._aside, {}
        asked = []
        for key, waiting in list(self._waiting.items()):
            question = waiting.popleft()
            if not waiting:
                del self._waiting[key]
            asked.append((question, aside.get(key)))
        self._under_way = len(asked)
        return asked

    def rest(self) -> Iterator[Question]:
        """All that waits, when it is over; those of a key in their order."""
        self._gather()
        for waiting in self._waiting.values():
            yield from waiting

    def _gather(self) -> None:
        for key, refused in self._refused.items():
            self._waiting.setdefault(key, deque()).extendleft(reversed(refused))
        self._refused.clear()
