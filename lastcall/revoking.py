"""Revoked tokens, on all workers: told to each, asked for by a new one, their clients let go."""

import logging
import time
from collections.abc import Callable, Iterable

import anyio
import msgspec

from lastcall.connection_manager import ConnectionManager
from lastcall.errors import BrokerUnavailable, InvalidToken, LimitExceeded
from lastcall.everyone import RETRY_PAUSE, Everyone
from lastcall.revocations import Revocation, Revocations

logger = logging.getLogger(__name__)

_TELL, _ASK = "revoke", "revocations"
_decode = msgspec.json.Decoder(list[Revocation]).decode


class Revoking:
    """This worker's part in revocations. They are forgotten when the last worker ends."""

    def __init__(
        self,
        everyone: Everyone,
        revocations: Revocations,
        connections: ConnectionManager,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Fill *revocations* with what *everyone* is told, and close those of *connections* hit."""
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
        """
        self._revocations.add(revocation, self._clock())
        await self._everyone.tell(_TELL, msgspec.json.encode([revocation]))

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
            session = connection.session
            if session is None or not session.has_token or connection.ended_by is not None:
                continue
            if self._revocations.is_revoked(
                user=session.user, token_id=session.token_id, issued_at=session.issued_at, now=now
            ):
                connection.disconnect(InvalidToken())
