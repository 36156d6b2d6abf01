"""What is due for a session, and that it survives a move."""

from dataclasses import replace

import pytest

from lastcall.errors import ConnectionExpired, NoPong, Stale, SubscriptionExpired
from lastcall.session import AskAgain, Due, Expired, Ping, Session, Stage, Subscription, Timing

TIMING = Timing(stale=10, ping=25, pong=8, expired=25)
NOW = 1_000_000.0
"""By the wall clock, where the beat is 0."""


def connected(**fields: object) -> Session:
    session = Session(since=0, client="c", stage=Stage.CONNECTED)
    for name, value in fields.items():
        setattr(session, name, value)
    return session


def due(session: Session, beat: float) -> list[Due]:
    return session.due(TIMING, now=NOW + beat, beat=beat)


def rest(session: Session, beat: float) -> float:
    return session.rest(TIMING, now=NOW + beat, beat=beat)


@pytest.mark.parametrize("stage", [Stage.NEW, Stage.REFUSED])
def test_who_never_connects_is_let_go(stage: Stage) -> None:
    session = Session(since=0, stage=stage)

    assert rest(session, 1) == 9
    assert due(session, 9.9) == []
    assert isinstance(due(session, 10)[0], Stale)
    assert rest(session, 11) == 0


def test_pings_are_answered_in_time_or_never() -> None:
    session = connected(ping_at=20.0)

    assert not session.pong()
    assert rest(session, 0) == 20
    assert due(session, 19) == []
    assert due(session, 20) == [Ping()]
    assert rest(session, 20) == 8
    assert session.pong()
    assert rest(session, 20) == 25
    assert due(session, 28) == []
    assert due(session, 45) == [Ping()]
    assert isinstance(due(session, 53)[0], NoPong)


def test_expired_connection_has_some_time_for_a_fresh_token() -> None:
    session = connected(expire_at=NOW + 100)

    assert rest(session, 0) == 125
    assert due(session, 124) == []
    assert isinstance(due(session, 125)[0], ConnectionExpired)


def test_expired_subscription_ends_alone_if_the_client_made_it() -> None:
    theirs = Subscription(expire_at=NOW + 10)
    session = connected(subscriptions={"a": theirs, "b": Subscription()})

    assert rest(session, 0) == 35
    assert due(session, 34) == []
    assert due(session, 35) == [Expired("a")]


def test_expired_subscription_of_the_servers_ends_the_connection() -> None:
    session = connected(subscriptions={"a": Subscription(server_side=True, expire_at=NOW)})

    assert isinstance(due(session, 25)[0], SubscriptionExpired)


def test_nothing_is_due_where_nothing_was_agreed() -> None:
    session = connected()
    timing = replace(TIMING, ping=0)

    assert session.due(timing, now=NOW, beat=1e9) == []
    assert session.rest(timing, now=NOW, beat=1e9) == timing.stale


def test_it_moves_as_it_is() -> None:
    session = connected(
        user="ann", conn_info=b'{"a":1}', subscriptions={"a": Subscription(chan_info=b"1")}
    )

    assert Session.load(session.dump()) == session


@pytest.mark.parametrize("state", [b"", b"\xc1", b"\x80", b"garbage"])
def test_what_is_no_session_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match="no session"):
        Session.load(state)


def test_application_is_asked_once_at_the_end_of_the_time() -> None:
    session = connected(is_asked_about=True)
    session.lasts_until(NOW + 100)

    assert (session.expire_at, rest(session, 0)) == (0, 100)
    assert due(session, 99) == []
    assert due(session, 100) == [AskAgain()]
    assert due(session, 1000) == []
    session.lasts_until(NOW + 2000)
    assert rest(session, 1000) == 1000


def test_client_is_asked_where_the_application_is_not() -> None:
    session = connected()
    session.lasts_until(NOW + 100)

    assert (session.expire_at, session.ask_at) == (NOW + 100, 0)
