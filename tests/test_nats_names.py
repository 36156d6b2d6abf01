"""Under which names a server's channels lie in NATS."""

import re

from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.nats_names import Names, message_id, token


@given(st.text())
def test_any_name_is_one_token(name: str) -> None:
    """Without dots, blanks, wildcards, and nothing at all."""
    assert re.fullmatch(r"[A-Za-z0-9_:=-]+", token(name))


@given(st.text(), st.text())
def test_two_names_are_two_tokens(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


def test_long_names_are_cut_and_stay_different() -> None:
    one, other = token("ä" * 5000), token("ä" * 5001)

    assert len(one) < 1100
    assert one != other
    assert re.fullmatch(r"[A-Za-z0-9_:=-]+", one)


def test_plain_names_can_be_read() -> None:
    names = Names("app.one")

    assert names.stream == "app=2Eone"
    assert names.subject("user:42") == "app=2Eone.channel.user:42"
    assert names.told("ä b") == "app=2Eone.told.=C3=A4=20b"
    assert names.every_subject == "app=2Eone.channel.*"
    assert names.every_told == "app=2Eone.told.{{wildcard(1)}}"


def test_keys_of_different_channels_are_different() -> None:
    assert message_id("a", "bc") != message_id("ab", "c")
    assert message_id("a", "b") == message_id("a", "b")
