"""A connection on its way to a channel's head: nothing that it hears is lost or doubled.

Pure. The hub knows who is on the way (`Hub.hold`); what lies between the position and the head is
for the broker's history, which somebody asks meanwhile, or in what was remembered.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lastcall.broker.base import Publication, StreamPosition

if TYPE_CHECKING:
    from lastcall.connection import Connection

MAX_HELD = 10_000
"""Publications that may come while the history is asked; past it the connection is lost to them."""
MAX_REMEMBERED = 1_000
"""Publications of one channel."""


class CatchUp:
    """One connection and one channel, from a position until it stands where all others stand.

    Attributes:
        position: how far the client has come.
        is_behind: whether publications came between the position and the hold.
        is_lost: there is a gap behind the position that nobody can fill.
        told: the last publication that was told since; None: none was.
    """

    __slots__ = ("_held", "channel", "connection", "is_behind", "is_lost", "position", "told")

    def __init__(
        self,
        connection: "Connection",
        channel: str,
        since: StreamPosition,
        head: StreamPosition | None,
    ) -> None:
        """Hold what comes after *head*."""
        self.connection = connection
        self.channel = channel
        self.position = since
        self.is_behind = head is None or head.epoch != since.epoch or head.offset > since.offset
        self.is_lost = False
        self.told: Publication | None = None
        self._held: list[Publication] | None = []

    @property
    def is_held(self) -> bool:
        """Whether nothing is passed on yet."""
        return self._held is not None

    def take(self, publications: Sequence[Publication]) -> Sequence[Publication]:
        """Take what was published; return what the client hears of it now."""
        if self._held is None:
            return self._pass_on(publications)
        self._held += publications
        if len(self._held) > MAX_HELD:
            self.lose()
        return ()

    def go_live(self, missed: Sequence[Publication]) -> Sequence[Publication]:
        """What the client hears now: *missed*, in order, then what was held beyond it.

        From here on nothing is held any more. With a gap, nothing at all is heard, and `is_lost`.
        """
        held, self._held = self._held or [], None
        before = self.position
        heard = [*self._pass_on(missed), *self._pass_on(held)]
        if self.is_lost:
            self.position = before
            return ()
        return heard

    def lose(self) -> None:
        """The channel went on somewhere else."""
        self.is_lost = True
        if self._held is not None:
            self._held = []

    def has_reached(self, head: StreamPosition) -> bool:
        """Whether all that the channel's other subscribers have heard was heard here too.

        A client may be ahead: its last worker, or the history, was quicker than this one's bus.
        """
        position = self.position
        return position.epoch != head.epoch or position.offset <= head.offset

    def _pass_on(self, publications: Sequence[Publication]) -> list[Publication]:
        offset, epoch = self.position.offset, self.position.epoch
        new: list[Publication] = []
        for publication in publications:
            if publication.epoch != epoch or publication.offset > offset + 1:
                self.lose()
            elif publication.offset == offset + 1:
                offset += 1
                new.append(publication)
        if new:
            self.position = StreamPosition(offset, epoch)
        return new


class Remembered:
    """What was published in a channel since we began to listen, for those who come soon.

    Whoever has heard a channel elsewhere lacks a publication or two here, and would wait for the
    broker's history because of them.
    """

    __slots__ = ("_heard",)

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._heard: deque[Publication] = deque(maxlen=MAX_REMEMBERED)

    def take(self, publication: Publication) -> None:
        """Remember what was published now."""
        self._heard.append(publication)

    def between(
        self, position: StreamPosition, head: StreamPosition
    ) -> Sequence[Publication] | None:
        """All that lies behind *position*, up to *head*; None: not all of it is remembered."""
        found = [each for each in self._heard if each.epoch == head.epoch]
        found = [each for each in found if position.offset < each.offset <= head.offset]
        is_all = position.epoch == head.epoch and len(found) == head.offset - position.offset
        return found if is_all else None
