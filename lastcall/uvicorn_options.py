"""The options of `lastcall serve`: uvicorn's own, by their names and with their meaning."""

import copy
import os
import sys
from collections.abc import Callable
from typing import Any

import click
from uvicorn.config import LOGGING_CONFIG
from uvicorn.main import main as uvicorn_command

from lastcall.restart_policy import WorkerLimits

OUR_SERVER = "lastcall.app:create_app"

_LEFT_OUT = {
    "version",  # a command of ours
    "timeout_worker_healthcheck",  # of uvicorn's supervisor
}
_OURS = (
    click.Option(
        ["--ready-timeout"],
        type=click.FloatRange(min=0, min_open=True),
        default=30,
        show_default=True,
        allow_from_autoenv=False,
        help="Seconds for the new workers of a reload to be ready; else the old ones stay.",
    ),
    click.Option(
        ["--hang-timeout"],
        type=click.FloatRange(min=0),
        default=30,
        show_default=True,
        allow_from_autoenv=False,
        help="Seconds without a turn of its event loop after which a worker is killed; 0: never.",
    ),
    click.Option(
        ["--max-lifetime"],
        type=click.FloatRange(min=0, min_open=True),
        allow_from_autoenv=False,
        help="Seconds, less a random tenth, after which a worker is replaced.",
    ),
)
"""For our master. Without environment variables: `UVICORN_…` would be another program's."""
_FILES = {"ssl_keyfile", "ssl_certfile", "ssl_ca_certs"}

Options = dict[str, Any]


def serve_command(serve: Callable[[Options], int]) -> click.Command:
    """Make the command that understands the options and exits with what *serve* returns.

    The options are copied from the installed uvicorn, so that none is missing or means something
    else; *serve* gets them as `uvicorn.Config` takes them.
    """

    def callback(**options: Any) -> None:
        raise SystemExit(serve(_as_config_takes_them(options)))

    return click.Command(
        "serve",
        callback=callback,
        params=[
            *(_option(each) for each in uvicorn_command.params if each.name not in _LEFT_OUT),
            *_OURS,
        ],
        help="Serve APP (module:attribute); without APP, the notification server of Lastcall.",
        context_settings={"auto_envvar_prefix": "UVICORN"},
    )


def take_worker_limits(options: Options) -> WorkerLimits:
    """Take what is not uvicorn's out of *options*."""
    return WorkerLimits(
        ready=options.pop("ready_timeout"),
        silence=options.pop("hang_timeout") or None,
        lifetime=options.pop("max_lifetime"),
        starting=max(1, len(os.sched_getaffinity(0)) // 2) if sys.platform == "linux" else 1,
    )


def _option(theirs: click.Parameter) -> click.Parameter:
    if theirs.name == "app":
        return click.Argument(["app"], required=False, envvar=theirs.envvar)
    option = copy.copy(theirs)
    if option.name in _FILES:
        option.type = click.Path(exists=True, dir_okay=False)
    if option.name == "workers":
        option.type = click.IntRange(min=1)
    return option


def _as_config_takes_them(options: Options) -> Options:
    """Do what uvicorn's command does between its options and `uvicorn.Config`."""
    if options["app"] is None:
        options |= {"app": OUR_SERVER, "factory": True}
    sys.path.insert(0, options.pop("app_dir"))
    for name in ("reload_dirs", "reload_includes", "reload_excludes"):
        options[name] = list(options[name]) or None
    options["headers"] = [_header(header) for header in options["headers"]]
    options["log_config"] = options["log_config"] or _logging(options["log_level"])
    _check_web_concurrency()
    return options


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise click.BadParameter(f"{text!r} is not a Name:Value pair", param_hint="--header")
    return name, value


def _check_web_concurrency() -> None:
    """Say what is wrong with it: uvicorn would take it without `--workers`, and fail untidily."""
    text = os.environ.get("WEB_CONCURRENCY", "1")
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(
            f"{text!r} is not a number of workers, 1 or more", param_hint="WEB_CONCURRENCY"
        )


def _logging(level: str | None) -> Options:
    """Make our log lines look like uvicorn's."""
    configuration: Options = copy.deepcopy(LOGGING_CONFIG)
    configuration["loggers"]["lastcall"] = {
        "handlers": ["default"],
        "level": (level or "info").upper(),
        "propagate": False,
    }
    return configuration
