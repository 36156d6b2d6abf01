"""A channel that is followed by offsets: delivered once and in order, or known to be behind."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.base import Publication, StreamPosition
from lastcall.broker.following import MAX_HELD, Following


def publication(offset: int, epoch: str = "e") -> Publication:
    return Publication("news", b"%d" % offset, offset, epoch)


def at(offset: int, epoch: str = "e") -> StreamPosition:
    return StreamPosition(offset, epoch)


def live(offset: int = 0) -> Following:
    following = Following("news")
    following.read(at(offset), (), at(offset))
    return following


def offsets(publications: Sequence[Publication]) -> list[int]:
    return [each.offset for each in publications]


def test_nothing_is_delivered_before_the_position_is_known() -> None:
    following = Following("news")

    assert following.take(publication(4)) == ()
    assert following.take(publication(5)) == ()
    assert following.position is None
    assert following.is_behind
    assert offsets(following.read(at(4), (), at(4))) == [5]
    assert not following.is_behind


def test_what_follows_is_delivered_at_once_and_what_was_read_already_is_not() -> None:
    following = live(2)

    for late in (1, 2):
        assert following.take(publication(late)) == ()
    assert offsets(following.take(publication(3))) == [3]
    assert not following.is_behind
    assert following.position == at(3)


def test_an_offset_that_is_told_again_is_of_a_stream_that_has_lost_some() -> None:
    following = live(1)
    following.take(publication(2))
    following.take(publication(3))

    assert following.take(publication(2)) == ()
    assert following.is_behind
    assert offsets(following.read(at(0, "f"), (), at(0, "f"))) == []
    assert following.is_behind  # what was held of the old epoch is asked for once more
    following.read(at(0, "f"), (), at(0, "f"))
    assert offsets(following.take(publication(1, "f"))) == [1]


def test_a_gap_is_filled_before_what_came_after_it() -> None:
    following = live(1)

    assert following.take(publication(4)) == ()
    assert following.take(publication(5)) == ()
    assert following.is_behind
    found = [publication(2), publication(3), publication(4)]
    assert offsets(following.read(at(1), found, at(4))) == [2, 3, 4, 5]
    assert not following.is_behind


def test_a_gap_may_take_several_pages() -> None:
    following = live(1)
    following.take(publication(5))

    assert offsets(following.read(at(1), [publication(2)], at(4))) == [2]
    assert following.is_behind
    assert offsets(following.read(at(2), [publication(3), publication(4)], at(4))) == [3, 4, 5]
    assert not following.is_behind


def test_a_second_gap_is_read_anew() -> None:
    following = live(1)
    following.take(publication(3))
    following.take(publication(5))

    assert offsets(following.read(at(1), [publication(2)], at(2))) == [2, 3]
    assert following.is_behind
    found = [publication(4), publication(5)]
    assert offsets(following.read(at(3), found, at(5))) == [4, 5]
    assert not following.is_behind


def test_another_epoch_is_no_successor() -> None:
    following = live(1)

    assert following.take(publication(2, "f")) == ()
    assert following.is_behind
    found = [publication(1, "f"), publication(2, "f")]
    assert offsets(following.read(at(0, "f"), found, at(2, "f"))) == [1, 2]
    assert following.position == at(2, "f")
    assert not following.is_behind


def test_a_suspicion_holds_what_comes_until_the_stream_was_read() -> None:
    following = live(1)
    following.suspect()
    following.suspect()

    assert following.take(publication(2)) == ()
    assert offsets(following.read(at(1), (), at(1))) == [2]
    assert not following.is_behind


def test_what_is_held_is_bounded_and_read_from_the_stream_instead() -> None:
    following = live(0)
    following.suspect()
    for offset in range(1, MAX_HELD + 2):
        following.take(publication(offset))

    assert following.read(at(0), (), at(0)) == []
    assert following.is_behind
    everything = [publication(offset) for offset in range(1, MAX_HELD + 2)]
    assert len(following.read(at(0), everything, at(MAX_HELD + 1))) == MAX_HELD + 1
    assert not following.is_behind


@given(
    st.lists(
        st.tuples(st.sampled_from(["publish", "lose", "read", "page"]), st.integers(1, 5)),
        max_size=60,
    )
)
def test_whatever_is_lost_on_the_way_all_is_delivered_once_and_in_order(
    steps: list[tuple[str, int]],
) -> None:
    following, stream = live(0), list[Publication]()
    delivered: list[Publication] = []
    for step, number in [*steps, ("publish", 1), ("read", 1), ("read", 1)]:
        match step:
            case "publish" | "lose":
                stream.append(publication(len(stream) + 1))
                if step == "publish":
                    delivered += following.take(stream[-1])
            case _ if following.is_behind and following.position is not None:
                position = following.position
                found = stream[position.offset :][: number if step == "page" else None]
                delivered += following.read(position, found, at(len(stream)))

    assert offsets(delivered) == list(range(1, len(stream) + 1))
