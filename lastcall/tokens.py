"""Tokens: who a client is, and which channels it may have, as somebody we trust has signed it.

A token is a JWT in its compact form (RFC 7515, 7519) with the claims of the Centrifuge protocol. We
read that form ourselves: it is three parts and a signature, the claims stay bytes where nobody
reads them, and the time is passed in.
"""

import base64
import hmac
import logging
from collections.abc import Mapping, Sequence

import msgspec

from lastcall.channel_options import Override
from lastcall.errors import InvalidToken, NotPermitted, TokenExpired
from lastcall.token_keys import (
    PUBLIC_ALGORITHMS,
    RemoteKeys,
    TokenKey,
    from_base64url,
    to_base64url,
)

logger = logging.getLogger(__name__)

MAX_TOKEN = 65_536
"""Characters in a token, at most: it comes in one message."""

_MALFORMED = (ValueError, RecursionError, msgspec.MsgspecError)


class ServerSubscription(msgspec.Struct, frozen=True):
    """What a connection token says of one channel to subscribe the connection to."""

    info: bytes = b""
    """JSON, or empty: `chan_info` of the client in this channel."""
    data: bytes = b""
    """JSON, or empty: for the client, with the subscription."""
    override: Override = Override()


class ConnectionClaims(msgspec.Struct, frozen=True):
    """What a connection token says of its connection."""

    user: str
    """Empty: anonymous."""
    expire_at: float | None = None
    """When the connection needs a fresh token; None: never."""
    info: bytes = b""
    """JSON, or empty: `conn_info` of the client."""
    data: bytes = b""
    """JSON, or empty: for the client, with the answer to its connect."""
    meta: bytes = b""
    """JSON, or empty: for hooks and proxies, never for clients."""
    subscriptions: Mapping[str, ServerSubscription] = {}
    token_id: str = ""
    issued_at: float | None = None


class SubscriptionClaims(msgspec.Struct, frozen=True):
    """What a subscription token says of its subscription."""

    user: str
    channel: str
    expire_at: float | None = None
    """When the subscription needs a fresh token; None: never."""
    info: bytes = b""
    """JSON, or empty: `chan_info` of the client in this channel."""
    data: bytes = b""
    """JSON, or empty: for the client, with the subscription."""
    override: Override = Override()
    token_id: str = ""
    issued_at: float | None = None


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    crit: msgspec.Raw = msgspec.Raw()


class _Payload(msgspec.Struct, frozen=True):
    """What both kinds of tokens may claim."""

    sub: str = ""
    exp: float | None = None
    nbf: float | None = None
    iat: float | None = None
    jti: str | None = None
    aud: str | list[str] | None = None
    iss: str | None = None
    expire_at: float | None = None
    info: msgspec.Raw = msgspec.Raw()
    b64info: str | None = None
    channel: str | None = None


class _ServerSubscription(msgspec.Struct, frozen=True):
    info: msgspec.Raw = msgspec.Raw()
    b64info: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    b64data: str | None = None
    override: Override | None = None


class _ConnectionPayload(_Payload, frozen=True):
    channels: list[str] | None = None
    subs: dict[str, _ServerSubscription | None] | None = None
    meta: msgspec.Raw = msgspec.Raw()


class _SubscriptionPayload(_Payload, frozen=True):
    client: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    b64data: str | None = None
    override: Override | None = None


class Tokens:
    """Checks tokens, and says what they claim."""

    def __init__(
        self,
        keys: Sequence[TokenKey],
        remote: RemoteKeys | None = None,
        *,
        audience: str = "",
        issuer: str = "",
    ) -> None:
        """Trust these keys; where given, only tokens for *audience* and from *issuer*."""
        self._keys = keys
        self._remote = remote
        self._audience = audience
        self._issuer = issuer

    def lacks_key(self, token: str, now: float) -> bool:
        """Whether to fetch the remote keys before this token is checked."""
        if self._remote is None:
            return False
        try:
            header = _header(token.partition(".")[0])
        except _MALFORMED:
            return False
        return header.alg in PUBLIC_ALGORITHMS and self._remote.is_due(header.kid, now)

    def connection(self, token: str, now: float) -> ConnectionClaims:
        """What a connection token claims.

        Raises:
            InvalidToken: it is none, it was not signed with one of our keys, or it is for others.
            TokenExpired: it was good once, or will be.
            InternalError: the key to check it with could not be fetched.
        """
        try:
            payload = self._payload(token, _ConnectionPayload, now)
            if payload.channel:
                raise ValueError("it is for a subscription")
            claims = ConnectionClaims(
                user=payload.sub,
                expire_at=_expire_at(payload),
                info=_json(payload.info, payload.b64info),
                meta=_json(payload.meta),
                subscriptions=_subscriptions(payload),
                token_id=payload.jti or "",
                issued_at=payload.iat,
            )
        except _MALFORMED as error:
            logger.debug("a connection token is refused: %s", error)
            raise InvalidToken from None
        _check_time(payload, now)
        return claims

    def subscription(
        self, token: str, now: float, *, channel: str, user: str, client: str
    ) -> SubscriptionClaims:
        """What a subscription token claims, if it is for this channel, user and connection.

        Raises:
            NotPermitted: it is none, or it was not signed with one of our keys. (In a refresh of
                a subscription the protocol wants InvalidToken instead.)
            TokenExpired: it was good once, or will be.
            InvalidToken: it is for another channel, another user or another connection.
            InternalError: the key to check it with could not be fetched.
        """
        try:
            payload = self._payload(token, _SubscriptionPayload, now)
            if not payload.channel:
                raise ValueError("it names no channel")
            claims = SubscriptionClaims(
                user=payload.sub,
                channel=payload.channel,
                expire_at=_expire_at(payload),
                info=_json(payload.info, payload.b64info),
                data=_json(payload.data, payload.b64data),
                override=payload.override or Override(),
                token_id=payload.jti or "",
                issued_at=payload.iat,
            )
        except _MALFORMED as error:
            logger.debug("a subscription token is refused: %s", error)
            raise NotPermitted from None
        _check_time(payload, now)
        if (claims.channel, claims.user) != (channel, user):
            raise InvalidToken
        if payload.client and payload.client != client:
            raise InvalidToken
        return claims

    def _payload[P: _Payload](self, token: str, kind: type[P], now: float) -> P:
        """The claims of a token that one of our keys has signed, for us.

        Raises:
            ValueError, MsgspecError, RecursionError: it is not.
        """
        if len(token) > MAX_TOKEN:
            raise ValueError("it is too long")
        message, _, signature = token.rpartition(".")
        head, _, body = message.partition(".")
        if not self._is_signed(
            _header(head), message.encode("ascii"), from_base64url(signature), now
        ):
            raise ValueError("no key of ours has signed it")
        text = from_base64url(body)
        text.decode()  # what is passed on as it came must be text all the same
        claims = msgspec.json.decode(text, type=kind)
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
        if self._audience and self._audience not in audiences:
            raise ValueError("it is for another audience")
        if self._issuer and self._issuer != claims.iss:
            raise ValueError("it is from another issuer")
        return claims

    def _is_signed(self, header: _Header, message: bytes, signature: bytes, now: float) -> bool:
        if any(_has_signed(key, header.alg, message, signature) for key in self._keys):
            return True
        if self._remote is None or header.alg not in PUBLIC_ALGORITHMS:
            return False
        return any(
            _has_signed(key, header.alg, message, signature)
            for key in self._remote.find(header.kid, now)
        )


def make_token(secret: str, claims: Mapping[str, object]) -> str:
    """Make a token with these claims, signed with *secret* (HS256).

    A connection token needs `sub`, a subscription token `channel` as well.
    """
    header = to_base64url(b'{"alg":"HS256","typ":"JWT"}')
    message = header + b"." + to_base64url(msgspec.json.encode(claims))
    signature = hmac.digest(secret.encode(), message, "sha256")
    return (message + b"." + to_base64url(signature)).decode("ascii")


def _header(part: str) -> _Header:
    header = msgspec.json.decode(from_base64url(part), type=_Header)
    if bytes(header.crit):
        # Whoever lists something as critical wants it refused by those who do not know it, and we
        # know none (RFC 7515, 4.1.11).
        raise ValueError("it has critical extensions")
    return header


def _has_signed(key: TokenKey, algorithm: str, message: bytes, signature: bytes) -> bool:
    check = key.checks.get(algorithm)
    return check is not None and check(message, signature)


def _check_time(payload: _Payload, now: float) -> None:
    too_early = payload.nbf is not None and now < payload.nbf
    too_late = payload.exp is not None and now >= payload.exp
    if too_early or too_late:
        raise TokenExpired
    expire_at = _expire_at(payload)
    if expire_at is not None and now >= expire_at:
        raise TokenExpired


def _expire_at(payload: _Payload) -> float | None:
    if payload.expire_at is None:
        return payload.exp
    return payload.expire_at if payload.expire_at > 0 else None


def _subscriptions(payload: _ConnectionPayload) -> dict[str, ServerSubscription]:
    if not payload.subs:
        return {channel: ServerSubscription() for channel in payload.channels or ()}
    return {
        channel: ServerSubscription()
        if claims is None
        else ServerSubscription(
            info=_json(claims.info, claims.b64info),
            data=_json(claims.data, claims.b64data),
            override=claims.override or Override(),
        )
        for channel, claims in payload.subs.items()
    }


def _json(raw: msgspec.Raw, encoded: str | None = None) -> bytes:
    """JSON on one line, whichever claim it came in; empty if in none.

    Raises:
        ValueError, MsgspecError, RecursionError: it is no JSON.
    """
    text = base64.b64decode(encoded, validate=True) if encoded else bytes(raw)
    if encoded:
        text.decode()
        msgspec.json.decode(text)
    # It goes into frames as it is, and there a line break ends a message.
    text = msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else text
    return b"" if text == b"null" else text
