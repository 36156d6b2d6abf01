"""The log of publications: positions, limits, keys and doubles, against a naive model."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lastcall.broker.base import HistoryLimits, Publication, StreamPosition
from lastcall.doubles import KEY_SECONDS, MAX_KEYS, PUBLISHER_SECONDS
from lastcall.errors import UnrecoverablePosition
from lastcall.stream_log import (
    IDLE_SECONDS,
    Append,
    LogState,
    StreamLog,
    StreamState,
)

LIMITS = HistoryLimits(size=3, ttl=60)


def append(log: StreamLog, *appends: Append, now: float = 0) -> list[StreamPosition | None]:
    batch = log.prepare(appends, now)
    log.apply(batch)
    return batch.positions


def read(log: StreamLog, channel: str, since: StreamPosition | None = None) -> list[bytes]:
    return [p.data for p in log.history(channel, since, None, 0).publications]


def test_offsets_count_from_one_in_each_channel() -> None:
    log = StreamLog(LIMITS)

    positions = append(log, Append("a", b"1"), Append("b", b"2"), Append("a", b"3"))

    assert [p and p.offset for p in positions] == [1, 1, 2]
    assert read(log, "a") == [b"1", b"3"]


def test_nothing_is_seen_of_a_batch_before_it_is_applied() -> None:
    log = StreamLog(LIMITS)
    batch = log.prepare([Append("a", b"1", key="k", publisher=1, sequence=1)], 0)

    assert read(log, "a") == []
    assert log.position("a", 0).offset == 0
    # The write failed: the place, the key and the sequence number are free again.
    again = log.prepare([Append("a", b"1", key="k", publisher=1, sequence=1)], 0)
    assert again.positions == batch.positions
    assert len(again.publications) == 1


def test_remembers_no_more_than_the_size() -> None:
    log = StreamLog(LIMITS)
    first = append(log, *(Append("a", b"%d" % n) for n in range(5)))[0]

    assert read(log, "a") == [b"2", b"3", b"4"]
    with pytest.raises(UnrecoverablePosition):
        read(log, "a", first)


def test_remembers_no_longer_than_the_ttl() -> None:
    log = StreamLog(LIMITS)
    first = append(log, Append("a", b"old"), now=0)[0]
    second = append(log, Append("a", b"new"), now=30)[0]

    assert [p.data for p in log.history("a", None, None, 59).publications] == [b"old", b"new"]
    assert [p.data for p in log.history("a", first, None, 60).publications] == [b"new"]
    top = log.history("a", second, None, 90)
    assert (list(top.publications), top.top) == ([], second)
    with pytest.raises(UnrecoverablePosition):
        log.history("a", first, None, 90)


@pytest.mark.parametrize("offset", [-1, 3])
def test_a_position_that_never_was_is_unrecoverable(offset: int) -> None:
    log = StreamLog(LIMITS)
    append(log, Append("a", b"1"), Append("a", b"2"))

    with pytest.raises(UnrecoverablePosition):
        read(log, "a", StreamPosition(offset, log.position("a", 0).epoch))


def test_a_position_of_another_log_is_unrecoverable() -> None:
    other = StreamLog(LIMITS).position("a", 0)

    with pytest.raises(UnrecoverablePosition):
        read(StreamLog(LIMITS), "a", other)


def test_reading_a_channel_does_not_begin_it() -> None:
    log = StreamLog(LIMITS)
    epoch = log.history("a", None, None, 0).top.epoch

    assert log.expire(now=1e6, subscribed=()) == []
    assert log.position("a", 0) == StreamPosition(0, epoch)


def test_a_key_publishes_once_for_five_minutes() -> None:
    log = StreamLog(LIMITS)
    first = append(log, Append("a", b"1", key="k"), Append("a", b"1", key="k"), now=0)
    again = append(log, Append("a", b"1", key="k"), Append("b", b"1", key="k"), now=299)
    later = append(log, Append("a", b"2", key="k"), now=KEY_SECONDS)

    assert [p and p.offset for p in first + again + later] == [1, 1, 1, 1, 2]


def test_keys_are_bounded_and_the_oldest_goes_first() -> None:
    log = StreamLog(LIMITS)
    for n in range(MAX_KEYS + 1):
        append(log, Append("a", b"", key=str(n)))
    assert append(log, Append("a", b"", key="1")) == [StreamPosition(2, log.position("a", 0).epoch)]

    assert append(log, Append("a", b"", key="0")) == [log.position("a", 0)]
    assert log.position("a", 0).offset == MAX_KEYS + 2


def test_what_a_publisher_sends_again_is_found() -> None:
    log = StreamLog(LIMITS)
    sent = [Append("a", b"%d" % n, publisher=7, sequence=n) for n in (1, 2, 4)]
    first = append(log, *sent)

    assert append(log, *sent[1:]) == first[1:]
    assert append(log, sent[2], sent[2]) == [first[2], first[2]]
    assert log.position("a", 0).offset == 3
    # The same number from somebody else is somebody else's.
    assert append(log, Append("a", b"", publisher=8, sequence=1)) == [log.position("a", 0)]


def test_a_double_within_one_batch_is_found() -> None:
    log = StreamLog(LIMITS)
    one = Append("a", b"", publisher=7, sequence=1)

    assert [p and p.offset for p in append(log, one, one)] == [1, 1]


def test_nobody_says_that_a_refused_append_was_stored() -> None:
    """Number 1 was refused and 2 stored: 1, sent again, is neither a double nor in order."""
    log = StreamLog(LIMITS)
    append(log, Append("a", b"2", publisher=7, sequence=2))

    assert append(log, Append("a", b"1", publisher=7, sequence=1)) == [None]
    assert log.position("a", 0).offset == 1


def test_a_double_of_a_key_is_found_by_the_key() -> None:
    log = StreamLog(LIMITS)
    first = append(log, Append("a", b"", key="k"))
    append(log, Append("a", b"", key="k", publisher=7, sequence=1))
    append(log, Append("a", b"", publisher=7, sequence=2))

    assert append(log, Append("a", b"", key="k", publisher=7, sequence=1)) == first


def test_forgets_what_a_publisher_has_settled() -> None:
    log = StreamLog(LIMITS)
    one = Append("a", b"", publisher=7, sequence=1)
    append(log, one, Append("a", b"", publisher=7, sequence=2, settled=1))

    assert append(log, one) == [None]


def test_forgets_publishers_that_are_gone() -> None:
    log = StreamLog(LIMITS)
    one = Append("a", b"", publisher=7, sequence=1)
    append(log, one, now=0)

    log.expire(PUBLISHER_SECONDS, subscribed=())

    assert [p and p.offset for p in append(log, one)] == [2]


def test_a_channel_that_was_forgotten_begins_in_another_epoch() -> None:
    log = StreamLog(LIMITS)
    old = append(log, Append("idle", b""), Append("heard", b""), now=0)[0]
    later = LIMITS.ttl + IDLE_SECONDS

    assert log.expire(later - 1, subscribed=()) == []
    assert log.expire(later, subscribed={"heard"}) == ["idle"]

    assert log.generation == 1
    new = append(log, Append("idle", b""), now=later)[0]
    assert old
    assert new
    assert new.offset == 1
    assert new.epoch != old.epoch
    assert log.position("heard", later).offset == 1


def test_looks_at_a_bounded_number_of_channels_at_a_time() -> None:
    log = StreamLog(LIMITS)
    append(log, *(Append(str(n), b"") for n in range(5)))

    forgotten = [log.expire(1e6, subscribed=(), at_most=2) for _ in range(4)]

    assert [len(f) for f in forgotten] == [2, 2, 1, 0]


STATE = LogState(
    epoch="e",
    generation=1,
    streams=[StreamState("a", "e", 5, 0)],
    keys=[("a", "k", StreamPosition(4, "e"), 0)],
    sequences=[(7, 3, StreamPosition(5, "e"), 0)],
)


def from_file(*offsets: int, at: float = 0) -> list[tuple[float, Publication]]:
    return [(at, Publication("a", b"%d" % n, n, "e")) for n in offsets]


def test_goes_on_where_the_file_ended() -> None:
    log = StreamLog(LIMITS, STATE)

    positions = append(
        log,
        Append("a", b"", key="k"),
        Append("a", b"", publisher=7, sequence=3),
        Append("a", b"6", publisher=7, sequence=4),
        Append("new", b""),
    )

    assert positions[:3] == [StreamPosition(n, "e") for n in (4, 5, 6)]
    assert positions[3] == StreamPosition(1, "e.1")


def test_asks_for_the_file_only_when_the_ring_is_too_short() -> None:
    log = StreamLog(LIMITS, STATE)
    append(log, Append("a", b"6"))

    assert log.older_in_file("a", StreamPosition(5, "e")) is None
    assert log.older_in_file("a", StreamPosition(4, "other")) is None
    assert log.older_in_file("unknown", None) is None
    assert log.older_in_file("a", StreamPosition(4, "e")) == StreamPosition(5, "e")
    assert log.older_in_file("a", None) == StreamPosition(5, "e")

    log.fill("a", StreamPosition(5, "e"), from_file(3, 4, 5), 0)

    assert log.older_in_file("a", None) is None
    assert read(log, "a", StreamPosition(3, "e")) == [b"4", b"5", b"6"]


def test_what_was_read_is_put_in_once() -> None:
    log = StreamLog(LIMITS, STATE)
    log.fill("a", StreamPosition(5, "e"), from_file(4, 5), 0)
    log.fill("a", StreamPosition(5, "e"), from_file(4, 5), 0)
    log.fill("gone", StreamPosition(5, "e"), from_file(4, 5), 0)

    assert read(log, "a") == [b"4", b"5"]


def test_what_is_appended_during_the_reading_stays_in_order() -> None:
    log = StreamLog(LIMITS, STATE)
    end = log.older_in_file("a", None)
    assert end
    append(log, Append("a", b"6"))
    log.fill("a", end, from_file(4, 5), 0)

    assert read(log, "a") == [b"4", b"5", b"6"]


def test_what_was_read_before_a_gap_is_left_out() -> None:
    log = StreamLog(LIMITS, STATE)
    end = log.older_in_file("a", None)
    assert end
    append(log, *(Append("a", b"%d" % n) for n in (6, 7, 8, 9)))
    log.fill("a", end, from_file(4, 5), 0)

    assert read(log, "a") == [b"7", b"8", b"9"]


def test_the_limits_hold_for_what_comes_from_the_file() -> None:
    log = StreamLog(LIMITS, STATE)
    log.fill("a", StreamPosition(5, "e"), [*from_file(4, at=0), *from_file(5, at=30)], 70)

    assert read(log, "a") == [b"5"]


CHANNELS = st.sampled_from(["a", "b"])


@dataclass
class NaiveStream:
    """A channel as the promise says it: everything, for ever, with its time."""

    entries: list[tuple[float, bytes]] = field(default_factory=list)
    keys: dict[str, tuple[float, int]] = field(default_factory=dict)


class LogAgainstModel(RuleBasedStateMachine):
    """Random appends, repeats, failed writes and time, compared with lists."""

    def __init__(self) -> None:
        super().__init__()
        self.log = StreamLog(LIMITS)
        self.epoch = self.log.history("a", None, None, 0).top.epoch
        self.now = 0.0
        self.model = {"a": NaiveStream(), "b": NaiveStream()}
        self.sequence = 0
        self.stored = 0.0
        self.sent: dict[int, tuple[Append, int]] = {}

    @rule(channel=CHANNELS, data=st.binary(max_size=2), key=st.sampled_from(["", "k", "l"]))
    def publish(self, channel: str, data: bytes, key: str) -> None:
        self.sequence += 1
        sent = Append(channel, data, key=key, publisher=7, sequence=self.sequence)
        (position,) = append(self.log, sent, now=self.now)
        expected = self.expected(sent)
        assert position == StreamPosition(expected, self.epoch)
        self.sent[self.sequence] = sent, expected

    def expected(self, sent: Append) -> int:
        stream = self.model[sent.channel]
        at, offset = stream.keys.get(sent.key, (-1e9, 0))
        if at > self.now - KEY_SECONDS:
            return offset
        stream.entries.append((self.now, sent.data))
        self.stored = self.now
        if sent.key:
            stream.keys[sent.key] = self.now, len(stream.entries)
        return len(stream.entries)

    @precondition(lambda self: self.sent)
    @rule(pick=st.data())
    def resend(self, pick: st.DataObject) -> None:
        sent, offset = self.sent[pick.draw(st.sampled_from(sorted(self.sent)))]
        if not sent.key:
            assert append(self.log, sent, now=self.now) == [StreamPosition(offset, self.epoch)]

    @rule(channel=CHANNELS, key=st.sampled_from(["", "k"]))
    def fail_to_write(self, channel: str, key: str) -> None:
        lost = Append(channel, b"lost", key=key, publisher=7, sequence=self.sequence + 1)
        self.log.prepare([lost], self.now)

    @rule(seconds=st.sampled_from([1, 20, 100]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.log.expire(self.now, subscribed={"a", "b"})
        if self.now >= self.stored + PUBLISHER_SECONDS:
            self.sent.clear()

    @rule(channel=CHANNELS, offset=st.integers(0, 12), limit=st.none() | st.integers(0, 3))
    def read_since(self, channel: str, offset: int, limit: int | None) -> None:
        entries, first = self.remembered(channel)
        since = StreamPosition(offset, self.epoch)
        if first <= offset <= len(entries):
            found = self.log.history(channel, since, limit, self.now).publications
            wanted = entries[offset:][:limit]
            assert [(p.offset, p.data) for p in found] == [
                (offset + n, data) for n, (_, data) in enumerate(wanted, 1)
            ]
        else:
            with pytest.raises(UnrecoverablePosition):
                self.log.history(channel, since, limit, self.now)

    def remembered(self, channel: str) -> tuple[list[tuple[float, bytes]], int]:
        entries = self.model[channel].entries
        kept = [n for n, (at, _) in enumerate(entries) if at > self.now - LIMITS.ttl]
        first = max(kept[0] if kept else len(entries), len(entries) - LIMITS.size)
        return entries, first

    @invariant()
    def remembers_the_same(self) -> None:
        for channel in self.model:
            entries, first = self.remembered(channel)
            history = self.log.history(channel, None, None, self.now)
            assert [p.data for p in history.publications] == [d for _, d in entries[first:]]
            assert history.top == StreamPosition(len(entries), self.epoch)


LogAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLogAgainstModel = LogAgainstModel.TestCase
