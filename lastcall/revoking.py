"""Revoked tokens, on all workers: told to each, asked for by a new one, their clients let go."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable

import anyio
import msgspec
from anyio.to_thread import run_sync

from lastcall.broker.base import not_owed
from lastcall.connection import Connection
from lastcall.connection_manager import ConnectionManager
from lastcall.errors import BrokerUnavailable, InternalError, InvalidToken, LimitExceeded
from lastcall.everyone import RETRY_PAUSE, Everyone
from lastcall.revocation_file import RevocationFile
from lastcall.revocations import Revocation, Revocations

logger = logging.getLogger(__name__)

_TELL, _ASK = "revoke", "revocations"
_decode = msgspec.json.Decoder(list[Revocation]).decode


class Revoking:
    """This worker's part in revocations. Where there is a file, they outlive all workers."""

    def __init__(
        self,
        everyone: Everyone,
        revocations: Revocations,
        connections: ConnectionManager,
        file: RevocationFile | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Fill *revocations* with what *everyone* is told, and close those of *connections* hit."""
        self._file = file
        self._everyone = everyone
        self._revocations = revocations
        self._connections = connections
        self._clock = clock
        everyone.on(_TELL, lambda body: self._take(_decode(body)))
        everyone.on(_ASK, lambda _: msgspec.json.encode(revocations.current(clock())))

    async def revoke(self, revocation: Revocation) -> None:
        """Let it hold on all workers.

        Raises:
            LimitExceeded, BadCommand: see `Revocations.add`; nobody was told.
            BrokerUnavailable: it holds on this worker only.
            InternalError: it holds until the last worker ends.
        """
        now = self._clock()
        self._revocations.add(revocation, now)
        told = self._everyone.tell(_TELL, msgspec.json.encode([revocation]))
        told.add_done_callback(not_owed)
        if self._file is not None:
            try:
                await run_sync(self._file.keep, [revocation], now)
            except (OSError, sqlite3.Error) as error:
                logger.exception("a revocation would not outlive a restart")
                raise InternalError from error
        await told

    async def remember(self) -> None:
        """Take what was revoked before the last restart."""
        if self._file is not None:
            try:
                self._take(await run_sync(self._file.load, self._clock()))
            except (OSError, sqlite3.Error):
                logger.exception("what was revoked before this start is not known here")

    async def learn(self) -> None:
        """Take what the other workers know, however long they cannot be asked."""
        while True:
            try:
                answers = await self._everyone.ask(_ASK, b"")
            except BrokerUnavailable:
                await anyio.sleep(RETRY_PAUSE)
            else:
                for answer in filter(None, answers):  # older workers know nothing of it
                    self._take(_decode(answer))
                return

    def _take(self, told: Iterable[Revocation]) -> None:
        now = self._clock()
        for revocation in told:
            try:
                self._revocations.add(revocation, now)
            except LimitExceeded:
                logger.error("too many revocations: a token that was revoked is good here")  # noqa: TRY400  (expected)
        for connection in self._connections:
            self.check(connection)

    def check(self, connection: Connection) -> None:
        """Close *connection* if the token that it is here by was revoked."""
        session = connection.session
        if session is None or not session.has_token or connection.ended_by is not None:
            return
        if self._revocations.is_revoked(
            user=session.user,
            token_id=session.token_id,
            issued_at=session.issued_at,
            now=self._clock(),
        ):
            connection.disconnect(InvalidToken())
