"""Deltas: whoever has one text and the delta has the other; the Python SDK is the reader."""

import json

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from lastcall.deltas import MAX_LENGTH, Deltas
from lastcall.fossil_delta import delta

ANY = st.binary(max_size=300)
PARTS = st.sampled_from([b"ab", b"\x80", b"0123456789", b"\xff\x00"])
REPEATING = st.lists(PARTS, max_size=60).map(b"".join)
TEXT = st.text(st.sampled_from('aé©☃♃昃𝄞𝅗𝅥{"\n'), max_size=120)


@st.composite
def edited(draw: st.DrawFn, pieces: st.SearchStrategy[bytes]) -> tuple[bytes, bytes]:
    """Two that have much in common, in places of their own."""
    parts = draw(st.lists(pieces, min_size=1, max_size=6))
    others = draw(st.lists(st.sampled_from(parts) | pieces, max_size=8))
    return b"".join(parts), b"".join(others)


@given(st.tuples(ANY, ANY) | edited(ANY) | edited(REPEATING))
def test_delta_makes_the_one_of_the_other(pair: tuple[bytes, bytes]) -> None:
    source, target = pair
    assert apply_delta(source, delta(source, target)) == target


@given(edited(TEXT.map(str.encode)) | st.tuples(TEXT.map(str.encode), TEXT.map(str.encode)))
def test_delta_of_texts_is_a_text(pair: tuple[bytes, bytes]) -> None:
    """It stands in a JSON string, where half a character has no place."""
    source, target = pair
    made = delta(source, target)
    assert apply_delta(source, made.decode().encode()) == target


ALIKE = ["é©", "éè", "☃♃", "☃昃", "☃☂", "\U0001d11e\U0001d11f", "\U0001d11e\U0005d11e"]
"""Pairs of characters that have some of their bytes in common, before or behind the others."""


@pytest.mark.parametrize("pair", ALIKE)
def test_characters_that_begin_or_end_alike_are_not_cut(pair: str) -> None:
    """Neither where the texts begin and end alike, nor in pieces that have moved."""
    one, other = pair[0], pair[1]
    words = "the first of forty bytes of some text", "the second of them"
    for before, after in ((one, other), (other, one), (one + one, other + one)):
        for source, target in (
            (words[0] + before + words[1], words[0] + after + words[1]),
            (
                "1" * 40 + words[0] + before + "2" * 40 + before + words[0],
                "3" * 50 + after + words[0] + after + "4" * 50,
            ),
            (
                "1" * 41 + before + words[0] * 2 + before + "2" * 41,
                "3" * 50 + after + words[0] * 2 + after + "4" * 50,
            ),
        ):
            made = delta(source.encode(), target.encode())
            assert len(made) < len(target.encode())
            assert apply_delta(source.encode(), made.decode().encode()) == target.encode()


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


ORDERS = [{"id": n, "status": "open", "items": list(range(n, n + 5))} for n in range(40)]
TWO = {3, 30}


@pytest.mark.parametrize(
    ("source", "target", "longest"),
    [
        (b"", b"", 5),
        (b"x" * 100, b"x" * 100, 20),
        (b"x" * 1000, b"x" * 1001, 25),
        (as_json(ORDERS), as_json(ORDERS), 20),
        (as_json(ORDERS), as_json([*ORDERS[:20], {"id": 20, "status": "shut"}, *ORDERS[21:]]), 70),
        (as_json(ORDERS), as_json([*ORDERS[30:], *ORDERS[:30]]), 50),
        (
            as_json(ORDERS),
            as_json([each | {"status": "shut"} if each["id"] in TWO else each for each in ORDERS]),
            60,
        ),
    ],
    ids=["nothing", "the same", "longer", "orders", "one other", "moved", "two others"],
)
def test_what_is_common_is_found(source: bytes, target: bytes, longest: int) -> None:
    made = delta(source, target)
    assert apply_delta(source, made) == target
    assert len(made) <= longest


def test_numbers_are_those_of_the_reference_server() -> None:
    """As it wrote them once; it finds less in common."""
    source, target = (b'{"counter": %d, "pad": "%b"}' % (n, b"a" * 42) for n in (1, 2))
    assert delta(source, target) == b"13\nC@0,1:2r@D,1jKGDZ;"


def test_delta_that_is_no_shorter_is_none() -> None:
    deltas = Deltas()
    assert deltas.between(b"a" * 100, b"b" * 100) is None
    assert deltas.between(b"a" * 100, b"") is None
    assert deltas.between(b"a" * MAX_LENGTH, b"a" * MAX_LENGTH) is not None
    assert deltas.between(b"a" * MAX_LENGTH, b"a" * (MAX_LENGTH + 1)) is None
    assert deltas.between(b"a" * (MAX_LENGTH + 1), b"a" * 100) is None


def test_each_delta_is_made_once_as_long_as_there_is_room() -> None:
    deltas = Deltas(max_remembered=500)
    first = deltas.between(b"a" * 100, b"a" * 101)
    assert first is not None
    assert deltas.between(bytes(b"a" * 100), bytes(b"a" * 101)) is first
    assert deltas.between(b"b" * 100, b"b" * 101) is not None
    assert deltas.between(b"a" * 100, b"a" * 101) is first
    assert deltas.between(b"c" * 100, b"c" * 101) is not None
    again = deltas.between(b"a" * 100, b"a" * 101)
    assert again == first
    assert again is not first
