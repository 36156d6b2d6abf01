"""A server that stops lets its clients go at a pace, whether they come back or not."""

import sys

import pytest

from benchmarks.evacuation import Outcome, measure

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(sys.platform != "linux", reason="the load run reads /proc"),
]


def check(outcome: Outcome, code: int) -> None:
    """What holds for both kinds: clean, all of them, within the time, and never a crowd."""
    assert outcome.codes == {code: outcome.clients}
    assert len(outcome.returns) == outcome.clients
    assert max(outcome.closes) <= outcome.seconds + 0.5, "the deadline, and a busy machine"
    assert outcome.ended <= outcome.seconds + 4


def test_clients_that_come_back_by_themselves_are_released_evenly_from_the_start() -> None:
    """The rate would not be enough for all of them: then the time is used evenly."""
    outcome = measure(300, 6, release_rate="20")

    check(outcome, 3001)
    assert min(outcome.closes) < 1.5
    assert outcome.peak <= 2 * outcome.even_rate


def test_the_rate_is_kept_where_there_is_time() -> None:
    """Nobody is made to wait longer than the next server needs: all have left before the time."""
    outcome = measure(90, 60, release_rate="30")

    check(outcome, 3001)
    assert outcome.peak <= 45
    assert outcome.ended < 20


def test_plain_clients_are_left_alone_and_then_closed_at_the_same_pace() -> None:
    outcome = measure(90, 6, path="/plain", release_rate="30")

    check(outcome, 1012)
    assert min(outcome.closes) > 2.5
    assert outcome.peak <= 45
