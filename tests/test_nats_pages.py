"""How a channel's history is read, from its last message back."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.base import HistoryLimits, StreamPosition
from lastcall.broker.following import Page
from lastcall.broker.nats_messages import (
    BEFORE,
    Entry,
    Head,
    Kept,
    Stored,
    decode,
    encode,
    head_of,
    publications,
)
from lastcall.broker.nats_pages import Reading, forgetting, mark

LIMITS = HistoryLimits(size=1000, ttl=10)
NOW = 100_000


def channel(sizes: Sequence[int], *, at: int = NOW) -> list[Kept]:
    """A channel whose messages have so many publications, oldest first."""
    head, kept = Head(StreamPosition(0, "e"), ()), []
    for number, size in enumerate(sizes):
        entries = [Entry(b"%d" % (head.top.offset + 1 + n)) for n in range(size)]
        kept.append(Kept(10 + 7 * number, head.message(entries, at)))
        head = head.after(size, kept[-1].sequence)
    return kept


def read(
    kept: Sequence[Kept],
    since: StreamPosition | None = None,
    limit: int = 1000,
    limits: HistoryLimits = LIMITS,
) -> tuple[Page, int]:
    """The page, and how many messages were got for it beside the last."""
    reading = Reading("news", kept[-1], since, limit, limits, now=NOW)
    by_sequence, count = {each.sequence: each for each in kept}, 0
    while wanted := reading.wanted:
        assert len(wanted) <= BEFORE
        count += len(wanted)
        reading.take([by_sequence.get(sequence) for sequence in wanted])
    return reading.page(), count


def offsets(page: Page) -> list[int]:
    return [each.offset for each in page.publications]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=150),
    st.integers(0, 300),
    st.integers(1, 200),
    st.integers(0, 100),
)
def test_what_follows_a_position_is_read(
    sizes: list[int], offset: int, size: int, limit: int
) -> None:
    top = sum(sizes)
    since = StreamPosition(min(offset, top), "e")
    page, _ = read(channel(sizes), since, limit, HistoryLimits(size, 10))

    assert page.top == StreamPosition(top, "e")
    assert page.is_reached == (since.offset >= top - size)
    if page.is_reached:
        assert page.since == since
    assert offsets(page) == list(range(page.since.offset + 1, top + 1))[:limit]
    assert [p.data for p in page.publications] == [b"%d" % o for o in offsets(page)]


def test_no_more_is_got_than_is_needed() -> None:
    kept = channel([1] * 200)

    assert read(kept, StreamPosition(200, "e"))[1] == 0
    assert read(kept, StreamPosition(199, "e"))[1] == 0
    assert read(kept, StreamPosition(195, "e"))[1] == 4
    assert read(kept, None, 0)[1] == 0
    assert read(kept, None)[1] == 199


def test_what_is_gone_or_too_old_is_where_it_begins() -> None:
    kept = channel([2] * 100)
    old = channel([2] * 60, at=NOW - 10_000) + channel([2] * 100)[60:]

    for history in (kept[60:], old):
        page, _ = read(history)
        assert offsets(page) == list(range(121, 201))
        assert page.since == StreamPosition(120, "e")
        assert read(history, StreamPosition(120, "e"))[0].is_reached
        assert not read(history, StreamPosition(119, "e"))[0].is_reached


def test_positions_that_there_never_were_are_not_reached() -> None:
    kept = channel([2, 2])
    for since in (StreamPosition(5, "e"), StreamPosition(1, "another")):
        page, _ = read(kept, since)
        assert not page.is_reached
        assert page.since == StreamPosition(0, "e")
        assert offsets(page) == [1, 2, 3, 4]


def test_what_belongs_to_another_stream_is_not_read() -> None:
    """A sequence that was given again: the stream was made anew meanwhile."""
    kept = channel([1, 1, 1])
    kept[1] = Kept(kept[1].sequence, Stored("x", 2, NOW, (), (Entry(b"x"),)))

    assert offsets(read(kept)[0]) == [3]


def test_an_empty_channel_is_told_where_it_stands() -> None:
    said = mark(None, None, now=NOW, renew=50, new_epoch="new")

    assert said is not None
    assert (said.stored, said.expected) == (Stored("new", 1, NOW, [], ()), 0)
    assert said.is_necessary


def test_a_stream_that_went_back_begins_anew() -> None:
    last = channel([1, 1])[-1]
    for heard, is_anew in ((3, True), (2, False), (1, False)):
        said = mark(last, StreamPosition(heard, "e"), now=NOW, renew=50, new_epoch="new")
        assert (said is not None) == is_anew
    assert mark(last, StreamPosition(9, "other"), now=NOW, renew=50, new_epoch="new") is None
    said = mark(last, StreamPosition(3, "e"), now=NOW, renew=50, new_epoch="new")
    assert said is not None
    assert (said.stored.epoch, said.stored.first, said.expected) == ("new", 1, last.sequence)
    assert said.stored.before == []


def test_a_quiet_channel_is_told_anew_before_it_is_forgotten() -> None:
    last = channel([1, 1], at=NOW - 50)[-1]
    said = mark(last, None, now=NOW, renew=50, new_epoch="new")

    assert said is not None
    assert not said.is_necessary
    assert (said.stored.epoch, said.stored.first, said.stored.entries) == ("e", 3, ())
    assert said.stored.before == [17, 10]
    assert mark(last, None, now=NOW, renew=51, new_epoch="new") is None


def test_a_cleared_channel_goes_on_and_has_nothing_before() -> None:
    said = forgetting(channel([1, 1])[-1], NOW)

    page, _ = read([Kept(99, said.stored)], StreamPosition(2, "e"))
    assert page.is_reached
    assert not read([Kept(99, said.stored)], StreamPosition(1, "e"))[0].is_reached
    assert head_of(Kept(99, said.stored)) == Head(StreamPosition(2, "e"), (99,))


def test_a_message_is_what_was_encoded() -> None:
    stored = Stored("e", 5, NOW, (40, 3, 2), (Entry(b"1"), Entry(b"2")))

    again = decode(encode(stored))
    assert again.before == [40, 37, 35]
    assert again.top == StreamPosition(6, "e")
    assert [(p.offset, p.data) for p in publications("news", again)] == [(5, b"1"), (6, b"2")]
    for rubbish in (b"", b"hello", encode(["e", 1])):
        with pytest.raises(ValueError, match="not of this server"):
            decode(rubbish)
