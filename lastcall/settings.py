"""Every setting: name, default, unit and what is allowed. Read once, then frozen."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    SettingsConfigDict,
)

SHUTDOWN_NOTICE = "Server is shutting down, please disconnect."
HEARTBEAT = "Server is running..."

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Settings(BaseSettings):
    """What `Lastcall()` goes by: environment variables `LASTCALL_…`, `lastcall.toml`, defaults."""

    model_config = SettingsConfigDict(
        env_prefix="LASTCALL_", toml_file="lastcall.toml", frozen=True, extra="ignore"
    )

    shutdown_timeout: Seconds = Field(
        1800, description="Seconds until a stopping worker closes the clients that stayed."
    )
    shutdown_notice_interval: PositiveSeconds = Field(
        5, description="Seconds between two shutdown notices."
    )
    shutdown_notice: Text = Field(
        SHUTDOWN_NOTICE, description="What the clients of a stopping worker are told."
    )
    shutdown_delay: Seconds = Field(
        0, description="Seconds of ordinary service, not ready, before a drain starts."
    )
    close_rate: float = Field(
        500, gt=0, description="Connections closed a second at the end of a drain, at most."
    )
    heartbeat_interval: Seconds = Field(0, description="Seconds between two heartbeats; 0 is off.")
    heartbeat: Text = Field(HEARTBEAT, description="What clients hear as a heartbeat.")
    announcements: bool = Field(
        default=False, description="Tell a channel's clients who connects and disconnects."
    )
    announcement_rate: int = Field(
        100,
        ge=0,
        description="Announcements a second and worker; what is beyond is summarised in a line.",
    )
    handover: Literal["auto", "off"] = Field(
        "auto", description="Hand connections to another worker where that is possible."
    )
    broker_url: str = Field(
        "",
        pattern=r"^(|memory:|unix:)$",
        description="`memory:` or `unix:`; empty: by the number of workers.",
    )
    history_size: int = Field(
        1000, ge=1, description="Publications that each channel remembers, at most."
    )
    history_ttl: PositiveSeconds = Field(
        300, description="Seconds that a publication is remembered, at most."
    )
    run_dir: Path | None = Field(
        None, description="Where workers of one server find each other; found by itself if unset."
    )
    state_dir: Path | None = Field(
        None, description="Where history outlives a restart; found by itself if unset."
    )
    max_message_size: int = Field(
        65_536, ge=1, description="Bytes in one message from a client, at most."
    )
    max_backlog: int = Field(
        1_048_576, ge=1024, description="Bytes that may wait for one slow client."
    )
    max_connections: int | None = Field(
        None, ge=1, description="Connections a worker; unset: what the descriptor limit allows."
    )
    message_rate: float = Field(
        1000,
        ge=0,
        description="Messages a second and connection before reading slows; 0: unlimited.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that may connect beside the same origin, by commas; `*`: all."
    )
    api_key: SecretStr | None = Field(None, description="Opens the server API; unset: closed.")
    token_secret: SecretStr | None = Field(None, description="Checks tokens; unset: refused.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="Form of Lastcall's log lines; auto: as the server logs."
    )


class ServerSettings(Settings):
    """What `create_app` goes by: the same, with heartbeat and announcements on."""

    heartbeat_interval: Seconds = Field(10, description="Seconds between two heartbeats; 0 is off.")
    announcements: bool = Field(
        default=True, description="Tell a channel's clients who connects and disconnects."
    )
