"""`lastcall publish | channels | presence | disconnect`: speak to a running server's API."""

import http.client
import sys
import urllib.error
import urllib.request
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from lastcall.exit_status import FAILED
from lastcall.settings import PREFIX, Settings
from lastcall.settings_source import cannot_start, settings_or_exit

URL = "http://localhost:8000/api"
PATIENCE = 10.0
"""Seconds until the server has to have answered."""
MAX_ANSWER = 64 * 2**20

Url = Annotated[str, typer.Option("--url", help="Where the server API is.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (publish, channels, presence, disconnect):
        app.command()(command)


def publish(
    channel: Annotated[str, typer.Argument(help="The channel.")],
    data: Annotated[str, typer.Argument(metavar="JSON", help="What to publish.")],
    url: Url = URL,
) -> None:
    """Publish JSON to a channel; the key is LASTCALL_API_KEY, as for all that ask a server."""
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        raise typer.BadParameter(
            """must be JSON, such as '{"text": "hello"}' or '"hello"'""", param_hint="JSON"
        ) from None
    _show(_ask(url, "publish", {"channel": channel, "data": msgspec.Raw(data.encode())}))


def channels(
    pattern: Annotated[str, typer.Argument(help="Such as 'chat:*'; all if left out.")] = "",
    url: Url = URL,
) -> None:
    """Show the channels that somebody hears, and how many connections do."""
    _show(_ask(url, "channels", {"pattern": pattern})["channels"])


def presence(channel: Annotated[str, typer.Argument(help="The channel.")], url: Url = URL) -> None:
    """Show who is in a channel, by connection."""
    _show(_ask(url, "presence", {"channel": channel})["presence"])


def disconnect(
    user: Annotated[str, typer.Argument(help="The user id; empty: the anonymous.")],
    client: Annotated[str, typer.Option(help="Only the connection with this id.")] = "",
    url: Url = URL,
) -> None:
    """Close the connections of a user, for good."""
    _ask(url, "disconnect", {"user": user, "client": client})


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for the server that was named, and for no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Go nowhere else."""


def _ask(url: str, method: str, fields: dict[str, object]) -> Any:
    """The result of a method, or the end with one sentence."""
    answer = _post(f"{url.rstrip('/')}/{method}", msgspec.json.encode(fields))
    try:
        reply = msgspec.json.decode(answer, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        _fail(f"what answers at {url} is no server API of ours")
    if "error" in reply:
        error = reply["error"]
        _fail(f"error {error['code']}: {error['message']}")
    return reply["result"]


def _post(url: str, body: bytes) -> bytes:
    key = settings_or_exit(Settings).api_key
    if key is None:
        cannot_start(f"{PREFIX}API_KEY is unset, and the server API wants a key")
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter("must begin with http:// or https://", param_hint="--url")
    request = urllib.request.Request(  # noqa: S310  (http and https only)
        url,
        body,
        {"Content-Type": "application/json", "X-API-Key": key.get_secret_value()},
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE) as answer:
            found: bytes = answer.read(MAX_ANSWER)
            return found
    except urllib.error.HTTPError as error:
        with error:
            _fail(_refusal(url, error))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        _fail(f"nothing answers at {url}: {reason}")


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if error.code == http.client.UNAUTHORIZED:
        return f"{url} does not accept {PREFIX}API_KEY"
    return f"{url} answers {error.code} {error.reason}"


def _show(result: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(result)).decode())


def _fail(why: str) -> NoReturn:
    sys.stderr.write(f"lastcall: {why}\n")
    raise SystemExit(FAILED)
