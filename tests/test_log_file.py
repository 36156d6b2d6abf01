"""The file under the log: what it survives, what it refuses, and how it stays small."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.broker.base import HistoryLimits, Kind, StreamPosition
from lastcall.log_file import (
    CHUNK,
    RESEND_SECONDS,
    LogClosedError,
    LogFile,
    open_log_file,
)
from lastcall.log_schema import UnusableLogError
from lastcall.stream_log import Append, StreamLog

LIMITS = HistoryLimits(size=5, ttl=60)
NOW = 1000.0


class Log:
    """A log and its file, as the sequencer has them."""

    def __init__(self, path: Path, boot: str = "monday", now: float = NOW) -> None:
        self.file = open_log_file(path, boot)
        self.state = self.file.load(now)
        self.log = StreamLog(LIMITS, self.state)

    def append(self, *appends: Append, now: float = NOW) -> list[StreamPosition | None]:
        batch = self.log.prepare(appends, now)
        self.file.append(batch)
        self.log.apply(batch)
        return batch.positions

    def remembered(self, channel: str = "a", now: float = NOW) -> list[bytes]:
        end = self.log.older_in_file(channel, None)
        if end is not None:
            self.log.fill(channel, end, self.file.read(channel, end, LIMITS, now), now)
        return [p.data for p in self.log.history(channel, None, None, now).publications]

    def kill(self) -> None:
        """End as a killed process does: without a word to the file."""
        self.file._close_connections()  # noqa: SLF001  (the kernel would)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite3"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    log = Log(path)
    yield log
    log.kill()


def numbered(count: int, *, start: int = 0) -> list[Append]:
    return [
        Append("a", b"%d" % n, publisher=7, sequence=n + 1) for n in range(start, start + count)
    ]


@pytest.mark.parametrize("end", [Log.kill, lambda log: log.file.close()], ids=["kill", "close"])
def test_everything_is_there_after_a_restart_on_the_same_boot(path: Path, end) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    before = Log(path)
    positions = before.append(*numbered(3), Append("b", b"\x00", Kind.BINARY, "k", b'"info":{}'))
    end(before)

    after = Log(path)
    assert after.remembered() == [b"0", b"1", b"2"]
    assert after.log.position("a", NOW) == positions[2]
    assert after.append(*numbered(3)) == positions[:3]
    assert after.append(Append("b", b"", key="k")) == positions[3:]
    after.remembered("b")
    (remembered,) = after.log.history("b", None, None, NOW).publications
    assert (remembered.kind, remembered.about) == (Kind.BINARY, b'"info":{}')
    after.kill()


@pytest.mark.parametrize(
    ("boots", "clean", "same"),
    [
        (("monday", "monday"), False, True),
        (("monday", "tuesday"), True, True),
        (("monday", "tuesday"), False, False),
        # Where nothing tells one boot from another, only a clean end is to be trusted.
        (("", ""), True, True),
        (("", ""), False, False),
    ],
)
def test_the_epoch_is_new_when_the_machine_may_have_forgotten(
    path: Path, boots: tuple[str, str], *, clean: bool, same: bool
) -> None:
    before = Log(path, boots[0])
    (old,) = before.append(Append("a", b"1"))
    if clean:
        before.file.close()
    before.kill()

    after = Log(path, boots[1])
    assert old
    assert (after.state.epoch == old.epoch) is same
    assert after.log.position("a", NOW).offset == (1 if same else 0)
    assert after.remembered() == ([b"1"] if same else [])
    after.kill()
    # Opened and not closed: the mark of the clean end is gone.
    again = Log(path, "wednesday")
    assert again.state.epoch != after.state.epoch
    again.kill()


def test_who_goes_on_at_once_finds_everything_in_a_log_that_was_left_open(path: Path) -> None:
    before = Log(path)
    (old,) = before.append(Append("a", b"1"))
    before.file.close(clean=False)
    with pytest.raises(LogClosedError):
        before.append(Append("a", b"2"))

    after = Log(path)
    assert old is not None
    assert after.state.epoch == old.epoch
    assert after.remembered() == [b"1"]
    after.file.close(clean=False)
    another_day = Log(path, "tuesday")
    assert another_day.state.epoch != old.epoch
    another_day.kill()


def write_text(path: Path) -> None:
    path.write_text("this is no database\n" * 100)


def write_foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE somebody (else_ TEXT)")
    connection.close()


def write_newer(path: Path) -> None:
    Log(path).kill()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def damage(path: Path) -> None:
    log = Log(path)
    log.append(*numbered(2000))
    log.file.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


@pytest.mark.parametrize("spoil", [write_text, write_foreign, write_newer, damage])
def test_a_file_that_cannot_be_used_is_set_aside(
    path: Path, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    assert callable(spoil)
    spoil(path)
    content = path.read_bytes()

    log = Log(path)

    assert log.append(Append("a", b"1")) == [StreamPosition(1, log.state.epoch)]
    assert "history begins anew" in caplog.text
    aside = path.with_name(path.name + ".set-aside")
    assert aside.read_bytes()[100:] == content[100:]
    log.kill()


def test_damage_that_shows_later_is_told_from_a_full_disk(path: Path) -> None:
    log = Log(path)
    log.append(*numbered(2000))
    log.file.checkpoint()
    log.file.restart_write_ahead()
    log.kill()
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 40 * 4096)
    damaged = LogFile(path, "monday")
    with pytest.raises(UnusableLogError):
        use_up(damaged)
    damaged._close_connections()  # noqa: SLF001  (the kernel would)


def use_up(damaged: LogFile) -> None:
    while True:
        damaged.load(NOW)
        damaged.trim(LIMITS, NOW + 1000)


def test_a_full_disk_fails_the_batch_as_a_whole_and_the_log_recovers(log: Log) -> None:
    log.append(*numbered(2))
    connection = log.file._connection  # noqa: SLF001  (SQLite's own way to have a small disk)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = [Append("new", b"x" * 10_000), Append("a", b"y")]

    with pytest.raises(sqlite3.OperationalError, match="full"):
        log.append(*large)
    assert log.remembered() == [b"0", b"1"]
    assert log.remembered("new") == []

    connection.execute("PRAGMA max_page_count = 100000")
    log.file.probe()
    assert [p and p.offset for p in log.append(*large)] == [1, 3]


def rows(log: Log) -> int:
    (count,) = log.file._connection.execute("SELECT count(*) FROM publications").fetchone()  # noqa: SLF001
    return int(count)


def test_trims_in_chunks_what_is_beyond_the_size(log: Log) -> None:
    log.append(*numbered(CHUNK + 100))

    # Its publisher may still ask for what it does not know to be stored.
    assert not log.file.trim(LIMITS, NOW + RESEND_SECONDS - 1)
    assert rows(log) == CHUNK + 100
    log.append(*numbered(1, start=CHUNK + 100), now=NOW + RESEND_SECONDS)
    assert log.file.trim(LIMITS, NOW + RESEND_SECONDS)
    assert not log.file.trim(LIMITS, NOW + RESEND_SECONDS)
    assert rows(log) == LIMITS.size


def test_trims_in_chunks_what_is_too_old(log: Log) -> None:
    log.append(*numbered(CHUNK + 100), Append("b", b"", key="k"))
    log.append(Append("b", b"", key="l"), now=NOW + 300)

    assert log.file.trim(LIMITS, NOW + 300)
    assert not log.file.trim(LIMITS, NOW + 300)
    assert rows(log) == 1
    again = LogFile(log.file.path, "monday")
    assert [key for _, key, _, _ in again.load(NOW + 300).keys] == ["l"]
    again._close_connections()  # noqa: SLF001  (the kernel would)


def test_cleared_channel_stays_empty_and_nothing_in_it_is_doubled(path: Path) -> None:
    before = Log(path)
    positions = before.append(*numbered(3), Append("b", b"secret"))
    before.file.clear("a")
    before.log.clear("a")
    assert before.remembered() == []
    before.append(*numbered(1, start=3))
    before.kill()

    after = Log(path)
    assert after.remembered() == [b"3"]
    assert after.remembered("b") == [b"secret"]
    assert after.append(*numbered(3)) == positions[:3]  # sent again, since nobody answered
    (data,) = after.file._connection.execute(  # noqa: SLF001  (what a thief would read)
        "SELECT group_concat(data, '') FROM publications WHERE offset < 4 AND channel = 1"
    ).fetchone()
    assert not data
    after.file.clear("nobody published")
    after.kill()


def test_a_forgotten_channel_begins_in_another_generation(path: Path) -> None:
    before = Log(path)
    before.append(Append("a", b"1"), Append("b", b"1"))
    later = NOW + 10_000
    assert sorted(before.log.expire(later, subscribed=())) == ["a", "b"]
    before.file.forget(["a", "b"], before.log.generation)
    (position,) = before.append(Append("a", b"2"), now=later)
    before.kill()

    after = Log(path, now=later)
    new = f"{before.state.epoch}.1"
    assert position == StreamPosition(1, new)
    assert after.log.position("a", later) == position
    assert after.log.position("b", later).epoch == new
    after.kill()


def test_the_write_ahead_log_is_carried_over(log: Log) -> None:
    for n in range(20):
        log.append(*numbered(100, start=100 * n))
    size = log.file.write_ahead_bytes()
    log.file.checkpoint()
    log.file.restart_write_ahead()
    log.append(*numbered(1, start=5000))

    assert size > 0
    # Begun again from the front: it did not grow.
    assert log.file.write_ahead_bytes() == size


def test_only_who_carries_over_waits_for_the_disk(log: Log) -> None:
    """An append that began the write-ahead log anew would, and everybody's publications with it."""
    appends, carries_over = log.file._connection, log.file._beside  # noqa: SLF001  (SQLite tells nobody else)
    assert carries_over is not None

    assert appends.execute("PRAGMA synchronous").fetchone() == (0,)
    assert carries_over.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_closed_log_says_so(path: Path) -> None:
    log = Log(path)
    log.file.close()
    log.file.checkpoint()

    with pytest.raises(LogClosedError):
        log.append(Append("a", b"1"))
    assert log.file.write_ahead_bytes() == 0
