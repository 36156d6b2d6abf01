"""What lies in Redis under which names, and what is read from there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.base import Kind, Publication, StreamPosition
from lastcall.broker.redis_names import Names, body, page, position

CHANNELS = st.text(st.sampled_from("ab{}%:\0é"), min_size=1, max_size=6)


def slot_tag(key: bytes) -> bytes:
    """What decides about the slot of a cluster, by the rules of Redis."""
    _, brace, rest = key.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    return tag if brace and end and tag else key


@given(CHANNELS, st.text(max_size=5))
def test_all_keys_of_a_channel_are_in_one_slot(channel: str, key: str) -> None:
    names = Names("shop", 3)
    keys = names.keys(channel, key)

    assert len(set(keys)) == len(keys) == (3 if key else 2)
    assert len({slot_tag(each) for each in (*keys, names.told(channel))}) == 1


@given(CHANNELS, CHANNELS)
def test_no_two_channels_share_anything(one: str, other: str) -> None:
    names = Names("shop", 3)
    everything = {*names.keys(one, "k"), names.told(one)}

    if one != other:
        assert not everything & {*names.keys(other, "k"), names.told(other)}


@given(CHANNELS)
def test_a_name_says_which_channel_it_is(channel: str) -> None:
    names = Names("shop", 3)

    assert names.channel(names.told(channel)) == channel


def test_databases_and_prefixes_are_apart() -> None:
    told = {Names(prefix, number).told("news") for prefix in ("a", "b") for number in (0, 1)}
    assert len(told) == 4


def test_what_is_told_is_what_was_published() -> None:
    encoded = body(b"a \x00 b", Kind.BINARY, b'"tags":{}')
    expected = Publication("news", b"a \x00 b", 7, "e1", Kind.BINARY, b'"tags":{}')

    names = Names("shop", 3)
    assert names.heard(names.told("news"), b"7 e1 " + encoded) == expected
    found = page("news", [9, b"e1", 6, 1, [7, encoded]])
    assert (found.since, found.top) == (StreamPosition(6, "e1"), StreamPosition(9, "e1"))
    assert found.is_reached
    assert list(found.publications) == [expected]
    assert position([7, b"e1"]) == StreamPosition(7, "e1")


@pytest.mark.parametrize(
    "message", [b"", b"hello", b"1 e", b"x e \x91\xc4\x00", b"1 e \x00", b"1 \xff \xc0"]
)
def test_what_others_tell_is_not_taken_for_ours(message: bytes) -> None:
    with pytest.raises(ValueError, match="not of this server"):
        Names("shop", 3).heard(b"shop:3:{news}", message)
    with pytest.raises(ValueError, match="not of this server"):
        page("news", [9, b"e1", 6, 1, [7, message]])
