"""The settings that say how much one client, one user or one address may have."""

from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings

from lastcall.setting_values import PositiveSeconds


def _rate(what: str) -> Any:
    return Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        description=f"{what} a second, in the long run; 0: any number.",
    )


class LimitSettings(BaseSettings):
    """What is too much. A part of `Settings`."""

    max_message_size: int = Field(
        default=65_536,
        ge=1,
        description="Bytes in one message from a client, at most.",
    )
    max_commands: int = Field(
        default=1000,
        ge=1,
        description="Commands in one message from a client, at most.",
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
    max_user_connections: int = Field(
        default=0,
        ge=0,
        description="Connections a user, on all workers; 0: any number.",
    )
    max_address_connections: int = Field(
        default=0,
        ge=0,
        description="Connections from one address, on all workers; 0: any number.",
    )
    max_channels: int = Field(
        default=128,
        ge=1,
        description="Channels that one connection may subscribe to.",
    )
    max_channel_length: int = Field(
        default=255,
        ge=1,
        description="Characters in the name of a channel, at most.",
    )
    max_history_page: int = Field(
        default=300,
        ge=1,
        description="Publications that a client gets at once from a history, at most.",
    )
    max_recovered: int = Field(
        default=300,
        ge=1,
        description="Publications that a client may miss and still recover.",
    )
    max_api_body: int = Field(
        default=1_048_576,
        ge=1024,
        description="Bytes in one request to the server API, at most.",
    )
    message_rate: float = Field(
        default=1000,
        ge=0,
        allow_inf_nan=False,
        description="Messages a second and connection before reading slows; 0: unlimited.",
    )
    publish_rate: float = _rate("Publications of one connection")
    subscribe_rate: float = _rate("Subscriptions of one connection, and tokens for them,")
    rpc_rate: float = _rate("Calls of one connection")
    query_rate: float = _rate("Questions of one connection about history and presence")
    user_publish_rate: float = _rate("Publications of one user on a worker")
    user_subscribe_rate: float = _rate("Subscriptions of one user on a worker")
    user_rpc_rate: float = _rate("Calls of one user on a worker")
    user_query_rate: float = _rate("Questions of one user on a worker")
    rate_burst: PositiveSeconds = Field(
        default=10,
        description="Seconds whose commands may come at once, as far as rates are limited.",
    )
