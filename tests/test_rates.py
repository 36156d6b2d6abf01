"""So many a second, for each name of its own, and nothing is kept of who has been quiet."""

from hypothesis import given
from hypothesis import strategies as st

from lastcall.rates import _ENOUGH, Rate


def test_without_a_rate_everything_is_free_and_nothing_is_kept() -> None:
    rate = Rate(0, burst=10)

    assert all(rate.take("ann", 0) for _ in range(1000))
    assert len(rate) == 0


def test_what_a_burst_brings_may_come_at_once_and_then_one_after_the_other() -> None:
    rate = Rate(2, burst=3)

    assert [rate.take("ann", 0) for _ in range(8)] == [True] * 6 + [False] * 2
    assert [rate.take("ann", 0.5), rate.take("ann", 0.5), rate.take("ann", 1)] == [
        True,
        False,
        True,
    ]
    assert [rate.take("ann", 100) for _ in range(7)] == [True] * 6 + [False]


def test_each_name_has_a_bucket_of_its_own() -> None:
    rate = Rate(1, burst=1)

    assert [rate.take(name, 0) for name in ("ann", "bob", "ann")] == [True, True, False]


def test_one_is_possible_however_slow_the_rate() -> None:
    rate = Rate(0.1, burst=1)

    assert [rate.take("ann", at) for at in (0, 9.9, 10)] == [True, False, True]


def test_who_has_been_quiet_is_forgotten() -> None:
    rate = Rate(1, burst=1)
    for number in range(_ENOUGH):
        rate.take(f"early {number}", 0)
    for number in range(_ENOUGH):
        rate.take(f"late {number}", 2)

    assert len(rate) == _ENOUGH
    assert not rate.take("late 0", 2), "who has not been quiet is remembered"


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(0.01, 20),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate_since_then(
    rate: float, burst: float, gaps: list[float]
) -> None:
    limit, now = Rate(rate, burst), 0.0
    taken = []
    for gap in gaps:
        now += gap
        if limit.take("ann", now):
            taken.append(now)

    for first, start in enumerate(taken):
        allowed = max(1, rate * burst) + rate * (taken[-1] - start) + 0.001
        assert len(taken) - first <= allowed + 1e-6
