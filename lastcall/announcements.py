"""Who connects and disconnects, told to all: a line each up to a rate, one a second beyond."""

from collections import Counter
from enum import StrEnum

from lastcall.connection import RemoteAddress


class Change(StrEnum):
    """What happened to a client, in the word that the line ends with."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


def line(remote: RemoteAddress, change: Change) -> str:
    """`Client "[127.0.0.1]:54321" connected.`, quotes and brackets literal."""
    return f'Client "{remote}" {change}.'


def summary(count: int, change: Change) -> str:
    """Say it of many at once: `137 clients connected.`."""
    return f"{count} client{'' if count == 1 else 's'} {change}."


class Announcements:
    """Keeps a storm of thousands of clients from becoming thousands of lines for each of them.

    Time is cut into seconds by calls of `next_second`. In each of them up to *rate* lines are
    told at once; the others are counted, and told as a summary when it ends.
    """

    def __init__(self, rate: int) -> None:
        """Allow *rate* lines a second, whatever their channels; 0 leaves only summaries."""
        self._rate = rate
        self._told = 0
        self._untold: Counter[tuple[str, Change]] = Counter()

    def announce(self, channel: str, remote: RemoteAddress, change: Change) -> str | None:
        """The line to tell now in *channel*, or None when it will be part of the summary."""
        if self._told >= self._rate:
            self._untold[channel, change] += 1
            return None
        self._told += 1
        return line(remote, change)

    def count(self, channel: str, number: int, change: Change) -> None:
        """Put *number* clients that have no names into the next summary of *channel*."""
        self._untold[channel, change] += number

    def next_second(self) -> list[tuple[str, str]]:
        """A second is over: the channels and lines that have to be told of it."""
        self._told = 0
        untold, self._untold = self._untold, Counter()
        return [
            (channel, summary(count, change))
            for (channel, change), count in untold.items()
            if count
        ]
