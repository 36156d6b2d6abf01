"""The keys that tokens are checked with, and what each of them may check.

A key has its algorithms, and a token only picks among them. So nobody can sign with a public key
as if it were a secret, and nothing passes unsigned.
"""

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lastcall.errors import InternalError

SECRET_ALGORITHMS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
PUBLIC_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"},
)

REMOTE_AGE = 600
"""Seconds after which the keys of an identity provider are fetched again."""
REMOTE_PAUSE = 5
"""Seconds between two attempts, at least: who invents names of keys must not make us ask on and
on."""

Check = Callable[[bytes, bytes], bool]
"""Whether a message (the first) has this signature (the second)."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that tokens may be signed with."""

    checks: Mapping[str, Check] = field(repr=False)
    """By the algorithm's name, as it stands in the header of a token."""
    name: str | None = None
    """What the header of a token calls it: `kid`."""


def secret_key(secret: str) -> TokenKey:
    """A secret shared with whoever makes tokens: HS256, HS384 and HS512."""
    key = secret.encode()
    return TokenKey(
        {name: partial(_is_hmac, key, digest) for name, digest in SECRET_ALGORITHMS.items()}
    )


def _is_hmac(key: bytes, digest: str, message: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(key, message, digest), signature)


class RemoteKeys:
    """The keys of an identity provider as last fetched, and when to fetch them again.

    The time that is passed in is the one at which a token arrived or a fetch began.
    """

    def __init__(self) -> None:
        """Begin without keys: the first token makes a fetch due."""
        self._keys: Sequence[TokenKey] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None

    def is_due(self, name: str | None, now: float) -> bool:
        """Whether to fetch before a token whose key has that name is checked.

        It is when there are no keys yet, when they are old, and when the name is not among them;
        but never twice within a few seconds.
        """
        if self._tried_at is not None and abs(now - self._tried_at) < REMOTE_PAUSE:
            return False
        if self._fetched_at is None or abs(now - self._fetched_at) >= REMOTE_AGE:
            return True
        return not self._named(name)

    def replace(self, keys: Sequence[TokenKey], now: float) -> None:
        """Take what was fetched; a key that is gone is no longer accepted."""
        self._keys = keys
        self._fetched_at = self._tried_at = now

    def failed(self, now: float) -> None:
        """Keep the keys, however old: without them nobody could connect."""
        self._tried_at = now

    def find(self, name: str | None, now: float) -> Sequence[TokenKey]:
        """The keys to try; all of them for a token that names none.

        Raises:
            InternalError: there is none, and nobody could be asked since the token arrived; so it
                may be a good one, and its client shall try again.
        """
        found = self._named(name)
        if not found and (self._fetched_at is None or self._fetched_at < now):
            raise InternalError
        return found

    def _named(self, name: str | None) -> Sequence[TokenKey]:
        return self._keys if name is None else [key for key in self._keys if key.name == name]


def from_base64url(text: str | bytes) -> bytes:
    """Decode base64url without padding, and nothing else (RFC 7515, 2).

    Raises:
        ValueError: it is anything else; a second way to write the same bytes, for example.
    """
    encoded = text.encode("ascii") if isinstance(text, str) else text
    decoded = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    if to_base64url(decoded) != encoded:
        raise ValueError("not base64url")
    return decoded


def to_base64url(plain: bytes) -> bytes:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(plain).rstrip(b"=")
