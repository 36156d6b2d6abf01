"""Checks tokens with the keys of the settings, and fetches those that are kept elsewhere."""

import http.client
import logging
import time
import urllib.error
import urllib.request
from types import ModuleType

import anyio
import anyio.to_thread

from lastcall.errors import InvalidToken, NotPermitted, SettingsError
from lastcall.revocations import Revocations
from lastcall.settings import PREFIX, Settings
from lastcall.token_keys import RemoteKeys, TokenKey, secret_key
from lastcall.tokens import ConnectionClaims, SubscriptionClaims, Tokens

logger = logging.getLogger(__name__)

FETCH_SECONDS = 3
"""Shorter than an SDK waits for the answer to its `connect`."""
FETCH_BYTES = 262_144
SAFE_SECRET = 32
"""Bytes below which a secret can be found by trying, by anybody who has a token (RFC 7518, 3.2)."""


class TokenVerifier:
    """Says who a client is by its token.

    Waits only where keys have to be fetched, and then once for all who wait.
    """

    def __init__(self, settings: Settings) -> None:
        """Take the keys from *settings*; reads a file, so not inside an event loop.

        Raises:
            SettingsError: keys cannot be read or used.
        """
        self.revocations = Revocations()
        self._url = settings.token_jwks_url
        if self._url:
            _public_key_reader("TOKEN_JWKS_URL")  # now, rather than when the first client comes
        self._remote = RemoteKeys()
        self._fetching = anyio.Lock()
        self._tokens = Tokens(
            [*_secret_keys(settings), *_public_keys(settings)],
            self._remote if self._url else None,
            audience=settings.token_audience,
            issuer=settings.token_issuer,
        )

    async def connection(self, token: str, now: float) -> ConnectionClaims:
        """Like `Tokens.connection`, with keys that are fetched where needed.

        Raises:
            InvalidToken: also where it was revoked.
        """
        await self._have_keys(token, now)
        claims = self._tokens.connection(token, now)
        if self._is_revoked(claims, now):
            raise InvalidToken
        return claims

    async def subscription(
        self, token: str, now: float, *, channel: str, user: str, client: str
    ) -> SubscriptionClaims:
        """Like `Tokens.subscription`, with keys that are fetched where needed.

        Raises:
            NotPermitted: also where it was revoked.
        """
        await self._have_keys(token, now)
        claims = self._tokens.subscription(token, now, channel=channel, user=user, client=client)
        if self._is_revoked(claims, now):
            raise NotPermitted
        return claims

    def _is_revoked(self, claims: ConnectionClaims | SubscriptionClaims, now: float) -> bool:
        return self.revocations.is_revoked(
            user=claims.user, token_id=claims.token_id, issued_at=claims.issued_at, now=now
        )

    async def _have_keys(self, token: str, now: float) -> None:
        if not self._tokens.lacks_key(token, now):
            return
        async with self._fetching:
            # Whoever had the lock before may have fetched it. If its client left meanwhile, the
            # next one begins anew.
            if self._tokens.lacks_key(token, now):
                await self._fetch(now)

    async def _fetch(self, now: float) -> None:
        try:
            with anyio.fail_after(FETCH_SECONDS):
                document = await anyio.to_thread.run_sync(
                    _download, self._url, abandon_on_cancel=True
                )
            keys: list[TokenKey] = _public_key_reader("TOKEN_JWKS_URL").keys_from_jwks(document)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = str(error) or type(error).__name__
            logger.warning("the keys at %sTOKEN_JWKS_URL cannot be fetched: %s", PREFIX, why)
            self._remote.failed(now)
        else:
            self._remote.replace(keys, now)


def _download(url: str) -> bytes:
    """What is at *url*; bounded in size and time, for a thread.

    Raises:
        OSError, HTTPException, ValueError: it is not to be had.
    """
    until = time.monotonic() + FETCH_SECONDS
    document = b""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310  (the setting allows http and https only)
            while part := answer.read1(FETCH_BYTES):
                document += part
                if len(document) > FETCH_BYTES:
                    raise ValueError(f"more than {FETCH_BYTES} bytes")
                # A time-out of the socket's begins anew with each byte.
                if time.monotonic() > until:
                    raise TimeoutError("too slow")
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            raise OSError(f"the answer is {error.code} {error.reason}") from None
    return document


def _secret_keys(settings: Settings) -> list[TokenKey]:
    keys = []
    for name in ("token_secret", "token_previous_secret"):
        secret = getattr(settings, name)
        if secret is None:
            continue
        value = secret.get_secret_value()
        if len(value.encode()) < SAFE_SECRET:
            logger.warning(
                "%s%s has fewer than %d bytes: who has a token can find it by trying",
                PREFIX,
                name.upper(),
                SAFE_SECRET,
            )
        keys.append(secret_key(value))
    return keys


def _public_keys(settings: Settings) -> list[TokenKey]:
    path = settings.token_public_keys
    if path is None:
        return []
    read = _public_key_reader("TOKEN_PUBLIC_KEYS")
    try:
        keys: list[TokenKey] = read.keys_from_pem(path.read_text("ascii"))
    except OSError as error:
        reason = error.strerror
    except ValueError as error:
        reason = "it is no text" if isinstance(error, UnicodeError) else str(error)
    else:
        return keys
    raise SettingsError(f"{PREFIX}TOKEN_PUBLIC_KEYS is {str(path)!r}, but {reason}")


def _public_key_reader(setting: str) -> ModuleType:
    try:
        from lastcall import public_keys  # noqa: PLC0415  (needs a package that few installations do)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{PREFIX}{setting} needs the package cryptography: install lastcall[crypto]"
        ) from error
    return public_keys
