"""The log's SQLite schema: whose file it is, of which release, and whether to trust it."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lastcall.errors import LastcallError
from lastcall.stream_log import new_epoch

APPLICATION_ID = 0x4C415354
"""In the file's header, so that a file of somebody else's is never written to ("LAST")."""
SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE log (epoch TEXT, generation INTEGER, boot TEXT, clean INTEGER);
CREATE TABLE channels (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, epoch TEXT, head INTEGER, used REAL
);
CREATE TABLE publications (
    id INTEGER PRIMARY KEY, channel INTEGER, offset INTEGER, at REAL,
    publisher INTEGER, sequence INTEGER, kind INTEGER, about BLOB, data BLOB
);
CREATE UNIQUE INDEX publications_by_offset ON publications (channel, offset);
CREATE TABLE keys (
    id INTEGER PRIMARY KEY, channel TEXT, key TEXT, offset INTEGER, epoch TEXT, at REAL
);
"""


class UnusableLogError(LastcallError):
    """The file is damaged, somebody else's, or of a newer release."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for any thread; transactions are begun by hand."""
    return sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that the file is a log of ours, or nothing yet, before anything is written.

    Raises:
        UnusableLogError: it is something else.
    """
    (ours,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not _is_empty(connection) and ours != APPLICATION_ID:
        raise UnusableLogError(f"{path} is not a log of Lastcall")
    if version > SCHEMA_VERSION:
        raise UnusableLogError(f"{path} was written by a newer release of Lastcall")


def begin(connection: sqlite3.Connection, boot: str) -> None:
    """Make the tables if there are none, and mark the log as open; in a transaction."""
    if _is_empty(connection):
        for statement in SCHEMA.split(";")[:-1]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("INSERT INTO log VALUES (?, 0, ?, 0)", (new_epoch(), boot))
    last_boot, clean = connection.execute("SELECT boot, clean FROM log").fetchone()
    if clean or last_boot != boot:
        # On the disk before the first append: this mark must never be rolled back alone.
        connection.execute("UPDATE log SET boot = ?, clean = 0", (boot,))
    if clean or (last_boot == boot and boot):
        return
    # What was acknowledged last may not have reached the disk when the machine went down;
    # offsets given twice would make clients believe that they have seen what they have not.
    for table in ("channels", "publications", "keys"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  (our own names)
    connection.execute("UPDATE log SET epoch = ?, generation = 0", (new_epoch(),))


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Tell a file that will never work again from a disk that is full for now."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or _is_other_schema(error):
            raise UnusableLogError(f"{path} is damaged ({error})") from error
        raise


def _is_other_schema(error: sqlite3.DatabaseError) -> bool:
    return str(error).startswith(("no such table", "no such column"))


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not tables
