"""What a setting's value may be: its type, how it is read, and the words that say so.

Shared by the settings and the options of channels, so that both read durations alike and complain
alike.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from annotated_types import Ge, Gt
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|s|min|m|h|d) *")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#@,]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a setting may be, in words that complete "it must be"."""

    words: str


class BrokenRule(ValueError):  # noqa: N818  (says what is so, like our other errors)
    """Several values do not fit together; the text says which, and what would."""


def _seconds(value: object) -> object:
    """Turn `500ms`, `30 min` or `1h30m` into seconds; leave the rest to pydantic."""
    if not isinstance(value, str) or not re.fullmatch(f"({_DURATION.pattern})+", value.strip()):
        return value
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(value))


def _by_commas(value: object) -> object:
    """Split what stands between commas; a list from a file is one already."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        # A path or a closing slash would never match what browsers send, and never say so.
        raise ValueError("not an origin")
    return value.lower()


_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_NOT_PASSED_ON = re.compile(
    "connection|content-.*|expect|host|keep-alive|proxy-connection|sec-websocket-.*|te|trailer"
    "|transfer-encoding|upgrade"
)


def _header(value: str) -> str:
    name = value.lower()
    if not _HEADER.fullmatch(name) or _NOT_PASSED_ON.fullmatch(name):
        raise ValueError("not the name of a header that can be passed on")
    return name


def from_json(value: object) -> object:
    """Read what the environment holds as text; a table from a file is one already."""
    return json.loads(value) if isinstance(value, str) else value


def refuse_switch(value: object, field: FieldInfo) -> None:
    """Refuse `true` where a number belongs: pydantic would read it as 1.

    Raises:
        ValueError: it is a switch, and the field is none.
    """
    if isinstance(value, bool) and field.annotation is not bool:
        raise ValueError("a switch, not a value")


def _home(path: Path | None) -> Path | None:
    """Resolve `~`: neither systemd nor a TOML file does."""
    return path and path.expanduser()


Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, allow_inf_nan=False),
    Allowed("seconds, 0 or more, such as 30, 0.5, 500ms, 30min or 1h30m"),
]
PositiveSeconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, allow_inf_nan=False),
    Allowed("seconds, more than 0, such as 30, 0.5, 500ms, 30min or 1h30m"),
]
_JOIN_WINDOW = "0 to 1 second, such as 0.005 or 5ms; 0: one turn of the event loop"
JoinWindow = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=1, allow_inf_nan=False),
    Allowed(_JOIN_WINDOW),
]
OwnJoinWindow = Annotated[
    float | None,
    BeforeValidator(_seconds),
    Field(ge=0, le=1, allow_inf_nan=False),
    Allowed(_JOIN_WINDOW),
]
Text = Annotated[str, Field(min_length=1, max_length=1000), Allowed("text of 1 to 1000 characters")]
TextOrNone = Annotated[
    str, Field(max_length=1000), Allowed("text of up to 1000 characters, or empty")
]
Secret = Annotated[SecretStr | None, Field(min_length=1), Allowed("text of at least 1 character")]
File = Annotated[Path | None, AfterValidator(_home), Allowed("the path of a file")]
Url = Annotated[
    str,
    Field(pattern=r"^(https?://[^\s/@]+(/\S*)?)?$"),
    Allowed("an address such as https://login.example.com/keys, without a password, or empty"),
]
ChannelOrNone = Annotated[
    str,
    Field(max_length=255, pattern=r"^([!-#%-~][ -~]*)?$"),
    Allowed("the name of a channel that is not private, or empty"),
]
Directory = Annotated[Path | None, AfterValidator(_home), Allowed("the path of a directory")]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...],
    NoDecode,
    BeforeValidator(_by_commas),
    Allowed("*, or origins such as https://chat.example.com:8443, without a path, by commas"),
]


HeaderNames = Annotated[
    tuple[Annotated[str, AfterValidator(_header)], ...],
    NoDecode,
    BeforeValidator(_by_commas),
    Allowed("names of headers such as Cookie, X-Request-Id, by commas; not those of one hop"),
]


def allowed(field: FieldInfo) -> str:
    """What the setting may be, in words that complete "it must be"."""
    for metadata in field.metadata:
        if isinstance(metadata, Allowed):
            return metadata.words
    if get_origin(field.annotation) is Literal:
        return " or ".join(get_args(field.annotation))
    if field.annotation is bool:
        return "true or false"
    kinds = get_args(field.annotation) or (field.annotation,)
    return ("a whole number" if int in kinds else "a number") + _bound(field)


def is_secret(field: FieldInfo) -> bool:
    """Whether the value must never be shown."""
    return SecretStr in (get_args(field.annotation) or (field.annotation,))


def _bound(field: FieldInfo) -> str:
    return "".join(
        f", {bound.ge} or more" if isinstance(bound, Ge) else f", more than {bound.gt}"
        for bound in field.metadata
        if isinstance(bound, Ge | Gt)
    )
