"""Every setting: name, default, unit and what is allowed. Read once, then frozen."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "LASTCALL_"

SHUTDOWN_NOTICE = "Server is shutting down, please disconnect."
HEARTBEAT = "Server is running..."

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|s|min|m|h|d) *")
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#@,]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a setting may be, in words that complete "it must be"."""

    words: str


def _seconds(value: object) -> object:
    """Turn `500ms`, `30 min` or `1h30m` into seconds; leave the rest to pydantic."""
    if not isinstance(value, str) or not re.fullmatch(f"({_DURATION.pattern})+", value.strip()):
        return value
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(value))


def _origins(value: object) -> object:
    """Split what stands between commas; a list from a file is one already."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        # A path or a closing slash would never match what browsers send, and never say so.
        raise ValueError("not an origin")
    return value.lower()


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
JoinWindow = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=1, allow_inf_nan=False),
    Allowed("0 to 1 second, such as 0.005 or 5ms; 0: one turn of the event loop"),
]
Text = Annotated[str, Field(min_length=1, max_length=1000), Allowed("text of 1 to 1000 characters")]
Secret = Annotated[SecretStr | None, Field(min_length=1), Allowed("text of at least 1 character")]
Directory = Annotated[Path | None, AfterValidator(_home), Allowed("the path of a directory")]
Origin = Annotated[str, AfterValidator(_origin)]


class Settings(BaseSettings):
    """What `Lastcall()` goes by.

    Called by itself it takes its arguments, the environment and the defaults; `load_settings`
    reads `lastcall.toml` too and says in one sentence what is wrong.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    shutdown_timeout: Seconds = Field(
        default=1800,
        description="Seconds until a stopping worker closes the clients that stayed.",
    )
    shutdown_notice_interval: PositiveSeconds = Field(
        default=5,
        description="Seconds between two shutdown notices.",
    )
    shutdown_notice: Text = Field(
        default=SHUTDOWN_NOTICE,
        description="What the clients of a stopping worker are told.",
    )
    shutdown_delay: Seconds = Field(
        default=0,
        description="Seconds of ordinary service, not ready, before a drain starts.",
    )
    close_rate: float = Field(
        default=500,
        gt=0,
        allow_inf_nan=False,
        description="Connections closed a second at the end of a drain, at most.",
    )
    heartbeat_interval: Seconds = Field(
        default=0,
        description="Seconds between two heartbeats; 0 is off.",
    )
    heartbeat: Text = Field(default=HEARTBEAT, description="What clients hear as a heartbeat.")
    announcements: bool = Field(
        default=False,
        description="Tell a channel's clients who connects and disconnects.",
    )
    announcement_rate: int = Field(
        default=100,
        ge=0,
        description="Announcements a second and worker; what is beyond is summarised in a line.",
    )
    handover: Literal["auto", "off"] = Field(
        default="auto",
        description="Hand connections to another worker where that is possible.",
    )
    broker_url: Annotated[
        str,
        Allowed("memory: or unix: (redis:// and nats:// are not supported yet), or empty"),
    ] = Field(
        default="",
        pattern=r"^(|memory:|unix:)$",
        description="`memory:` or `unix:`; empty: by the number of workers.",
    )
    join_window: JoinWindow = Field(
        default=0,
        description="Seconds for which publications wait to leave in one write to each client.",
    )
    history_size: int = Field(
        default=1000,
        ge=1,
        description="Publications that each channel remembers, at most.",
    )
    history_ttl: PositiveSeconds = Field(
        default=300,
        description="Seconds that a publication is remembered, at most.",
    )
    run_dir: Directory = Field(
        default=None,
        description="Where workers of one server find each other; found by itself if unset.",
    )
    state_dir: Directory = Field(
        default=None,
        description="Where history outlives a restart; found by itself if unset.",
    )
    max_message_size: int = Field(
        default=65_536,
        ge=1,
        description="Bytes in one message from a client, at most.",
    )
    max_backlog: int = Field(
        default=1_048_576,
        ge=1024,
        description="Bytes that may wait for one slow client.",
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Connections a worker; unset: what the descriptor limit allows.",
    )
    message_rate: float = Field(
        default=1000,
        ge=0,
        allow_inf_nan=False,
        description="Messages a second and connection before reading slows; 0: unlimited.",
    )
    allowed_origins: Annotated[
        tuple[Origin, ...],
        NoDecode,
        BeforeValidator(_origins),
        Allowed("*, or origins such as https://chat.example.com:8443, without a path, by commas"),
    ] = Field(
        default=(),
        description="Origins that may connect beside the same origin, by commas; `*`: all.",
    )
    api_key: Secret = Field(default=None, description="Opens the server API; unset: closed.")
    token_secret: Secret = Field(default=None, description="Checks tokens; unset: refused.")
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="Form of Lastcall's log lines; auto: as the server logs.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `true` where a number belongs: pydantic would read it as 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation is not bool:
            raise ValueError("a switch, not a value")
        return value


class ServerSettings(Settings):
    """What `create_app` goes by: the same, with heartbeat and announcements on."""

    heartbeat_interval: Seconds = Field(
        default=10,
        description="Seconds between two heartbeats; 0 is off.",
    )
    announcements: bool = Field(
        default=True,
        description="Tell a channel's clients who connects and disconnects.",
    )


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
