"""What we hold ourselves to, and whether a session reached it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.candidates import CENTRIFUGE, LASTCALL, LASTCALL_ASYNCIO, PLAIN
from benchmarks.results_file import Session
from benchmarks.runs import NOBODY_DEAF, ONE_DEAF, ONE_OF_MANY, TWO_WORKERS
from benchmarks.table import grid, spread, title


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target, what was measured, and whether that is enough."""

    target: str
    measured: str
    reached: bool


def targets(session: Session) -> str:
    """All of them as a table."""
    return judged(session, _JUDGES)


def centrifuge_targets(session: Session) -> str:
    """Those of the Centrifuge protocol, by a session of its own."""
    return judged(session, (_than_plain_text, _recovery))


def judged(session: Session, judges: Iterable[Callable[[Session], Iterator[Outcome]]]) -> str:
    """What *judges* say of a session, as a table."""
    outcomes = [outcome for judge in judges for outcome in judge(session)]
    lines = [[each.target, each.measured, "yes" if each.reached else "**no**"] for each in outcomes]
    return grid(["what", "measured", "reached"], lines)


def _fan_out(session: Session) -> Iterator[Outcome]:
    cpu = session.ratios("one in flight", LASTCALL, "cpu_us")
    yield Outcome(
        f"{title(session, 'one in flight')}: CPU a delivery at most 1.15 of the floor's",
        spread(cpu),
        median(cpu) <= 1.15,
    )
    for row in ("eight in flight", "many"):
        rate = session.ratios(row, LASTCALL, "deliveries")
        yield Outcome(
            f"{title(session, row)}: at least 3.5 times the floor's deliveries",
            spread(rate),
            median(rate) >= 3.5,
        )
    p50, lost = (session.figure("offered", LASTCALL, name) for name in ("p50_ms", "lost"))
    yield Outcome(
        f"{title(session, 'offered')}: all delivered, p50 at most 10 ms",
        f"{p50:.1f} ms, {lost:.0f} lost",
        p50 <= 10 and not lost,
    )


def _connections(session: Session) -> Iterator[Outcome]:
    for server, limit in ((LASTCALL, 3072), (LASTCALL_ASYNCIO, 4608)):
        size = session.figure("idle", server, "bytes")
        yield Outcome(
            f"{title(session, 'idle')}, {server}: at most {limit / 1024:g} KiB each",
            f"{size / 1024:.2f} KiB",
            size <= limit,
        )
    rate = session.figure("connects", LASTCALL, "connects")
    yield Outcome(
        f"{title(session, 'connects')}: 9,000 a second",
        f"{rate:,.0f}; by CPU alone {1e6 / session.figure('connects', LASTCALL, 'cpu_us'):,.0f}",
        rate >= 9000,
    )


def _two_workers(session: Session) -> Iterator[Outcome]:
    cpu = session.ratios("workers", TWO_WORKERS, "cpu_us", ONE_OF_MANY)
    yield Outcome(
        "Two workers instead of one: at most 1.25 of its CPU a delivery",
        spread(cpu),
        median(cpu) <= 1.25,
    )
    added = difference(session, "workers, few", TWO_WORKERS, ONE_OF_MANY, "p50_ms")
    yield Outcome(
        "Two workers instead of one: p50 at most 1 ms later", f"{added:+.2f} ms", added <= 1
    )


def _deaf_client(session: Session) -> Iterator[Outcome]:
    code = session.largest("deaf", ONE_DEAF, "close_code")
    later = difference(session, "deaf", ONE_DEAF, NOBODY_DEAF, "p99_ms")
    before = session.figure("deaf", NOBODY_DEAF, "p99_ms")
    yield Outcome(
        f"{title(session, 'deaf')}: closed with 3008, p99 of the others no worse than by noise",
        f"{code:.0f}; {later:+.1f} ms of {before:.1f}",
        code == 3008 and later <= max(1, before / 4),
    )


def _than_plain_text(session: Session) -> Iterator[Outcome]:
    for row in ("one in flight", "eight in flight", "many"):
        cpu = session.ratios(row, CENTRIFUGE, "cpu_us", PLAIN)
        yield Outcome(
            f"{title(session, row)}, {CENTRIFUGE}: CPU a delivery at most 1.1 of plain text's",
            spread(cpu),
            median(cpu) <= 1.1,
        )
    size = session.figure("idle", CENTRIFUGE, "bytes")
    yield Outcome(
        f"{title(session, 'idle')}, {CENTRIFUGE}, each with a subscription: at most 4 KiB each",
        f"{size / 1024:.2f} KiB",
        size <= 4096,
    )


def _recovery(session: Session) -> Iterator[Outcome]:
    for server in session.servers("recovery"):
        lost, mixed_up = (
            session.largest("recovery", server, name) for name in ("lost", "out_of_order")
        )
        seconds, cpu = (session.figure("recovery", server, name) for name in ("seconds", "cpu_s"))
        yield Outcome(
            f"{title(session, 'recovery')}, {server}: everybody gets all of it once, in order",
            f"{lost:.0f} lost, {mixed_up:.0f} out of order; {seconds:.1f} s, {cpu:.1f} s of CPU",
            not lost and not mixed_up,
        )


def difference(session: Session, row: str, server: str, other: str, name: str) -> float:
    """How much more a figure of *server* is than that of *other*."""
    return session.figure(row, server, name) - session.figure(row, other, name)


_JUDGES: tuple[Callable[[Session], Iterator[Outcome]], ...] = (
    _fan_out,
    _connections,
    _two_workers,
    _deaf_client,
)
