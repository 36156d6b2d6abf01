"""How a worker follows a channel whose publications come from elsewhere, maybe not all of them.

Pure: it takes what comes and what was read, and says what to deliver and when to read. Whoever
delivers by offsets, without a gap, can never be wrong silently: what is not the next one is not
delivered before the stream was asked.
"""

from collections.abc import Sequence

import msgspec

from lastcall.broker.base import Publication, StreamPosition

MAX_HELD = 1000
"""Publications kept while the stream is read. Past it they are forgotten and read with it."""


class Page(msgspec.Struct, frozen=True):
    """A part of a stream: what follows *since*, which is where its reader was."""

    since: StreamPosition
    top: StreamPosition
    is_reached: bool
    """Whether *since* is what was asked for; if not, what lay between is gone."""
    publications: Sequence[Publication]


class Following:
    """One channel: where its hub stands, and what waits because something before it is missing."""

    __slots__ = ("_held", "_told", "channel", "position")

    def __init__(self, channel: str) -> None:
        """Begin without a position: all that comes waits for the first reading."""
        self.channel = channel
        self.position: StreamPosition | None = None
        self._held: list[Publication] | None = []
        self._told = 0
        """The last offset that was told, as opposed to read; of the epoch of the position."""

    @property
    def is_behind(self) -> bool:
        """Whether the stream has to be read before anything is delivered."""
        return self._held is not None

    def suspect(self) -> None:
        """Something may have been missed: deliver nothing before the stream was read."""
        if self._held is None:
            self._held = []

    def take(self, publication: Publication) -> Sequence[Publication]:
        """Take what came; return what to deliver of it now."""
        goes_back = self._goes_back(publication)
        if self._held is not None:
            if len(self._held) >= MAX_HELD:
                self._held.clear()
            self._held.append(publication)
            return ()
        if self._is_next(publication):
            return (publication,)
        if goes_back or not self._is_known(publication):
            self._held = [publication]
        return ()

    def read(
        self,
        since: StreamPosition,
        found: Sequence[Publication],
        top: StreamPosition,
    ) -> Sequence[Publication]:
        """Take what the stream had after *since*, up to its *top* or less; return what to deliver.

        Where *since* is not our position, the channel goes on there, and what lay between is lost.
        """
        if self.position is None or self.position.epoch != since.epoch:
            self._told = 0
        self.position = since
        heard = [each for each in found if self._is_next(each)]
        if self.position.offset < top.offset:
            return heard  # one page of several
        held, self._held = self._held or [], None
        for publication in held:
            if self._is_next(publication):
                heard.append(publication)
            elif not self._is_known(publication):
                # All that is held is in the stream, or gone: nothing of it has to be kept.
                self._held = []
                break
        return heard

    def _goes_back(self, publication: Publication) -> bool:
        """Whether an offset is told again: by another publication, of a stream that lost some.

        What was read before it was told is only late: each offset is told once, in order.
        """
        if self.position is None or publication.epoch != self.position.epoch:
            return False
        before, self._told = self._told, publication.offset
        return publication.offset <= before

    def _is_next(self, publication: Publication) -> bool:
        """Whether it is the one that follows; then it is our position from now on."""
        position = self.position
        if (
            position is None
            or publication.epoch != position.epoch
            or publication.offset != position.offset + 1
        ):
            return False
        self.position = StreamPosition(publication.offset, publication.epoch)
        return True

    def _is_known(self, publication: Publication) -> bool:
        position = self.position
        return (
            position is not None
            and publication.epoch == position.epoch
            and publication.offset <= position.offset
        )
