"""What a worker appends to a channel: in order, with gapless offsets, whoever else appends."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.base import StreamPosition
from lastcall.broker.nats_appends import MESSAGE_ENTRIES, Append, Appends, Waiting
from lastcall.broker.nats_messages import BEFORE, Entry, Head, Kept, head_of

EMPTY = Head(StreamPosition(0, "e"), ())
ROOM = 10_000


def waiting(ticket: int, *, size: int = 10, until: float = 5, key: str = "") -> Waiting[int]:
    return Waiting(Entry(b"%d" % ticket), size, until, key, ticket)


def appends_with(*tickets: int, head: Head | None = EMPTY) -> Appends[int]:
    appends = Appends[int]()
    for ticket in tickets:
        appends.add(waiting(ticket))
    if head is not None:
        appends.saw(head)
    return appends


def leave(appends: Appends[int], room: int = ROOM) -> Append:
    append = appends.leave(7, room)
    assert append is not None
    return append


def data(append: Append) -> list[bytes]:
    return [entry.data for entry in append.stored.entries]


def test_nothing_leaves_before_it_is_known_where_the_channel_stands() -> None:
    appends = appends_with(1, head=None)
    assert appends.leave(7, ROOM) is None
    appends.saw(EMPTY)
    assert data(leave(appends)) == [b"1"]


def test_what_is_published_meanwhile_leaves_together() -> None:
    appends = appends_with(1)
    first = leave(appends)
    for ticket in (2, 3):
        appends.add(waiting(ticket))
    assert appends.leave(7, ROOM) is None
    assert [(w.ticket, p) for w, p in appends.stored(11)] == [(1, StreamPosition(1, "e"))]
    second = leave(appends)

    assert (first.expected, first.stored.first, first.stored.at) == (0, 1, 7)
    assert (second.expected, second.stored.first) == (11, 2)
    assert data(second) == [b"2", b"3"]
    assert second.stored.before == [11]
    assert [p.offset for _, p in appends.stored(12)] == [2, 3]
    assert appends.is_empty
    assert appends.leave(7, ROOM) is None


def test_who_was_overtaken_tries_again_in_order() -> None:
    appends = appends_with(1, 2)
    leave(appends)
    appends.add(waiting(3))
    appends.refused()
    assert appends.leave(7, ROOM) is None  # before it is known where the channel stands
    appends.saw(Head(StreamPosition(5, "e"), (20, 19)))
    again = leave(appends)

    assert data(again) == [b"1", b"2", b"3"]
    assert (again.expected, again.stored.first) == (20, 6)


def test_what_was_heard_meanwhile_saves_looking() -> None:
    appends = appends_with(1)
    leave(appends)
    appends.saw(Head(StreamPosition(5, "e"), (20,)))
    appends.saw(Head(StreamPosition(4, "e"), (19,)))
    appends.refused()

    assert leave(appends).expected == 20


def test_a_message_has_room_for_so_much() -> None:
    appends = appends_with(*range(MESSAGE_ENTRIES + 1))
    assert len(data(leave(appends, 10**6))) == MESSAGE_ENTRIES
    appends.stored(1)
    appends.add(waiting(1, size=30))
    appends.add(waiting(2, size=90))
    assert len(data(leave(appends, 40))) == 2
    appends.stored(2)
    assert len(data(leave(appends, 40))) == 1  # larger than there is room, so alone


def test_a_key_is_a_message_of_its_own() -> None:
    appends = appends_with(1)
    appends.add(waiting(2, key="k"))
    appends.add(waiting(3))
    ids = []
    while (append := appends.leave(7, ROOM)) is not None:
        ids.append(append.message_id)
        appends.stored(len(ids))

    assert ids == ["", "k", ""]


def test_a_key_of_long_ago_is_published_again_by_another_name() -> None:
    appends = appends_with()
    appends.add(waiting(1, key="k"))
    leave(appends)
    appends.publish_again(9)

    assert leave(appends).message_id == "k.9"


def test_what_is_lost_is_not_known_and_neither_is_where_the_channel_stands() -> None:
    appends = appends_with(1, 2)
    leave(appends)
    appends.add(waiting(3))

    assert [each.ticket for each in appends.lost()] == [1, 2]
    assert appends.head is None
    assert not appends.is_empty


def test_what_has_waited_too_long_is_given_up() -> None:
    appends = appends_with(1)
    appends.add(waiting(2, until=9))

    assert [each.ticket for each in appends.expire(5)] == [1]
    leave(appends)
    appends.add(waiting(3))
    assert [each.ticket for each in appends.abandon()] == [2, 3]
    assert appends.is_empty
    assert appends.abandon() == []


@dataclass
class FakeStream:
    """What JetStream does with the messages of one channel."""

    kept: list[Kept] = field(default_factory=list)

    def append(self, append: Append) -> int | None:
        if append.expected != (self.kept[-1].sequence if self.kept else 0):
            return None
        sequence = append.expected + 3
        self.kept.append(Kept(sequence, append.stored))
        return sequence

    def head(self, epoch: str) -> Head:
        return head_of(self.kept[-1]) if self.kept else Head(StreamPosition(0, epoch), ())


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["add", "look", "leave", "arrive"])),
        max_size=200,
    )
)
def test_offsets_have_no_gap_however_three_race(steps: list[tuple[int, str]]) -> None:
    stream = FakeStream()
    workers = [Appends[int]() for _ in range(3)]
    sent: list[list[Append]] = [[], [], []]
    answered: dict[int, int] = {}
    for ticket, (number, what) in enumerate(steps):
        appends = workers[number]
        if what == "add":
            appends.add(waiting(ticket))
        elif what == "look":
            appends.saw(stream.head(f"of {number}"))
        elif what == "leave":
            if (append := appends.leave(0, ROOM)) is not None:
                sent[number].append(append)
        elif sent[number]:
            sequence = stream.append(sent[number].pop())
            if sequence is None:
                appends.refused()
            else:
                answered |= {w.ticket: p.offset for w, p in appends.stored(sequence)}

    entries = [entry.data for kept in stream.kept for entry in kept.stored.entries]
    first = 1
    for kept in stream.kept:
        assert kept.stored.first == first
        first += len(kept.stored.entries)
    assert {offset: entries[offset - 1] for offset in answered.values()} == {
        offset: b"%d" % ticket for ticket, offset in answered.items()
    }
    assert len({kept.stored.epoch for kept in stream.kept}) <= 1
    if stream.kept:
        earlier = [kept.sequence for kept in reversed(stream.kept[:-1])]
        assert stream.kept[-1].stored.before == earlier[:BEFORE]


def test_only_what_left_can_arrive() -> None:
    with pytest.raises(AssertionError):
        appends_with(1).lost()
