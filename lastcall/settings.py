"""Every setting: name, default, unit and what is allowed. Read once, then frozen."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from lastcall.channel_options import (
    ChannelOptions,
    NamespaceOrNone,
    Namespaces,
    WithoutNamespace,
)
from lastcall.limit_settings import LimitSettings
from lastcall.proxy_settings import ProxySettings
from lastcall.setting_values import (
    Allowed,
    BrokenRule,
    ChannelOrNone,
    Directory,
    File,
    JoinWindow,
    Origins,
    PositiveSeconds,
    Seconds,
    Secret,
    Text,
    TextOrNone,
    Url,
    refuse_switch,
)

PREFIX = "LASTCALL_"

SHUTDOWN_NOTICE = "Server is shutting down, please disconnect."
HEARTBEAT = "Server is running..."


class Settings(LimitSettings, ProxySettings):
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
    shutdown_notice_channel: ChannelOrNone = Field(
        default="",
        description="SDK clients are subscribed to it, and hear notices there, too; empty: none.",
    )
    shutdown_delay: Seconds = Field(
        default=0,
        description="Seconds of ordinary service, not ready, before a drain starts.",
    )
    release_rate: float = Field(
        default=100,
        gt=0,
        allow_inf_nan=False,
        description="Clients closed a second while workers leave, unless time is too short.",
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
        Allowed(
            "memory:, unix:, redis://…, redis+sentinel://… or redis+cluster://…, each also with "
            "rediss, nats://… or tls://…, or empty"
        ),
    ] = Field(
        default="",
        pattern=r"^(|memory:|unix:|(rediss?(\+(sentinel|cluster))?|nats|tls)://\S+)$",
        description="What carries publications: `memory:`, `unix:`, or the address of a Redis or a "
        "NATS (`tls://`: encrypted) that several hosts share; empty: by the number of workers.",
    )
    broker_prefix: Annotated[str, Allowed("1 to 100 letters, digits, _, -, . and :")] = Field(
        default="lastcall",
        pattern=r"^[A-Za-z0-9_.:-]{1,100}$",
        description="What all names in Redis or NATS begin with; servers with the same one are one "
        "server.",
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
    ping_interval: PositiveSeconds = Field(
        default=25,
        description="Seconds between two pings to a client of the Centrifuge protocol.",
    )
    pong_timeout: PositiveSeconds = Field(
        default=8,
        description="Seconds until a client that does not answer a ping is let go.",
    )
    stale_delay: PositiveSeconds = Field(
        default=10,
        description="Seconds that a client has to say who it is.",
    )
    expired_delay: Seconds = Field(
        default=25,
        description="Seconds that a client has to bring a fresh token once its own has expired.",
    )
    allowed_origins: Origins = Field(
        default=(),
        description="Origins that may connect beside the same origin, by commas; `*`: all.",
    )
    api_key: Secret = Field(default=None, description="Opens the server API; unset: closed.")
    token_secret: Secret = Field(default=None, description="Checks tokens; unset: refused.")
    token_previous_secret: Secret = Field(
        default=None,
        description="Checks tokens as well, while one secret takes the place of another.",
    )
    token_public_keys: File = Field(
        default=None,
        description="PEM public keys that check tokens, one after the other.",
    )
    token_jwks_url: Url = Field(
        default="",
        description="Where an identity provider publishes its keys (JWKS); empty: none.",
    )
    token_audience: TextOrNone = Field(
        default="",
        description="Only tokens for it (`aud`) are accepted; empty: all.",
    )
    token_issuer: TextOrNone = Field(
        default="",
        description="Only tokens from it (`iss`) are accepted; empty: all.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Let clients connect without a token, as nobody in particular.",
    )
    insecure: bool = Field(
        default=False,
        description="For development: connect without a token, and everybody may do everything.",
    )
    user_personal_channel: bool = Field(
        default=False,
        description="Subscribe each user to a channel of their own.",
    )
    user_personal_channel_namespace: NamespaceOrNone = Field(
        default="",
        description="The namespace of these channels; empty: none.",
    )
    channels: WithoutNamespace = Field(
        default=ChannelOptions(),
        description="Options of the channels without a namespace.",
    )
    namespaces: Namespaces = Field(
        default_factory=dict,
        description="Namespaces, each with the options of its channels.",
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="Form of Lastcall's log lines; auto: as the server logs.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        refuse_switch(value, cls.model_fields[info.field_name or ""])
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.pong_timeout >= self.ping_interval:
            raise BrokenRule("pong_timeout must be less than ping_interval")
        if self.max_commands <= self.max_channels:
            # Coming back, an SDK subscribes to all of them in the message that it connects with.
            raise BrokenRule("max_commands must be more than max_channels")
        self._check_proxies()
        own, mark, _ = self.shutdown_notice_channel.partition(":")
        used = {
            "user_personal_channel_namespace": self.user_personal_channel_namespace,
            "the namespace of shutdown_notice_channel": own if mark else "",
        }
        for what, namespace in used.items():
            if namespace and namespace not in self.namespaces:
                raise BrokenRule(f"{what} is {namespace!r}, but there is no such namespace")
        return self

    def _check_proxies(self) -> None:
        everywhere = [self.channels, *self.namespaces.values()]
        for event in ("subscribe", "publish"):
            url = f"proxy_{event}_url"
            if not getattr(self, url) and any(
                getattr(each, f"{event}_proxy_enabled") for each in everywhere
            ):
                raise BrokenRule(f"{event}_proxy_enabled needs {url}")
        passed_on = {*self.proxy_headers, *self.proxy_emulated_headers}
        if self.proxy_authorization is not None and "authorization" in passed_on:
            raise BrokenRule(
                "proxy_authorization and the client's Authorization exclude each other"
            )


def _demo() -> dict[str, ChannelOptions]:
    """For the page's second tab. Like every namespace it lets nobody in by itself."""
    everything_kept = ChannelOptions(
        history_size=1000, force_recovery=True, presence=True, join_leave=True
    )
    return {"demo": everything_kept}


class ServerSettings(Settings):
    """What `create_app` goes by: the same, with heartbeat, announcements and a namespace to try."""

    heartbeat_interval: Seconds = Field(
        default=10,
        description="Seconds between two heartbeats; 0 is off.",
    )
    announcements: bool = Field(
        default=True,
        description="Tell a channel's clients who connects and disconnects.",
    )
    namespaces: Namespaces = Field(
        default_factory=_demo,
        description="Namespaces, each with the options of its channels.",
    )
