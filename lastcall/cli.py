"""The command line: `lastcall serve | check-settings | token | version`, and a running server's."""

import logging
import os
import platform
import signal
import socket
import sys
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Annotated

import typer
import uvicorn

from lastcall import __version__, api_commands, control_commands, size_command, token_command
from lastcall.errors import SettingsError
from lastcall.host import FAMILY_VARIABLE, MASTER_VARIABLE
from lastcall.listening_sockets import Address, bound, inherited, shown
from lastcall.logs import set_up_logging
from lastcall.restart_policy import WorkerLimits
from lastcall.settings import ServerSettings, Settings
from lastcall.settings_reference import as_json, as_table, rows
from lastcall.settings_source import (
    cannot_start,
    load_settings,
    settings_or_exit,
    warn_of_unknown_variables,
)
from lastcall.systemd_notify import notify, passed_descriptors
from lastcall.upgrade import UpgradeToken, take_token
from lastcall.uvicorn_options import OUR_SERVER, Options, serve_command, take_worker_limits
from lastcall.uvicorn_server import StoppableServer, log_running

logger = logging.getLogger("lastcall")

app = typer.Typer(
    name="lastcall",
    help="Real-time notifications for FastAPI that survive your deploys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def serve(context: typer.Context) -> None:
    """Serve an application, or Lastcall's own server, with uvicorn's options."""
    # typer brings a click of its own, uvicorn's options are of the other: so they pass through.
    serve_command(_serve).main(context.args, prog_name="lastcall serve")


def _serve(options: Options) -> int:
    limits, token = take_worker_limits(options), take_token()
    for name in (MASTER_VARIABLE, FAMILY_VARIABLE):
        os.environ.pop(name, None)  # of a server that started us, perhaps; ours sets them anew
    if options["reload"]:
        uvicorn.run(**options)
        return 0
    try:
        config = uvicorn.Config(**options)
    except Exception as error:  # noqa: BLE001  (whatever it is, it comes from the options)
        cannot_start(f"uvicorn does not accept the options: {type(error).__name__}: {error}")
    if config.workers == 1 and limits.lifetime is not None:
        cannot_start("--max-lifetime needs somebody to take over: --workers 2 or more")
    if config.workers > 1 and os.name != "posix":
        cannot_start(f"several workers need a POSIX system, and this is {sys.platform}")
    address = Address(config.host, config.port, config.uds, config.fd)
    with ExitStack() as stack:
        try:
            sockets = stack.enter_context(_listeners(address, token))
        except OSError as error:
            cannot_start(f"cannot listen on {address}: {error.strerror or error}")
        place = shown(address, sockets, tls=config.is_ssl)
        if config.workers == 1 and token is None:
            return _serve_here(config, sockets, place)
        return _serve_with_workers(config, sockets, place, limits, token)


def _listeners(
    address: Address, token: UpgradeToken | None
) -> AbstractContextManager[list[socket.socket]]:
    """The sockets of the master before us, those that systemd opened for us, or our own."""
    if token is not None:
        return inherited(token.sockets, address.uds)
    passed = passed_descriptors()
    return inherited(passed) if passed else bound(address)


def _serve_with_workers(
    config: uvicorn.Config,
    sockets: list[socket.socket],
    place: str,
    limits: WorkerLimits,
    token: UpgradeToken | None,
) -> int:
    # Once for all workers, and before the first is started.
    if config.app == OUR_SERVER:
        set_up_logging(settings_or_exit(ServerSettings).log_format)
    else:
        warn_of_unknown_variables(Settings)
        with suppress(SettingsError):  # the application may have settings of its own
            set_up_logging(load_settings(Settings).log_format)
    from lastcall.supervisor import Supervisor  # noqa: PLC0415  (POSIX only)

    return Supervisor(config, sockets, place, limits, token).run()


def _serve_here(config: uvicorn.Config, sockets: list[socket.socket], place: str) -> int:
    def ready() -> None:
        log_running(place)
        notify("READY=1")

    if os.name == "posix":
        # Meant well, and deadly by default.
        signal.signal(signal.SIGUSR2, lambda *_: logger.error(_NO_UPGRADE))
    return StoppableServer(config, ready).run_to_status(sockets)


_NO_UPGRADE = (
    "SIGUSR2 received: only a master can be upgraded, `lastcall serve --workers 2` or more"
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


api_commands.register(app)
control_commands.register(app)
token_command.register(app)
size_command.register(app)


def main() -> None:
    """Run the command line."""
    app()
