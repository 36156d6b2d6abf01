"""From a position to a channel's head: nothing lost, nothing doubled, or the client is told."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker.base import Publication, StreamPosition
from lastcall.catch_up import MAX_HELD, MAX_REMEMBERED, CatchUp, Remembered
from lastcall.connection import Connection
from lastcall.hub import Hub
from tests.fakes import FRAMING, RecordingOwner, RecordingTransport, connect

CHANNEL = "news"


def at(offset: int, epoch: str = "epoch") -> StreamPosition:
    return StreamPosition(offset, epoch)


def published(first: int, last: int, epoch: str = "epoch") -> list[Publication]:
    return [Publication(CHANNEL, b"%d" % n, n, epoch) for n in range(first, last + 1)]


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


@dataclass
class Place:
    """One worker's hub, which its test delivers to."""

    later: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Stand before the first publication."""
        self.hub = Hub(self.later.append)
        self.hub.retain(CHANNEL)
        self.delivered = 0

    def deliver(self, last: int) -> None:
        for publication in published(self.delivered + 1, last):
            self.hub.deliver(publication)
        self.delivered = max(self.delivered, last)


def client(transport: RecordingTransport | None = None) -> tuple[Connection, RecordingTransport]:
    return connect(RecordingOwner(), CHANNEL, transport=transport or RecordingTransport(FRAMING))


def place(head: int) -> Place:
    """A hub that stands at *head*."""
    made = Place()
    made.hub.subscribed(CHANNEL, at(head))
    made.delivered = head
    return made


def test_who_stands_at_the_head_is_live_in_the_same_call() -> None:
    there = place(7)
    connection, transport = client()
    catch_up = there.hub.hold(connection, CHANNEL, at(7))
    assert not catch_up.is_behind
    assert there.hub.go_live(catch_up)
    there.deliver(9)
    there.hub.flush()
    assert transport.messages == numbers(8, 9)
    assert len(transport.frames) == 1


def test_who_is_behind_hears_the_history_then_what_was_held_then_the_rest() -> None:
    there = place(7)
    connection, transport = client()
    catch_up = there.hub.hold(connection, CHANNEL, at(4))
    assert catch_up.is_behind
    there.deliver(9)
    there.hub.flush()
    assert transport.messages == []
    assert there.hub.go_live(catch_up, published(5, 8))
    assert transport.messages == numbers(5, 9)
    there.deliver(10)
    there.hub.flush()
    assert transport.messages == numbers(5, 10)


def test_who_is_ahead_hears_nothing_twice() -> None:
    there = place(7)
    connection, transport = client()
    catch_up = there.hub.hold(connection, CHANNEL, at(9))
    assert not catch_up.is_behind
    assert there.hub.go_live(catch_up)
    there.deliver(8)
    there.hub.flush()
    there.deliver(10)
    there.hub.flush()
    there.deliver(11)
    there.hub.flush()
    assert transport.messages == numbers(10, 11)


def test_a_history_that_is_ahead_of_the_bus_is_not_heard_twice() -> None:
    there = place(7)
    connection, transport = client()
    catch_up = there.hub.hold(connection, CHANNEL, at(4))
    assert there.hub.go_live(catch_up, published(5, 9))
    there.deliver(10)
    there.hub.flush()
    assert transport.messages == numbers(5, 10)


def test_a_history_with_a_hole_is_no_catching_up() -> None:
    there = place(7)
    connection, transport = client()
    catch_up = there.hub.hold(connection, CHANNEL, at(4))
    assert not there.hub.go_live(catch_up, published(6, 7))
    assert catch_up.position == at(4)
    there.deliver(9)
    there.hub.flush()
    assert transport.messages == []


def test_a_channel_that_began_anew_while_we_held_is_lost() -> None:
    there = place(7)
    connection, transport = client()
    catch_up = there.hub.hold(connection, CHANNEL, at(7))
    there.hub.reset(CHANNEL, at(0, "another"))
    assert not there.hub.go_live(catch_up)
    assert transport.messages == []


def test_who_is_ahead_of_a_channel_that_begins_anew_goes_on_like_the_others() -> None:
    there = place(7)
    connection, transport = client()
    there.hub.go_live(there.hub.hold(connection, CHANNEL, at(9)))
    there.hub.reset(CHANNEL, at(0, "another"))
    for each in published(1, 2, "another"):
        there.hub.deliver(each)
    there.hub.flush()
    assert transport.messages == numbers(1, 2)


def test_more_than_may_be_held_is_lost_and_said() -> None:
    connection, _ = client()
    catch_up = CatchUp(connection, CHANNEL, at(0), at(0))
    assert catch_up.take(published(1, MAX_HELD)) == ()
    assert not catch_up.is_lost
    catch_up.take(published(MAX_HELD + 1, MAX_HELD + 1))
    assert catch_up.is_lost
    assert catch_up.go_live(()) == ()


def test_who_was_live_can_be_held_and_go_on() -> None:
    """As when it was about to move and nobody took it."""
    here = place(0)
    connection, transport = client()
    here.hub.add(connection)
    here.deliver(2)
    catch_up = here.hub.hold(connection, CHANNEL, at(2))
    assert here.hub.position(connection, CHANNEL) is None
    assert transport.messages == numbers(1, 2)
    here.deliver(4)
    here.hub.flush()
    assert transport.messages == numbers(1, 2)
    assert here.hub.go_live(catch_up)
    here.deliver(5)
    here.hub.flush()
    assert transport.messages == numbers(1, 5)


def test_who_is_removed_while_held_hears_nothing() -> None:
    here = place(0)
    connection, transport = client()
    here.hub.hold(connection, CHANNEL, at(0))
    here.hub.remove(connection)
    here.deliver(3)
    here.hub.flush()
    assert transport.messages == []


def test_who_is_removed_while_held_does_not_take_others_along() -> None:
    here = place(2)
    gone, silent = client()
    other, transport = client()
    here.hub.hold(gone, CHANNEL, at(0))
    catch_up = here.hub.hold(other, CHANNEL, at(1))
    here.hub.remove(gone)
    assert here.hub.go_live(catch_up, published(2, 2))
    here.deliver(3)
    here.hub.flush()
    assert silent.messages == []
    assert transport.messages == numbers(2, 3)


def test_who_ends_of_what_it_missed_does_not_come_back() -> None:
    there = place(7)
    transport = RecordingTransport(FRAMING, room=0, ends_at_once=True)
    owner = RecordingOwner()
    connection, _ = connect(owner, CHANNEL, transport=transport)
    owner.at_end += [there.hub.remove]
    assert there.hub.go_live(there.hub.hold(connection, CHANNEL, at(4)), published(5, 7))
    assert owner.ends == [3008]
    there.hub.release(CHANNEL)
    there.hub.retain(CHANNEL)
    there.deliver(9)
    there.hub.flush()
    assert owner.ends == [3008]


def test_the_head_is_what_the_broker_says_until_more_has_come() -> None:
    here = Place()
    here.hub.subscribed(CHANNEL, at(3))
    assert here.hub.head(CHANNEL) == at(3)
    here.delivered = 3
    here.deliver(4)
    here.hub.flush()
    here.hub.subscribed(CHANNEL, at(3))
    assert here.hub.head(CHANNEL) == at(4)
    here.hub.subscribed("unknown", at(3))
    assert here.hub.head("unknown") is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "one", "two", "flush", "move", "live"]), st.integers(1, 4)
    )
)


@given(STEPS)
def test_any_order_of_steps_loses_and_doubles_nothing(steps: list[tuple[str, int]]) -> None:
    """Two workers hear of the same stream at their own pace, and a client moves to and fro."""
    top = 0
    places = [place(0), place(0)]
    on = 0
    connection, transport = client()
    places[on].hub.add(connection)
    catch_up: CatchUp | None = None
    for step, count in [*steps, ("live", 1), ("all", 1)]:
        if step == "publish":
            top += count
        elif step in ("one", "two"):
            worker = places[step == "two"]
            worker.deliver(min(top, worker.delivered + count))
        elif step == "flush":
            places[count % 2].hub.flush()
        elif step == "move" and catch_up is None:
            places[on].hub.flush()
            since = places[on].hub.position(connection, CHANNEL)
            assert since is not None
            places[on].hub.remove(connection)
            on = 1 - on
            catch_up = places[on].hub.hold(connection, CHANNEL, since)
        elif step == "live" and catch_up is not None:
            since = catch_up.position
            missed = published(since.offset + 1, top) if catch_up.is_behind else []
            assert places[on].hub.go_live(catch_up, missed)
            catch_up = None
        elif step == "all":
            for worker in places:
                worker.deliver(top)
                worker.hub.flush()
    assert transport.messages == numbers(1, top)


def test_what_was_heard_lately_is_remembered() -> None:
    remembered = Remembered()
    for publication in published(5, 9):
        remembered.take(publication)

    assert remembered.between(at(4), at(9)) == published(5, 9)
    assert remembered.between(at(6), at(8)) == published(7, 8)
    assert remembered.between(at(9), at(9)) == []


def test_what_is_remembered_in_part_is_not_remembered() -> None:
    """It began later, it has forgotten by now, it was reset in between, or it is another stream."""
    remembered = Remembered()
    for publication in [*published(5, 6), *published(8, 9)]:
        remembered.take(publication)

    assert remembered.between(at(3), at(6)) is None
    assert remembered.between(at(5), at(9)) is None
    assert remembered.between(at(8), at(10)) is None
    assert remembered.between(at(8, "old"), at(9)) is None
    assert remembered.between(at(9), at(0, "new")) is None
    for publication in published(10, 9 + MAX_REMEMBERED):
        remembered.take(publication)
    assert remembered.between(at(8), at(9 + MAX_REMEMBERED)) is None
