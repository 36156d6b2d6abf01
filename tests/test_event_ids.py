"""Ids of events that say where their reader stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.base import StreamPosition
from lastcall.event_ids import MAX_ID, event_id, positions_of

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
POSITIONS = st.builds(StreamPosition, st.integers(0, 2**53 - 1), NAMES)


@given(st.dictionaries(NAMES, POSITIONS, max_size=8))
def test_what_comes_back_is_where_the_reader_stood(positions: dict[str, StreamPosition]) -> None:
    assert positions_of(event_id(positions).decode()) == positions


def test_an_id_is_one_line_of_json_with_each_epoch_once() -> None:
    here = {"a": StreamPosition(1, "e"), "b:1": StreamPosition(2, "e"), "c": StreamPosition(3, "f")}

    assert event_id(here) == b'{"e":{"a":1,"b:1":2},"f":{"c":3}}'


def test_an_id_that_no_proxy_would_carry_is_empty() -> None:
    """Empty takes the one before back: to come back from there would bring what was read."""
    here = {f"channel-{number:05}": StreamPosition(10**9, "epoch") for number in range(200)}

    assert event_id(here) == b""
    assert 0 < len(event_id(dict(list(here.items())[:100]))) < MAX_ID


@pytest.mark.parametrize(
    "strange",
    [
        *("", "17", "null", "[]", '{"e":1}', '{"e":{"a":-1}}', '{"e":{"a":"1"}}'),
        *('{"e":{"a":1.5}}', '{"e":{"a":9007199254740992}}', "\ud800", "[" * 10_000),
    ],
)
def test_what_is_not_ours_says_nothing(strange: str) -> None:
    assert positions_of(strange) == {}
