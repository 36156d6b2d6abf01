"""What a worker's leaving did to its clients: counted meanwhile, reported when it is over."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the clients of one worker, or of several that left together.

    Every client that was there or arrived is in one of `handed_over`, `left`, `released` and
    `closed`, once the report is finished.
    """

    why: str = ""
    """stop, recycled or failed; empty for several workers that had different reasons."""
    workers: int = 1
    finished: bool = False
    at_start: int = 0
    """Clients when the worker began to leave."""
    arrived: int = 0
    """Clients that came after that."""
    told: int = 0
    """Clients that a notice reached; of the notice that reached most."""
    notices: int = 0
    handed_over: int = 0
    """Clients that another worker serves now, and that noticed nothing."""
    left: int = 0
    """Clients that went by themselves."""
    released: int = 0
    """Clients that were closed because they come back by themselves."""
    closed: int = 0
    """Other clients that were closed; also those whose next worker died while it took them."""
    cut: int = 0
    """Of those that were released or closed: who did not answer, and was cut."""
    peak_reconnects: int = 0
    """Clients that were released or closed in the busiest second: as many may come back at once."""
    longest_pause: float = 0
    """Seconds for which a client that was handed over was served by nobody, at most."""
    replayed: int = 0
    """Messages that clients got after the hand-over, because they were published during it."""
    duration: float = 0
    """Seconds from the signal."""

    def sentence(self) -> str:
        """For people."""
        text = (
            f"of {self.at_start + self.arrived} clients {self.left} went by themselves, "
            f"{self.handed_over} were handed over, {self.released} released, "
            f"{self.closed} closed, {self.cut} cut"
        )
        if self.handed_over:
            text += f"; longest pause {self.longest_pause * 1000:.0f} ms, {self.replayed} replayed"
        if self.peak_reconnects:
            text += f"; at most {self.peak_reconnects} let go in a second"
        return text


_SUMMED = (
    *("workers", "at_start", "arrived", "told", "handed_over", "left", "released", "closed", "cut"),
    *("peak_reconnects", "replayed"),
)
_LARGEST = ("notices", "longest_pause", "duration")


def merged(reports: Iterable[DrainReport]) -> DrainReport | None:
    """One report of workers that left together; None of none.

    Its peak is the sum of theirs, which is more than there was if they were not busy in the same
    second.
    """
    every = list(reports)
    if not every:
        return None
    reasons = {each.why for each in every}
    figures: dict[str, int | float] = {}
    figures |= {name: sum(getattr(each, name) for each in every) for name in _SUMMED}
    figures |= {name: max(getattr(each, name) for each in every) for name in _LARGEST}
    return msgspec.structs.replace(
        DrainReport(
            why=reasons.pop() if len(reasons) == 1 else "",
            finished=all(each.finished for each in every),
        ),
        **figures,
    )


@dataclass(frozen=True, slots=True)
class Moves:
    """What the hand-over has done so far."""

    handed_over: int = 0
    lost: int = 0
    """Clients that were closed, because the worker that took them died."""
    replayed: int = 0
    longest_pause: float = 0.0


class DrainCounts:
    """The account of one drain while it goes on. Times are passed in, in seconds."""

    def __init__(self, why: str, *, at_start: int, opened: int, now: float) -> None:
        """Begin with *at_start* clients; *opened* have ever been connected."""
        self.at_start = at_start
        self.notices = self.released = self.closed = self.cut = 0
        self._why = why
        self._opened = opened
        self._began_at = now
        self._told = self._told_now = 0
        self._let_go: deque[tuple[float, int]] = deque()
        self._in_second = self._peak = 0

    def notice(self) -> None:
        """A notice begins."""
        self.notices += 1
        self._told_now = 0

    def told(self, clients: int) -> None:
        """It has reached so many more."""
        self._told_now += clients
        self._told = max(self._told, self._told_now)

    def let_go(self, now: float, *, released: int = 0, closed: int = 0) -> None:
        """So many were released or closed."""
        self.released += released
        self.closed += closed
        number = released + closed
        self._let_go.append((now, number))
        self._in_second += number
        while now - self._let_go[0][0] >= 1:
            self._in_second -= self._let_go.popleft()[1]
        self._peak = max(self._peak, self._in_second)

    def report(
        self, *, now: float, opened: int, not_closed: int, moves: Moves, finished: bool = False
    ) -> DrainReport:
        """What has happened by *now*, with what other parts have counted."""
        arrived = opened - self._opened
        closed = self.closed + moves.lost
        gone = moves.handed_over + self.released + closed
        return DrainReport(
            why=self._why,
            finished=finished,
            at_start=self.at_start,
            arrived=arrived,
            told=self._told,
            notices=self.notices,
            handed_over=moves.handed_over,
            left=max(0, self.at_start + arrived - gone - not_closed),
            released=self.released,
            closed=closed,
            cut=self.cut,
            peak_reconnects=self._peak,
            longest_pause=round(moves.longest_pause, 4),
            replayed=moves.replayed,
            duration=round(now - self._began_at, 3),
        )
