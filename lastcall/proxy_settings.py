"""The settings that say which backend is asked about clients, and how."""

from pydantic import Field
from pydantic_settings import BaseSettings

from lastcall.setting_values import HeaderNames, PositiveSeconds, Secret, Url


def _url(event: str) -> str:
    url: str = Field(default="", description=f"Where the backend is asked {event}; empty: nowhere.")
    return url


class ProxySettings(BaseSettings):
    """Whom to ask over HTTP. A part of `Settings`."""

    proxy_connect_url: Url = _url("who a client without a token is")
    proxy_refresh_url: Url = _url("whether a client stays whose time is over")
    proxy_subscribe_url: Url = _url(
        "who may subscribe, in namespaces with `subscribe_proxy_enabled`"
    )
    proxy_publish_url: Url = _url("who may publish, in namespaces with `publish_proxy_enabled`")
    proxy_rpc_url: Url = _url("to answer calls")
    proxy_timeout: PositiveSeconds = Field(
        default=1,
        description="Seconds that the backend has to answer, all in all.",
    )
    proxy_concurrency: int = Field(
        default=100,
        ge=1,
        description="Questions of one worker to the backend at once; more wait.",
    )
    proxy_headers: HeaderNames = Field(
        default=(),
        description="Headers of a client's handshake that the backend gets, by commas.",
    )
    proxy_emulated_headers: HeaderNames = Field(
        default=(),
        description="Headers that clients may make up in their connect, and the backend gets.",
    )
    proxy_authorization: Secret = Field(
        default=None,
        description="The `Authorization` header of each question; unset: none.",
    )
    proxy_meta: bool = Field(
        default=False,
        description="Tell the backend the `meta` that it, or a token, gave the client.",
    )
