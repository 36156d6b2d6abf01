"""The history of a log with a file, in answers of bounded size."""

from collections.abc import Callable, Sequence
from functools import partial

from lastcall.broker.base import History, Publication, Retention, StreamPosition
from lastcall.broker.bus_messages import Page, Read, Subscribe
from lastcall.errors import UnrecoverablePosition
from lastcall.log_file import LogFile
from lastcall.stream_log import StreamLog

PAGE = 1000
PAGE_BYTES = 2**20
"""One answer holds at most so much of a history; its reader asks again."""

Older = tuple[StreamPosition, list[tuple[float, Publication]]]
"""What a file had before a position."""


class HistoryPages:
    """Answers from the ring; what is only in the file is put into the ring first."""

    def __init__(
        self, file: LogFile, log: StreamLog, limits: Retention, clock: Callable[[], float]
    ) -> None:
        """Read *log*, which was loaded from *file*."""
        self._file = file
        self._log = log
        self._limits = limits
        self._clock = clock

    def page(self, asked: Subscribe | Read) -> Page | None:
        """Answer *asked*; None if the file has to be read before that."""
        now, since = self._clock(), asked.since
        limit = asked.limit if isinstance(asked, Read) else None
        if isinstance(asked, Subscribe) and since is None:
            here = self._log.position(asked.channel, now)
            return Page(asked.request, here, (), here)
        if self._log.older_in_file(asked.channel, since) is not None:
            return None
        try:
            history = self._log.history(asked.channel, since, _at_most(limit), now)
        except UnrecoverablePosition:
            # The reader gets all that there is instead, which may be more than the ring has.
            if self._log.older_in_file(asked.channel, None) is not None:
                return None
            history = self._log.history(asked.channel, None, _at_most(limit), now)
            start, unrecoverable = _before(history), True
        else:
            start, unrecoverable = since or _before(history), False
        return Page(asked.request, start, _fitting(history), history.top, unrecoverable)

    def read(self, channel: str) -> Callable[[], Older] | None:
        """Make a call that reads the file, for a thread; None if that is no longer needed."""
        end = self._log.older_in_file(channel, None)
        return None if end is None else partial(self._read, channel, end, self._clock())

    def take(self, channel: str, older: Older) -> None:
        """Put what was read in front of the ring."""
        end, publications = older
        self._log.fill(channel, end, publications, self._clock())

    def _read(self, channel: str, end: StreamPosition, now: float) -> Older:
        return end, self._file.read(channel, end, self._limits.of(channel), now)


def _at_most(limit: int | None) -> int:
    return PAGE if limit is None else min(limit, PAGE)


def _fitting(history: History) -> Sequence[Publication]:
    """As many of the publications as one page holds, but at least one."""
    size = 0
    for number, publication in enumerate(history.publications):
        size += len(publication.data)
        if size > PAGE_BYTES and number:
            return history.publications[:number]
    return history.publications


def _before(history: History) -> StreamPosition:
    """The position that the publications follow."""
    first = history.publications[:1]
    return StreamPosition(first[0].offset - 1, first[0].epoch) if first else history.top
