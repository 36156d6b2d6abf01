"""Which tokens are no longer good although their time is not over: rules without I/O.

A revocation is told to every worker. It does not matter in which order they come or how often, so
that workers which missed some agree again once they have heard all.
"""

import heapq
import math
from itertools import chain

import msgspec

from lastcall.errors import BadCommand, LimitExceeded

LIMIT = 100_000
"""Revocations that a worker remembers, at most: some 40 MB."""


class TokenRevocation(msgspec.Struct, frozen=True, tag="token"):
    """One token is no longer good."""

    token_id: str
    """Its `jti`."""
    until: float
    """When it may be forgotten, because the token is over anyway."""


class UserRevocation(msgspec.Struct, frozen=True, tag="user"):
    """The tokens that a user has so far are no longer good; new ones are."""

    user: str
    """Empty: of all anonymous clients."""
    issued_before: float
    """By their `iat`, which most issuers give in whole seconds."""
    until: float
    """When it may be forgotten, because these tokens are over anyway."""


Revocation = TokenRevocation | UserRevocation


class Revocations:
    """The revocations that hold."""

    def __init__(self, limit: int = LIMIT) -> None:
        """Remember at most *limit* of them."""
        self._limit = limit
        self._tokens: dict[str, TokenRevocation] = {}
        self._users: dict[str, list[UserRevocation]] = {}
        self._ends: list[tuple[float, str, str]] = []
        """When to look which one is over: the time, the kind and the id; a heap."""

    def add(self, revocation: Revocation, now: float) -> None:
        """Let it hold from now on, beside those that hold already.

        Raises:
            LimitExceeded: there are too many. Forgetting one instead would let somebody in.
            BadCommand: it names no token, or no time.
        """
        self._forget(now)
        if not math.isfinite(revocation.until):
            raise BadCommand
        if revocation.until <= now:
            return
        if isinstance(revocation, TokenRevocation):
            self._add_token(revocation)
        else:
            self._add_user(revocation)

    def is_revoked(self, *, user: str, token_id: str, issued_at: float | None, now: float) -> bool:
        """Whether a token with these claims is no longer good.

        One that does not say when it was issued counts as issued before any revocation of its
        user. One without an id can only be revoked with its user.
        """
        token = self._tokens.get(token_id)
        if token is not None and now < token.until:
            return True
        return any(
            now < each.until and (issued_at is None or issued_at < each.issued_before)
            for each in self._users.get(user, ())
        )

    def current(self, now: float) -> list[Revocation]:
        """All that hold, for a worker that has heard of none yet."""
        self._forget(now)
        return [*self._tokens.values(), *chain.from_iterable(self._users.values())]

    def _add_token(self, revocation: TokenRevocation) -> None:
        if not revocation.token_id:
            raise BadCommand
        known = self._tokens.get(revocation.token_id)
        if known is None or known.until < revocation.until:
            self._end_at(revocation.until, "token", revocation.token_id)
            self._tokens[revocation.token_id] = revocation

    def _add_user(self, revocation: UserRevocation) -> None:
        if not math.isfinite(revocation.issued_before):
            raise BadCommand
        known = self._users.get(revocation.user, [])
        if any(_covers(each, revocation) for each in known):
            return
        self._end_at(revocation.until, "user", revocation.user)
        rest = [each for each in known if not _covers(revocation, each)]
        self._users[revocation.user] = [*rest, revocation]

    def _end_at(self, until: float, kind: str, of: str) -> None:
        if len(self._ends) >= self._limit:
            raise LimitExceeded
        heapq.heappush(self._ends, (until, kind, of))

    def _forget(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, kind, of = heapq.heappop(self._ends)
            if kind == "user":
                self._forget_user(of, now)
            elif of in self._tokens and self._tokens[of].until <= now:
                # If it was revoked for longer, that end is still to come.
                del self._tokens[of]

    def _forget_user(self, user: str, now: float) -> None:
        rest = [each for each in self._users.pop(user, ()) if now < each.until]
        if rest:
            self._users[user] = rest


def _covers(one: UserRevocation, other: UserRevocation) -> bool:
    return one.issued_before >= other.issued_before and one.until >= other.until
