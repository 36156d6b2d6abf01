"""Revocations on disk: what was revoked stays revoked, whatever ends and starts again.

Blocking calls, for threads. Any number of workers may use one file at once.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from lastcall.revocations import Revocation, TokenRevocation, UserRevocation

logger = logging.getLogger(__name__)

NAME = "revocations.sqlite3"
BUSY_SECONDS = 5.0
"""For another worker that writes; each of them takes milliseconds."""

_TABLE = """
CREATE TABLE IF NOT EXISTS revocations (
    kind TEXT NOT NULL, name TEXT NOT NULL, issued_before REAL NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (kind, name, issued_before)
) WITHOUT ROWID
"""
_KEEP = """
INSERT INTO revocations VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET until = max(until, excluded.until)
"""
_TOKEN, _USER = "token", "user"


class RevocationFile:
    """A file in the state directory; there is none before something is revoked."""

    def __init__(self, directory: Path) -> None:
        """Keep it in *directory*."""
        self.path = directory / NAME

    def load(self, now: float) -> list[Revocation]:
        """Everything that still holds.

        A file that cannot be read is set aside and named in the log: revoked tokens are then good
        again, and only the operator can decide what to do about that.
        """
        if not self.path.exists():
            return []
        try:
            with self._connected() as connection:
                rows = connection.execute(
                    "SELECT kind, name, issued_before, until FROM revocations WHERE until > ?",
                    (now,),
                ).fetchall()
        except sqlite3.DatabaseError:
            aside = self.path.with_name(self.path.name + ".set-aside")
            self.path.replace(aside)
            logger.exception(
                "%s cannot be read: TOKENS THAT WERE REVOKED ARE GOOD AGAIN. It was kept as %s",
                self.path,
                aside,
            )
            return []
        return [_revocation(*row) for row in rows]

    def keep(self, revocations: Iterable[Revocation], now: float) -> None:
        """Write them; on the disk when this returns. What is over by *now* is forgotten.

        Raises:
            OSError, sqlite3.Error: they were not written.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        with self._connected() as connection:
            connection.execute("DELETE FROM revocations WHERE until <= ?", (now,))
            connection.executemany(_KEEP, [_row(each) for each in revocations])

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
        with contextlib.closing(connection), connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_TABLE)
            yield connection


def _row(revocation: Revocation) -> tuple[str, str, float, float]:
    if isinstance(revocation, TokenRevocation):
        return _TOKEN, revocation.token_id, 0, revocation.until
    return _USER, revocation.user, revocation.issued_before, revocation.until


def _revocation(kind: str, name: str, issued_before: float, until: float) -> Revocation:
    if kind == _TOKEN:
        return TokenRevocation(name, until)
    return UserRevocation(name, issued_before, until)
