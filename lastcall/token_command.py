"""`lastcall token`: make a token, for a first try and for scripts."""

import secrets
import time
from typing import Annotated

import msgspec
import typer
from pydantic import TypeAdapter, ValidationError

from lastcall.setting_values import Seconds
from lastcall.settings import PREFIX, Settings
from lastcall.settings_source import cannot_start, settings_or_exit
from lastcall.tokens import make_token


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(token)


def token(
    user: Annotated[str, typer.Option(help="The user id; empty: anonymous.")],
    channel: Annotated[
        str, typer.Option(help="For a subscription to it, rather than for a connection.")
    ] = "",
    ttl: Annotated[str, typer.Option(help="How long it is good: 30s, 1h, 7d; 0: for ever.")] = "1h",
    info: Annotated[str, typer.Option(help="JSON that others see beside the user id.")] = "",
) -> None:
    """Print a token, signed with LASTCALL_TOKEN_SECRET."""
    settings = settings_or_exit(Settings)
    if settings.token_secret is None:
        cannot_start(f"{PREFIX}TOKEN_SECRET is unset, so there is nothing to sign a token with")
    now = int(time.time())
    claims: dict[str, object] = {"sub": user, "iat": now, "jti": secrets.token_urlsafe(12)}
    if channel:
        claims["channel"] = channel
    if lifetime := _seconds(ttl):
        claims["exp"] = now + lifetime
    if info:
        claims["info"] = _json(info)
    if settings.token_audience:
        claims["aud"] = settings.token_audience
    if settings.token_issuer:
        claims["iss"] = settings.token_issuer
    typer.echo(make_token(settings.token_secret.get_secret_value(), claims))


def _seconds(ttl: str) -> int:
    try:
        return round(TypeAdapter[float](Seconds).validate_python(ttl))
    except ValidationError:
        raise typer.BadParameter(
            "must be seconds, or text such as 30s, 1h or 7d", param_hint="--ttl"
        ) from None


def _json(info: str) -> msgspec.Raw:
    try:
        msgspec.json.decode(info)
    except msgspec.DecodeError:
        raise typer.BadParameter(
            """must be JSON, such as '{"name": "Al"}'""", param_hint="--info"
        ) from None
    return msgspec.Raw(info.encode())
