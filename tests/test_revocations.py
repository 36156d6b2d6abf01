"""Tokens that are no longer good although their time is not over."""

import itertools
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.errors import BadCommand, LimitExceeded
from lastcall.revocations import Revocation, Revocations, TokenRevocation, UserRevocation


def revoked(*revocations: Revocation, now: float = 0) -> Revocations:
    held = Revocations()
    for revocation in revocations:
        held.add(revocation, now)
    return held


def is_revoked(
    held: Revocations,
    *,
    user: str = "42",
    token_id: str = "t1",  # noqa: S107  (an id, no secret)
    issued_at: float | None = 50,
    now: float = 0,
) -> bool:
    return held.is_revoked(user=user, token_id=token_id, issued_at=issued_at, now=now)


def test_nothing_is_revoked_at_first() -> None:
    assert not is_revoked(Revocations())


def test_one_token_is_revoked_by_its_id_until_it_is_over_anyway() -> None:
    held = revoked(TokenRevocation("t1", until=100))

    assert is_revoked(held, now=99)
    assert is_revoked(held, user="someone else")
    assert not is_revoked(held, now=100)
    assert not is_revoked(held, token_id="t2")  # noqa: S106  (an id, no secret)
    assert not is_revoked(held, token_id="")


def test_tokens_of_a_user_are_revoked_that_were_issued_before() -> None:
    held = revoked(UserRevocation("42", issued_before=50, until=100))

    assert is_revoked(held, issued_at=49.9)
    assert not is_revoked(held, issued_at=50)
    assert is_revoked(held, issued_at=None)
    assert is_revoked(held, issued_at=0, token_id="")
    assert not is_revoked(held, user="43", issued_at=0)
    assert not is_revoked(held, issued_at=0, now=100)


def test_user_may_be_nobody_in_particular() -> None:
    held = revoked(UserRevocation("", issued_before=50, until=100))

    assert is_revoked(held, user="", issued_at=1)
    assert not is_revoked(held, issued_at=1)


def test_revocation_that_is_over_is_not_taken() -> None:
    held = revoked(TokenRevocation("t1", until=5), now=5)

    assert not is_revoked(held, now=1)
    assert not held.current(0)


def test_what_is_over_is_forgotten_and_what_was_prolonged_is_not() -> None:
    held = Revocations(limit=3)
    held.add(TokenRevocation("t1", until=10), 0)
    held.add(TokenRevocation("t1", until=20), 0)
    held.add(TokenRevocation("t1", until=15), 0)
    held.add(UserRevocation("42", issued_before=5, until=10), 0)

    assert held.current(10) == [TokenRevocation("t1", until=20)]
    assert is_revoked(held, now=19)
    held.add(TokenRevocation("t2", until=30), 10)
    held.add(TokenRevocation("t3", until=30), 10)
    assert held.current(20) == [
        TokenRevocation("t2", until=30),
        TokenRevocation("t3", until=30),
    ]


@pytest.mark.parametrize(
    "more", [TokenRevocation("t3", until=9), UserRevocation("42", issued_before=1, until=9)]
)
def test_limit_refuses_rather_than_forgets(more: Revocation) -> None:
    held = Revocations(limit=2)
    held.add(TokenRevocation("t1", until=9), 0)
    held.add(TokenRevocation("t2", until=9), 0)
    with pytest.raises(LimitExceeded):
        held.add(more, 0)

    assert is_revoked(held, token_id="t1")  # noqa: S106  (an id, no secret)
    assert not is_revoked(held, token_id="t3", issued_at=0)  # noqa: S106  (the same)
    held.add(TokenRevocation("t1", until=5), 0)


def test_there_is_room_again_when_one_is_over() -> None:
    held = Revocations(limit=1)
    held.add(TokenRevocation("t1", until=9), 0)
    held.add(TokenRevocation("t2", until=19), 9)

    assert held.current(9) == [TokenRevocation("t2", until=19)]


@pytest.mark.parametrize(
    "wrong",
    [
        TokenRevocation("", until=9),
        TokenRevocation("t1", until=float("inf")),
        TokenRevocation("t1", until=float("nan")),
        UserRevocation("42", issued_before=float("nan"), until=9),
    ],
)
def test_revocation_of_nothing_or_without_a_time_is_refused(wrong: Revocation) -> None:
    with pytest.raises(BadCommand):
        Revocations().add(wrong, 0)


def test_revocation_travels_between_workers() -> None:
    held = revoked(TokenRevocation("t1", until=9), UserRevocation("42", issued_before=1.5, until=9))
    message = msgspec.json.encode(held.current(0))

    assert msgspec.json.decode(message, type=list[Revocation]) == held.current(0)


TIMES = st.integers(1, 6).map(float)
REVOCATIONS = st.lists(
    st.builds(TokenRevocation, st.sampled_from(["t1", "t2"]), TIMES)
    | st.builds(UserRevocation, st.sampled_from(["1", "2"]), TIMES, TIMES),
    max_size=6,
)
EVERY_TOKEN = list(itertools.product(["1", "2"], ["", "t1", "t2"], [None, 0.0, 1.0, 3.0, 5.0, 6.0]))


def answers(held: Revocations, now: float) -> list[bool]:
    return [
        held.is_revoked(user=user, token_id=token_id, issued_at=issued_at, now=now)
        for user, token_id, issued_at in EVERY_TOKEN
    ]


@given(REVOCATIONS, st.randoms(use_true_random=False), TIMES)
def test_order_and_repetition_do_not_matter(
    revocations: list[Revocation],
    random: Random,
    now: float,
) -> None:
    shuffled = revocations * 2
    random.shuffle(shuffled)

    assert answers(revoked(*revocations), now) == answers(revoked(*shuffled), now)


@given(REVOCATIONS, TIMES)
def test_every_revocation_holds_as_long_as_it_says_and_no_longer(
    revocations: list[Revocation], now: float
) -> None:
    alone = [answers(revoked(revocation), now) for revocation in revocations]
    together = [any(each) for each in zip(*alone, strict=True)]

    assert answers(revoked(*revocations), now) == (together or answers(Revocations(), now))
    assert not any(answers(revoked(*revocations), 6))
    assert not revoked(*revocations).current(6)


@given(REVOCATIONS, REVOCATIONS, TIMES)
def test_worker_that_hears_of_them_late_agrees_with_the_others(
    early: list[Revocation], late: list[Revocation], now: float
) -> None:
    held = revoked(*early)
    for revocation in late:
        held.add(revocation, now)

    assert answers(held, now) == answers(revoked(*late, *early), now)


@given(REVOCATIONS, TIMES)
def test_worker_that_is_told_later_knows_the_same(
    revocations: list[Revocation], now: float
) -> None:
    held = revoked(*revocations)
    told = revoked(*held.current(now), now=now)

    assert answers(held, now) == answers(told, now)
