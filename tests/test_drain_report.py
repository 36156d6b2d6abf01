"""What a drain says of itself: every client is counted once, the busiest second is found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.drain_report import DrainCounts, DrainReport, Moves, merged


def test_every_client_is_in_one_place() -> None:
    counts = DrainCounts("stop", at_start=10, opened=110, now=5)
    counts.notice()
    counts.told(7)
    counts.told(2)
    counts.let_go(6, released=3, closed=1)
    moves = Moves(handed_over=2, lost=1, replayed=8, longest_pause=0.01234567)

    during = counts.report(now=7, opened=112, not_closed=4, moves=moves)
    counts.cut = 1
    over = counts.report(now=9.5, opened=112, not_closed=0, moves=moves, finished=True)

    assert (during.left, during.finished, during.duration) == (1, False, 2)
    assert over == DrainReport(
        why="stop",
        finished=True,
        at_start=10,
        arrived=2,
        told=9,
        notices=1,
        handed_over=2,
        left=5,
        released=3,
        closed=2,
        cut=1,
        peak_reconnects=4,
        longest_pause=0.0123,
        replayed=8,
        duration=4.5,
    )


def test_the_notice_that_reached_most_counts() -> None:
    counts = DrainCounts("stop", at_start=3, opened=3, now=0)
    for reached in (3, 1):
        counts.notice()
        counts.told(reached)

    report = counts.report(now=1, opened=3, not_closed=0, moves=Moves())
    assert (report.notices, report.told) == (2, 3)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 9)), max_size=40))
def test_the_peak_is_the_busiest_second_wherever_it_begins(steps: list[tuple[float, int]]) -> None:
    counts, now, events = DrainCounts("stop", at_start=0, opened=0, now=0), 0.0, []
    for later, number in steps:
        now += later
        events.append((now, number))
        counts.let_go(now, closed=number)

    peak = counts.report(now=now, opened=0, not_closed=0, moves=Moves()).peak_reconnects
    seconds = [sum(n for at, n in events if at <= end and end - at < 1) for end, _ in events]
    assert peak == max(seconds, default=0)


def test_workers_that_left_together_make_one_report() -> None:
    first = DrainReport(why="stop", finished=True, at_start=5, handed_over=5, longest_pause=0.2)
    second = DrainReport(why="stop", finished=True, at_start=3, left=3, notices=2, duration=9)
    failed = DrainReport(why="failed")

    both = merged([first, second])

    assert both == DrainReport(
        why="stop",
        workers=2,
        finished=True,
        at_start=8,
        handed_over=5,
        left=3,
        notices=2,
        longest_pause=0.2,
        duration=9,
    )
    assert merged([]) is None
    mixed = merged([first, failed])
    assert mixed is not None
    assert (mixed.why, mixed.finished) == ("", False)


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            DrainReport(at_start=2, left=2),
            "of 2 clients 2 went by themselves, 0 were handed over, 0 released, 0 closed, 0 cut",
        ),
        (
            DrainReport(
                at_start=5,
                arrived=1,
                handed_over=2,
                released=3,
                closed=1,
                longest_pause=0.004,
                replayed=7,
                peak_reconnects=4,
            ),
            (
                "of 6 clients 0 went by themselves, 2 were handed over, 3 released, 1 closed, "
                "0 cut; longest pause 4 ms, 7 replayed; at most 4 let go in a second"
            ),
        ),
    ],
)
def test_it_can_be_said_in_a_sentence(report: DrainReport, sentence: str) -> None:
    assert report.sentence() == sentence
