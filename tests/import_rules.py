"""Who may import whom: the table that `test_architecture.py` holds every module against.

A new module belongs into one line of `LAYERS`. Run as a program it prints the files of the pure
modules, for the coverage report.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import lastcall

PACKAGE = Path(lastcall.__file__).parent


@dataclass(frozen=True, slots=True)
class Layer:
    """Modules that may import each other, every layer above them, and what is named here."""

    what: str
    modules: tuple[str, ...]
    """Names below `lastcall.`; a star stands for anything. The first layer that matches counts."""
    packages: frozenset[str] = frozenset()
    """Beside the standard library."""
    pure: bool = False
    """Decides without I/O, without a clock and without a framework, and is covered entirely."""
    own_folder_only: bool = False
    """What implements one seam does not know what implements another."""
    extra: dict[str, frozenset[str]] = field(default_factory=dict)
    """The one package that a single module exists for."""


LAYERS = (
    Layer(
        "values and promises",
        (
            "channel_options",
            "close_words",
            "errors",
            "exit_status",
            "limit_settings",
            "protocol.centrifuge",
            "proxy_settings",
            "server_api",
            "setting_values",
            "settings",
            "*.base",
        ),
        packages=frozenset({"annotated_types", "msgspec", "pydantic", "pydantic_settings"}),
        pure=True,
    ),
    Layer(
        "decisions",
        (
            "announcements",
            "batch_size",
            "broker.following",
            "broker.nats_api",
            "broker.nats_appends",
            "broker.nats_messages",
            "broker.nats_names",
            "broker.nats_pages",
            "broker.nats_wire",
            "broker.redis_address",
            "broker.redis_detour",
            "broker.redis_names",
            "broker.redis_scripts",
            "broker.redis_slots",
            "catch_up",
            "channel_hooks",
            "channels",
            "command_limits",
            "commands",
            "connection",
            "deltas",
            "doubles",
            "event_ids",
            "drain",
            "drain_report",
            "fossil_delta",
            "handover_messages",
            "history_page",
            "hooks",
            "hub",
            "json_values",
            "order_memory",
            "origin",
            "protocol.*",
            "proxy_messages",
            "public_keys",
            "rates",
            "restart_policy",
            "revocations",
            "roster",
            "session",
            "sizing",
            "stop_limit",
            "stream_log",
            "tally",
            "token_keys",
            "tokens",
            "verdicts",
            "websocket_codec",
            "websocket_deflate",
            "websocket_frames",
            "wire_format",
        ),
        packages=frozenset({"msgspec"}),
        pure=True,
        extra={"public_keys": frozenset({"cryptography"})},
    ),
    Layer(
        # Below those that wait, because it only reads and writes what the system has.
        "this machine: processes, files, logs",
        (
            "collector",
            "deploy",
            "forked_child",
            "host",
            "listening_sockets",
            "log_file",
            "log_schema",
            "logs",
            "peer_credentials",
            "process_identity",
            "record_lock",
            "revocation_file",
            "run_directory",
            "settings_file",
            "settings_source",
            "systemd_notify",
            "working_directory",
        ),
        packages=frozenset({"msgspec"}),
        extra={"settings_source": frozenset({"pydantic"})},
    ),
    Layer(
        "what lives in a worker",
        (
            "backend",
            "connection_manager",
            "crowd",
            "graceful_shutdown",
            "heartbeat",
            "interest",
            "metrics",
            "emulation",
            "everyone",
            "moving_out",
            "moving_turn",
            "node",
            "outsider",
            "peers",
            "revoking",
            "rulebook",
            "server_methods",
            "session_channels",
            "session_commands",
            "session_identity",
            "session_presence",
            "session_subscriptions",
            "sessions",
            "sole_worker",
            "subscribing",
            "systemd",
            "token_verifier",
            "user_orders",
            "worker_coordinator",
            "worker_record",
            "worker_status",
        ),
        packages=frozenset({"anyio", "msgspec"}),
        extra={"backend": frozenset({"httpx"})},
    ),
    Layer(
        "implementations of seams",
        ("broker.*", "presence.*", "socket_handover", "transport.*"),
        packages=frozenset({"anyio", "msgspec"}),
        own_folder_only=True,
        extra={
            "broker.redis_cluster": frozenset({"redis"}),
            "broker.redis_ear": frozenset({"redis"}),
            "broker.redis_line": frozenset({"redis"}),
            "broker.redis_node": frozenset({"redis"}),
            "broker.redis_question": frozenset({"hiredis"}),
            "broker.redis_routes": frozenset({"redis"}),
            "broker.redis_sentinel": frozenset({"redis"}),
            "broker.redis_server": frozenset({"redis"}),
            "broker.redis_topology": frozenset({"redis"}),
            # The web framework's objects are what this transport writes to.
            "transport.asgi_websocket": frozenset({"starlette"}),
        },
    ),
    Layer(
        "where we know the server that runs us",
        (
            "control_socket",
            "front",
            "host.*",
            "hypercorn_host",
            "master_answers",
            "replacement",
            "server_status",
            "succession",
            "supervisor",
            "upgrade",
            "uvicorn_*",
            "worker_process",
            "workforce",
        ),
        packages=frozenset({"anyio", "click", "httptools", "uvicorn", "websockets"}),
        extra={
            "control_socket": frozenset({"msgspec"}),
            "server_status": frozenset({"msgspec"}),
            "upgrade": frozenset({"msgspec"}),
            "uvicorn_frozen": frozenset({"msgspec"}),
        },
    ),
    Layer(
        "what puts the parts together and what people touch",
        (
            "__main__",
            "admission",
            "all_hosts",
            "api_commands",
            "app",
            "assembly",
            "attachment",
            "cli",
            "control_commands",
            "draining",
            "handover_receiver",
            "handover_sender",
            "health",
            "http_api",
            "http_api_schema",
            "lastcall",
            "lifespan",
            "metrics_reference",
            "metrics_router",
            "moving",
            "neighbourhood",
            "payload",
            "public_names",
            "publisher",
            "pytest_plugin",
            "settings_reference",
            "simulated_client",
            "simulated_server",
            "size_command",
            "streams",
            "streams_router",
            "testing",
            "token_command",
            "web.*",
            "worker",
        ),
        packages=frozenset(
            {"anyio", "fastapi", "msgspec", "pydantic", "starlette", "typer", "uvicorn"}
        ),
        extra={
            # Imported by nobody but the test runner that it is for.
            "pytest_plugin": frozenset({"pytest"}),
        },
    ),
)

IMPURE = frozenset(
    (
        "asyncio",
        "concurrent",
        "fcntl",
        "http",
        "multiprocessing",
        "os",
        "random",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
    )
)
"""What a pure module leaves alone of the standard library.

`logging` is not among it: a line about a user's broken function is part of what is decided, and no
test needs a fake to see it.
"""

BARE_ASYNCIO = (
    # A protocol class or a raw socket needs it there.
    "broker.*",
    "host.*",
    "hypercorn_host",
    "socket_handover",
    "supervisor",
    "uvicorn_*",
    # A generator may suspend in its time-out, which the scopes of anyio do not allow.
    "draining",
    # Other threads, plain functions and signal handlers need the loop itself.
    "lastcall",
    "lifespan",
    "publisher",
)
"""Everything else uses anyio."""

POSIX_ONLY = (
    "broker.bus_server",
    "broker.election_lock",
    "broker.unix_socket",
    "control_socket",
    "listening_sockets",
    "log_file",
    "moving_turn",
    "neighbourhood",
    "record_lock",
    "peer_credentials",
    "run_directory",
    "socket_handover",
    "supervisor",
    "systemd_notify",
)
"""Where `fcntl` and `AF_UNIX` may stand, and only inside functions: Windows has neither."""

IMPORT_APP = ("", "__main__", "cli")
"""`app` puts everything together, so only these know it; the first is `lastcall/__init__.py`."""


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package, named as it is below `lastcall.`, without `__init__` files."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py":
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def matches(module: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns is the module's."""
    return any(fnmatchcase(module, pattern) for pattern in patterns)


def layer_of(module: str) -> Layer | None:
    """The layer where the module stands; None where nobody has said so yet."""
    return next((layer for layer in LAYERS if matches(module, layer.modules)), None)


if __name__ == "__main__":
    pure = (path for name, path in modules() if (layer := layer_of(name)) and layer.pure)
    print(",".join(str(path.relative_to(Path.cwd())) for path in pure))  # noqa: T201  (its output)
