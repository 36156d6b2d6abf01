"""Who listens to what: one frame a wire format and turn, in order, to everybody who is there."""

from collections.abc import Callable

from lastcall.broker.base import Publication, StreamPosition
from lastcall.connection import Connection
from lastcall.errors import SlowConsumer
from lastcall.hub import Hub
from lastcall.protocol.base import Message
from lastcall.protocol.plain_text import PlainText
from tests.fakes import (
    CountingFraming,
    RecordingOwner,
    RecordingTransport,
    connect,
    publication,
)


class Loop:
    """An event loop whose turns end when the test says so."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def __call__(self, call: Callable[[], None]) -> None:
        self.later.append(call)

    def end_turn(self) -> None:
        calls, self.later = self.later, []
        for call in calls:
            call()


def listener(
    hub: Hub, *channels: str, transport: RecordingTransport | None = None
) -> tuple[Connection, RecordingTransport]:
    """A connection that the hub delivers to, as a worker would have added it."""
    connection, written = connect(RecordingOwner(), *channels, transport=transport)
    for channel in channels:
        hub.retain(channel)
    hub.add(connection)
    return connection, written


def test_what_is_published_in_a_turn_is_one_frame_for_all_who_read_alike() -> None:
    loop, framing = Loop(), CountingFraming()
    hub = Hub(loop)
    written = [listener(hub, "news", transport=RecordingTransport(framing))[1] for _ in range(3)]

    for number in (1, 2, 3):
        hub.deliver(publication("news", str(number), number))
    assert len(loop.later) == 1
    assert not any(transport.frames for transport in written)
    loop.end_turn()

    assert framing.made == 1
    for transport in written:
        assert transport.frames == [(Message(b"1"), Message(b"2"), Message(b"3"))]


def test_every_wire_format_has_a_frame_of_its_own() -> None:
    class Shouting(PlainText):
        def publication(self, publication):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return Message(publication.data.upper())

    loop, framing, shouting = Loop(), CountingFraming(), Shouting()
    hub = Hub(loop)
    _, plain = listener(hub, "news", transport=RecordingTransport(framing))
    loud, shouted = connect(
        RecordingOwner(), "news", transport=RecordingTransport(framing), protocol=shouting
    )
    hub.add(loud)

    hub.deliver(publication("news", "hello"))
    loop.end_turn()

    assert (plain.messages, shouted.messages) == ([b"hello"], [b"HELLO"])
    assert framing.made == 2


def test_only_the_channels_of_a_connection_reach_it() -> None:
    loop = Loop()
    hub = Hub(loop)
    _, both = listener(hub, "news", "sport")
    _, sport = listener(hub, "sport")

    hub.deliver(publication("news", "n"))
    hub.deliver(publication("sport", "s"))
    hub.deliver(publication("weather", "w"))
    loop.end_turn()

    assert both.messages == [b"n", b"s"]
    assert sport.messages == [b"s"]


def test_a_turn_that_was_flushed_early_is_not_written_twice() -> None:
    loop = Loop()
    hub = Hub(loop)
    _, written = listener(hub, "news")

    hub.deliver(publication("news", "1", 1))
    hub.flush()
    hub.deliver(publication("news", "2", 2))
    loop.end_turn()
    loop.end_turn()

    assert written.messages == [b"1", b"2"]


def test_who_was_removed_hears_nothing_more() -> None:
    loop = Loop()
    hub = Hub(loop)
    gone, nothing = listener(hub, "news")
    _, something = listener(hub, "news")

    hub.deliver(publication("news", "1"))
    hub.remove(gone)
    hub.remove(gone)
    loop.end_turn()

    assert (nothing.messages, something.messages) == ([], [b"1"])


def test_a_client_that_overflows_while_it_is_written_to_harms_nobody() -> None:
    """Its end may come in the same call, and empty the set of its wire format."""
    loop, hub_framing = Loop(), CountingFraming()
    hub = Hub(loop)
    owner = RecordingOwner()
    owner.at_end += [hub.remove]
    owner.at_flush += [hub.flush]
    slow, closing = connect(owner, "news", transport=RecordingTransport(room=0, ends_at_once=True))
    hub.add(slow)
    others = [listener(hub, "news", transport=RecordingTransport(hub_framing))[1] for _ in "ab"]

    hub.deliver(publication("news", "1"))
    loop.end_turn()

    assert closing.closed == (SlowConsumer.code, SlowConsumer.reason, True)
    assert [each.messages for each in others] == [[b"1"], [b"1"]]


def test_what_an_end_publishes_does_not_overtake_what_is_being_written() -> None:
    loop, framing = Loop(), CountingFraming()
    hub = Hub(loop)
    owner = RecordingOwner()

    def say_goodbye(gone: Connection) -> None:
        hub.remove(gone)
        hub.deliver(publication("news", "gone", 2))
        hub.flush()

    owner.at_end += [say_goodbye]
    for _ in range(5):
        transport = RecordingTransport(framing, room=0, ends_at_once=True)
        hub.add(connect(owner, "news", transport=transport)[0])
    others = [listener(hub, "news", transport=RecordingTransport(framing))[1] for _ in range(5)]

    hub.deliver(publication("news", "first", 1))
    loop.end_turn()
    loop.end_turn()

    assert owner.ends == [SlowConsumer.code] * 5
    assert [each.messages for each in others] == [[b"first"] + [b"gone"] * 5] * 5


def test_the_first_who_wants_a_channel_subscribes_and_the_last_unsubscribes() -> None:
    hub = Hub(Loop())

    assert hub.retain("news")
    assert not hub.retain("news")
    assert not hub.release("news")
    assert hub.release("news")
    assert hub.retain("news")


def test_the_head_is_what_was_written_last_and_goes_with_the_last_listener() -> None:
    loop = Loop()
    hub = Hub(loop)
    hub.retain("news")
    hub.deliver(publication("news", "7", 7))
    assert hub.head("news") is None
    loop.end_turn()
    assert hub.head("news") == StreamPosition(7, "epoch")

    hub.deliver(publication("news", "8", 8))
    hub.release("news")
    loop.end_turn()

    assert hub.head("news") is None


def test_channels_that_nobody_wants_leave_nothing_behind() -> None:
    """A broker may still have had something on its way when the last listener left."""
    loop = Loop()
    hub = Hub(loop)
    hub.deliver(publication("news", "late"))
    loop.end_turn()
    hub.reset("news", StreamPosition(9, "new"))

    assert hub.head("news") is None


def test_a_reset_moves_the_head_after_what_was_delivered_before() -> None:
    hub = Hub(Loop())
    _, written = listener(hub, "news")
    hub.deliver(publication("news", "1"))

    hub.reset("news", StreamPosition(0, "new"))

    assert written.messages == [b"1"]
    assert hub.head("news") == StreamPosition(0, "new")


def test_it_knows_whether_the_broker_carries() -> None:
    hub = Hub(Loop())
    assert not hub.is_available
    hub.available(True)  # noqa: FBT003  (the broker's word)
    assert hub.is_available
    hub.available(False)  # noqa: FBT003  (the broker's word)
    assert not hub.is_available


def test_who_catches_up_counts_among_those_who_hear_a_channel() -> None:
    hub = Hub(Loop())
    live, _ = listener(hub, "news", "sports")
    late, _ = listener(hub, "news")
    hub.hold(late, "news", StreamPosition(0, "e"))

    assert hub.audience_sizes() == {"news": 2, "sports": 1}
    assert set(hub.subscribers("news")) == {live, late}


def test_a_tap_gets_what_is_published_from_here_on() -> None:
    hub = Hub(Loop())
    hub.retain("news")
    one: list[Publication] = []
    two: list[Publication] = []
    hub.deliver(publication("news", "before"))
    hub.tap("news", one.append)
    hub.deliver(publication("news", "1"))
    hub.tap("news", two.append)
    hub.deliver(publication("news", "2"))
    hub.flush()
    hub.untap("news", one.append)
    hub.deliver(publication("news", "3"))
    hub.flush()
    hub.untap("news", two.append)
    hub.deliver(publication("news", "after"))
    hub.flush()

    assert [each.data for each in one] == [b"1", b"2"]
    assert [each.data for each in two] == [b"2", b"3"]
