"""The SQLite side of the stream log: what was acknowledged outlives every process.

Blocking calls, for threads. One call at a time is let in; only `checkpoint` runs beside them.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lastcall.broker.base import HistoryLimits, Kind, Publication, Retention, StreamPosition
from lastcall.doubles import KEY_SECONDS
from lastcall.errors import LastcallError
from lastcall.log_schema import UnusableLogError, begin, check, connect, damage_named
from lastcall.stream_log import Append, Batch, LogState, StreamState

logger = logging.getLogger(__name__)

RESEND_SECONDS = 30
"""A publication stays in the file that long, whatever the limits: its publisher may not know yet
that it was stored. Longer than any publisher waits for that."""
CHUNK = 500
"""Rows that one call of `trim` deletes, at most, so that no batch waits long behind it."""
CHECKPOINT_BYTES = 4 * 2**20
RESTART_BYTES = 32 * 2**20
"""The write-ahead log is carried over from the first size on, and begun again from the second."""


class LogClosedError(LastcallError):
    """Somebody closed the log for us: this process has no part in it any more."""


def boot_id() -> str:
    """What changes with each start of this machine; empty where nothing tells."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def open_log_file(path: Path, boot: str) -> "LogFile":
    """Open the log at *path*, or begin one; a file that cannot be used is set aside.

    Raises:
        OSError, sqlite3.Error: the disk is full, the directory not ours, …
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return LogFile(path, boot)
    except UnusableLogError as why:
        aside = set_aside(path)
        logger.warning("%s; history begins anew, the file was kept as %s", why, aside)
        return LogFile(path, boot)


def set_aside(path: Path) -> Path:
    """Rename the log and what belongs to it; one such copy is kept."""
    aside = path.with_name(path.name + ".set-aside")
    for suffix in ("-shm", "-wal", ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    return aside


_CLEARED = -1
"""The kind of a publication of which only the place is left."""


class LogFile:
    """An open log. It belongs to whoever holds the lock beside it, and to nobody else."""

    def __init__(self, path: Path, boot: str) -> None:
        """Open *path* on the machine's start *boot*, or begin it."""
        self.path = path
        self._channels: dict[str, int] = {}
        self._touched: dict[str, int] = {}
        self._connection = connect(path)
        self._beside: sqlite3.Connection | None = None
        self._in_use = threading.Lock()
        self._checkpointing = threading.Lock()
        self._closed = False
        try:
            self._begin(boot)
            # By its own connection: a checkpoint writes and waits for the disk meanwhile.
            self._beside = connect(path)
        except BaseException:
            self._close_connections()
            raise

    def load(self, now: float) -> LogState:
        """Read where the log stands; publications are read when somebody asks for them."""
        with self._use():
            epoch, generation = self._one("SELECT epoch, generation FROM log")
            streams = []
            for number, name, *rest in self._all(
                "SELECT id, name, epoch, head, used FROM channels"
            ):
                self._channels[name] = number
                streams.append(StreamState(name, *rest))
            keys = self._all(
                "SELECT channel, key, offset, epoch, at FROM keys WHERE at > ? ORDER BY id",
                now - KEY_SECONDS,
            )
            return LogState(
                epoch,
                generation,
                streams,
                [(channel, key, StreamPosition(n, e), at) for channel, key, n, e, at in keys],
                self._sequences(now),
            )

    def append(self, batch: Batch) -> None:
        """Write *batch* as a whole or not at all.

        Raises:
            UnusableLogError: the file is damaged.
            sqlite3.Error: it could not be written, for now.
        """
        begun = [name for name in batch.heads if name not in self._channels]
        epochs = {p.channel: p.epoch for p in batch.publications}
        try:
            with self._transaction():
                for name in begun:
                    row = (name, epochs[name])
                    cursor = self._connection.execute(
                        "INSERT INTO channels (name, epoch) VALUES (?, ?)", row
                    )
                    self._channels[name] = cursor.lastrowid or 0
                self._insert(batch)
        except BaseException:
            for name in begun:
                self._channels.pop(name, None)
            raise
        self._touched.update(batch.heads)

    def read(
        self, channel: str, end: StreamPosition, limits: HistoryLimits, now: float
    ) -> list[tuple[float, Publication]]:
        """Read what the limits allow up to *end*, in ascending order."""
        with self._use():
            rows = self._all(
                "SELECT at, data, offset, kind, about FROM publications"
                " WHERE channel = ? AND offset > ? AND offset <= ? AND at > ? AND kind != ?"
                " ORDER BY offset",
                self._channels.get(channel),
                end.offset - limits.size,
                end.offset,
                now - limits.ttl,
                _CLEARED,
            )
        return [
            (at, Publication(channel, data, offset, end.epoch, Kind(kind), about))
            for at, data, offset, kind, about in rows
        ]

    def trim(self, limits: Retention, now: float) -> bool:
        """Delete a chunk of what is beyond the limits; whether there may be more."""
        with self._transaction():
            old = self._delete_until("publications", now - max(limits.ttl, RESEND_SECONDS))
            keys = self._delete_until("keys", now - KEY_SECONDS)
            beyond = 0
            while self._touched and beyond < CHUNK:
                channel, head = self._touched.popitem()
                beyond += self._delete_beyond(channel, head, limits.of(channel).size, now)
        return CHUNK in (old, keys) or beyond >= CHUNK

    def probe(self) -> None:
        """Write something of no consequence, to see whether writing works."""
        with self._transaction() as connection:
            connection.execute("UPDATE log SET clean = 0")

    def forget(self, channels: Sequence[str], generation: int) -> None:
        """Delete whole channels; those that begin again do so in another *generation*."""
        with self._transaction() as connection:
            connection.execute("UPDATE log SET generation = ?", (generation,))
            for name in channels:
                self._touched.pop(name, None)
                number = (self._channels.pop(name, None),)
                connection.execute("DELETE FROM publications WHERE channel = ?", number)
                connection.execute("DELETE FROM channels WHERE id = ?", number)

    def clear(self, channel: str) -> None:
        """Delete what was published in *channel*.

        What stays of a publication is who published it: it may be sent again after a loss.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE publications SET data = x'', about = x'', kind = ? WHERE channel = ?",
                (_CLEARED, self._channels.get(channel)),
            )

    def write_ahead_bytes(self) -> int:
        """How much waits to be carried over into the file itself."""
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self) -> None:
        """Carry the write-ahead log over; for another thread, the writer does not wait for it."""
        with self._checkpointing:
            if self._beside is not None and not self._closed:
                self._beside.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def restart_write_ahead(self) -> None:
        """Begin the write-ahead log again; short when a checkpoint has just been made."""
        with self._checkpointing, self._use():
            # By the connection that waits for the disk: what is begun anew has to be on it where
            # it was carried to.
            if self._beside is not None:
                self._beside.execute("PRAGMA wal_checkpoint(RESTART)")

    def close(self, *, clean: bool = True) -> None:
        """Close it so that the next machine start may trust it.

        That waits for the disk. What is not *clean* is as after `kill -9`: others go on with it.
        """
        with self._checkpointing, self._use():
            try:
                if clean:
                    self._connection.execute("PRAGMA synchronous = FULL")
                    self._connection.execute("UPDATE log SET clean = 1")
                else:
                    for each in filter(None, (self._connection, self._beside)):
                        each.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)  # noqa: FBT003  (the library's signature)
            finally:
                self._closed = True
                self._close_connections()

    def _begin(self, boot: str) -> None:
        with self._use():
            check(self._connection, self.path)
            for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
        with self._transaction() as connection:
            begin(connection, boot)
        # Survives the death of the process, which is the promise; the disk is not waited for, as by
        # NORMAL it is by the first append after each new beginning of the write-ahead log.
        self._connection.execute("PRAGMA synchronous = OFF")

    def _insert(self, batch: Batch) -> None:
        channels = self._channels
        self._connection.executemany(
            "INSERT INTO publications"
            " (channel, offset, at, publisher, sequence, kind, about, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (channels[p.channel], p.offset, batch.at, *_source(a), p.kind, p.about, p.data)
                for p, a in zip(batch.publications, batch.appends, strict=True)
            ],
        )
        self._connection.executemany(
            "UPDATE channels SET head = ?, used = ? WHERE id = ?",
            [(head, batch.at, channels[name]) for name, head in batch.heads.items()],
        )
        self._connection.executemany(
            "INSERT INTO keys (channel, key, offset, epoch, at) VALUES (?, ?, ?, ?, ?)",
            [(*key, p.offset, p.epoch, batch.at) for key, p in batch.keys.items()],
        )

    def _sequences(self, now: float) -> list[tuple[int, int, StreamPosition, float]]:
        names = {number: name for name, number in self._channels.items()}
        epochs = dict(self._all("SELECT id, epoch FROM channels")) if names else {}
        found = []
        # Backwards from the newest, because times are not indexed; all of it has to be young.
        for row in self._connection.execute(
            "SELECT publisher, sequence, offset, channel, at FROM publications ORDER BY id DESC"
        ):
            publisher, sequence, offset, channel, at = row
            if at <= now - RESEND_SECONDS:
                break
            if publisher:
                found.append((publisher, sequence, StreamPosition(offset, epochs[channel]), at))
        return found[::-1]

    def _delete_until(self, table: str, oldest: float) -> int:
        # Rows stand in the order of time, so those to delete are the first.
        rows = self._all(f"SELECT id, at FROM {table} ORDER BY id LIMIT {CHUNK}")  # noqa: S608  (our own names)
        old = [number for number, at in rows if at <= oldest]
        if old:
            self._connection.execute(f"DELETE FROM {table} WHERE id <= ?", (old[-1],))  # noqa: S608  (our own names)
        return len(old)

    def _delete_beyond(self, channel: str, head: int, size: int, now: float) -> int:
        rows = self._all(
            "SELECT id FROM publications WHERE channel = ? AND offset <= ? AND at <= ?"
            " ORDER BY offset LIMIT ?",
            self._channels.get(channel),
            head - size,
            now - RESEND_SECONDS,
            CHUNK,
        )
        self._connection.executemany("DELETE FROM publications WHERE id = ?", rows)
        if len(rows) == CHUNK:
            self._touched[channel] = head
        return len(rows)

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        with self._in_use, damage_named(self.path):
            if self._closed:
                raise LogClosedError(f"{self.path} was closed")
            yield

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._use():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # After some errors SQLite has rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _one(self, query: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._connection.execute(query).fetchone()
        return row

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _close_connections(self) -> None:
        if self._beside is not None:
            self._beside.close()
        self._connection.close()


def _source(append: Append) -> tuple[int, int]:
    return append.publisher, append.sequence
