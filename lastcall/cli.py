"""The command line: `lastcall serve | check-settings | version`."""

import platform
import sys
from typing import Annotated

import typer
import uvicorn

from lastcall import __version__
from lastcall.errors import SettingsError
from lastcall.settings import ServerSettings, Settings
from lastcall.settings_reference import as_json, as_table, rows
from lastcall.settings_source import cannot_start

app = typer.Typer(
    name="lastcall",
    help="Real-time notifications for FastAPI that survive your deploys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def check_settings(
    *,
    server: Annotated[
        bool,
        typer.Option("--server/--library", help="With the defaults of `lastcall serve` or not."),
    ] = True,
    as_objects: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every setting with its value and where it came from; secrets as set or unset."""
    try:
        lines = rows(ServerSettings if server else Settings)
    except SettingsError as error:
        cannot_start(error)
    typer.echo((as_json if as_objects else as_table)(lines), nl=False)


@app.command()
def version() -> None:
    """Show the versions of Lastcall, uvicorn and Python."""
    typer.echo(
        f"lastcall {__version__}, uvicorn {uvicorn.__version__}, "
        f"{platform.python_implementation()} {platform.python_version()} on {sys.platform}"
    )


def main() -> None:
    """Run the command line; the entry point of `lastcall` and `python -m lastcall`."""
    app()
