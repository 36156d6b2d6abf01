"""What the backend is asked and what it answers: Centrifugo's proxy events, in JSON."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from lastcall.channel_options import Override
from lastcall.close_words import is_plain
from lastcall.errors import ClosedByApplication, LastcallError, Refused
from lastcall.json_values import value_or_none
from lastcall.protocol.centrifuge import Json
from lastcall.verdicts import Edited, Identity, Permit

_NO_REASON = "closed by the application"
_ERRORS = range(400, 2000)
_CLOSES = range(4000, 5000)


class Unusable(LastcallError):  # noqa: N818  (says what is so)
    """The backend answered, but not what can be an answer."""


class Question(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """One proxy event; what it is about decides which fields there are."""

    client: str
    transport: str
    protocol: str
    encoding: str
    user: str
    name: str = ""
    version: str = ""
    channel: str = ""
    channels: list[str] = []
    token: str = ""
    method: str = ""
    data: Json = UNSET
    meta: Json = UNSET


class _SubscribeOptions(msgspec.Struct, frozen=True):
    info: Json = UNSET
    b64info: str = ""
    data: Json = UNSET
    b64data: str = ""
    override: Override | None = None
    expire_at: float = 0

    def permit(self) -> Permit:
        return Permit(
            info=_value(self.info, self.b64info),
            data=_value(self.data, self.b64data),
            expire_at=self.expire_at,
            override=self.override or Override(),
        )


class _Connected(msgspec.Struct, frozen=True):
    user: str = ""
    expire_at: float = 0
    info: Json = UNSET
    b64info: str = ""
    data: Json = UNSET
    b64data: str = ""
    channels: list[str] | None = None
    subs: dict[str, _SubscribeOptions | None] | None = None
    meta: Json = UNSET

    def identity(self) -> Identity:
        permits = dict.fromkeys(self.channels or (), Permit())
        for channel, options in (self.subs or {}).items():
            permits[channel] = Permit() if options is None else options.permit()
        return Identity(
            user=self.user,
            expire_at=self.expire_at,
            info=_value(self.info, self.b64info),
            data=_value(self.data, self.b64data),
            meta=_value(self.meta),
            channels=permits,
        )


class _Refreshed(msgspec.Struct, frozen=True):
    expired: bool = False
    expire_at: float = 0
    info: Json = UNSET
    b64info: str = ""
    meta: Json = UNSET


class _Published(msgspec.Struct, frozen=True):
    data: Json = UNSET
    b64data: str = ""
    tags: dict[str, str] | None = None
    idempotency_key: str = ""


class _Called(msgspec.Struct, frozen=True):
    data: Json = UNSET
    b64data: str = ""


class _Error(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    temporary: bool = False


class _Disconnect(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""


class _Answer[R](msgspec.Struct, frozen=True):
    result: R | None = None
    error: _Error | None = None
    disconnect: _Disconnect | None = None


_CONNECTED = msgspec.json.Decoder(_Answer[_Connected])
_REFRESHED = msgspec.json.Decoder(_Answer[_Refreshed])
_SUBSCRIBED = msgspec.json.Decoder(_Answer[_SubscribeOptions])
_PUBLISHED = msgspec.json.Decoder(_Answer[_Published])
_CALLED = msgspec.json.Decoder(_Answer[_Called])


def identity(body: bytes) -> Identity | None:
    """Who the client is; None: nobody that the backend knows.

    Like all of these functions it raises what the answer means, and `Unusable`.
    """
    result = _result(_CONNECTED.decode, body)
    return None if result is None else _read(result.identity)


def prolonged(body: bytes, user: str) -> Identity | None:
    """Who the client still is; None: its time is over."""
    result = _result(_REFRESHED.decode, body)
    if result is None or result.expired:
        return None
    return _read(
        lambda: Identity(
            user=user,
            expire_at=result.expire_at,
            info=_value(result.info, result.b64info),
            meta=_value(result.meta),
        )
    )


def permit(body: bytes) -> Permit | bool:
    """What goes with the subscription; False: there is none."""
    result = _result(_SUBSCRIBED.decode, body)
    return result is not None and _read(result.permit)


def edited(body: bytes) -> Edited | bool:
    """What is published; False: nothing is."""
    result = _result(_PUBLISHED.decode, body)
    if result is None:
        return False
    data = _read(lambda: value_or_none(result.data, result.b64data))
    return Edited(data=data, tags=result.tags or {}, idempotency_key=result.idempotency_key)


def called(body: bytes) -> Raw | None:
    """What the call returns."""
    result = _result(_CALLED.decode, body)
    return None if result is None else _read(lambda: _value(result.data, result.b64data))


def picked(
    asked: Mapping[str, str], names: tuple[str, ...], taken: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """The headers of *asked* among *names*, which are in small letters, that can be passed on.

    Those in *taken* are somebody else's to say; what a client made up may hold anything.
    """
    if not names:
        return []
    said = {name.lower(): value for name, value in asked.items()}
    return [
        (name, said[name])
        for name in names
        if name in said and name not in taken and _can_be_header(said[name])
    ]


def _can_be_header(value: str) -> bool:
    return all(letter == "\t" or (" " <= letter <= "\xff" and letter != "\x7f") for letter in value)


def _result[R](decode: Callable[[bytes], _Answer[R]], body: bytes) -> R | None:
    try:
        answer = decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable(f"the answer has another shape: {error}") from error
    if answer.error is not None:
        raise _refused(answer.error)
    if answer.disconnect is not None:
        raise _disconnected(answer.disconnect)
    return answer.result


def _refused(error: _Error) -> LastcallError:
    if error.code not in _ERRORS:
        return Unusable(f"the error's code {error.code} is not between 400 and 1999")
    # An SDK takes an error without a message for one of its own.
    return Refused(error.code, error.message or "refused", temporary=error.temporary)


def _disconnected(why: _Disconnect) -> LastcallError:
    if why.code not in _CLOSES:
        return Unusable(f"the disconnect's code {why.code} is not between 4000 and 4999")
    reason = why.reason or _NO_REASON
    if not is_plain(reason):
        return Unusable("the disconnect's reason has to be plain words of up to 123 bytes")
    return ClosedByApplication(why.code, reason)


def _read[V](make: Callable[[], V]) -> V:
    try:
        return make()
    except Refused as error:
        raise Unusable("a value in base64 is not what it should be") from error


def _value(value: Json, encoded: str = "") -> Any:
    read = value_or_none(value, encoded)
    return None if read is UNSET or bytes(read) == b"null" else read
