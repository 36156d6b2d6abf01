"""The servers that are compared: Lastcall, the floor, and whatever of the others is installed."""

import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import Envelope
from benchmarks.processes import ROOT
from lastcall import __version__

PEERS = ROOT / "benchmarks" / "peers"

FLOOR = "C floor"
JOINING_FLOOR = "C floor that joins"
LASTCALL = "Lastcall"
LASTCALL_ASYNCIO = "Lastcall on asyncio"
FASTAPI = "FastAPI's ConnectionManager"
PLAIN = "plain text"
CENTRIFUGE = "Centrifuge JSON"
OVER_BUS = "Lastcall over the host bus"
OVER_ENGINE = "Lastcall over the engine"
ONE_WORKER = "one worker"
BARE = "the engine's own client, pipelined"
API_KEY = "of a server that lives for a moment"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server as it is started. In *command* and *config*, PORT and DIRECTORY are filled in."""

    name: str
    version: str
    command: tuple[str, ...]
    envelope: Envelope = field(default_factory=Envelope)
    environment: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    """What stands in the file `DIRECTORY/config`."""


def candidates(floor: Path) -> list[Candidate]:
    """Everything that can be started on this machine, the floor first."""
    return [
        Candidate(FLOOR, "benchmarks/floor.c", (str(floor), "PORT")),
        lastcall(LASTCALL, "uvloop"),
        Candidate(JOINING_FLOOR, "benchmarks/floor.c", (str(floor), "PORT", "join")),
        lastcall(LASTCALL_ASYNCIO, "asyncio"),
        *_python_peers(),
        *_nats(),
        *_nchan(),
        *_node(),
    ]


def lastcall(
    name: str, loop: str, *, workers: int = 1, app: str = "main:app", **settings: object
) -> Candidate:
    """Lastcall as users start it, with announcements, heartbeat and the rate limit off."""
    settings = {"announcements": "false", "heartbeat_interval": 0, "message_rate": 0} | settings
    return Candidate(
        name,
        f"lastcall {__version__}, uvicorn {_version('uvicorn')}, {_loop(loop)}",
        (*uvicorn(app), "--loop", loop, "--workers", str(workers)),
        environment={
            "LASTCALL_RUN_DIR": "DIRECTORY/run",
            "LASTCALL_STATE_DIR": "DIRECTORY/state",
            **{f"LASTCALL_{key.upper()}": str(value) for key, value in settings.items()},
        },
    )


def centrifuge(name: str, *, recovers: bool = False, broker_url: str = "") -> Candidate:
    """The same, spoken to like an SDK does: in a channel with history, which others publish in."""
    kept = {"history_size": 100, "force_recovery": True}
    subscribe = '"channel":"bench:@"' + (',"recover":true' if recovers else "")
    return dataclasses.replace(
        lastcall(
            name,
            "uvloop",
            insecure="true",
            api_key=API_KEY,
            broker_url=broker_url,
            namespaces=json.dumps({"bench": kept}),
        ),
        envelope=Envelope(
            path="/connection/websocket",
            hello='{"id":1,"connect":{}}\\n{"id":2,"subscribe":{' + subscribe + "}}",
            before='{"id":3,"publish":{"channel":"bench:0","data":"',
            after='"}}',
        ),
    )


def uvicorn(app: str, python: str = sys.executable) -> tuple[str, ...]:
    """The command that runs *app* on one worker; options may follow."""
    # Without the access log: a line for each connection would be most of what a connection costs.
    quiet = ("--no-access-log", "--log-level", "warning")
    return (python, "-m", "uvicorn", app, "--port", "PORT", *quiet)


def _python_peers() -> Iterator[Candidate]:
    yield Candidate(
        FASTAPI,
        f"fastapi {_version('fastapi')}, uvicorn {_version('uvicorn')}, {_loop('uvloop')}",
        (*uvicorn("benchmarks.peers.fastapi_manager:app"), "--loop", "uvloop"),
    )
    yield Candidate(
        "websockets broadcast()",
        f"websockets {_version('websockets')}, {_loop('uvloop')}",
        (sys.executable, "-m", "benchmarks.peers.websockets_broadcast", "PORT"),
    )
    if _version("python-socketio"):
        yield Candidate(
            "python-socketio",
            f"python-socketio {_version('python-socketio')}, uvicorn {_version('uvicorn')}",
            (*uvicorn("benchmarks.peers.socketio_server:app"), "--loop", "uvloop"),
            Envelope(
                path="/socket.io/?EIO=4&transport=websocket",
                hello="40",
                before='42["message","',
                after='"]',
            ),
        )


def _nats() -> Iterator[Candidate]:
    if program := shutil.which("nats-server"):
        yield Candidate(
            "nats-server",
            _first_line(program, "--version"),
            (program, "-c", "DIRECTORY/config"),
            Envelope(
                path="/",
                hello='!CONNECT {"verbose":false,"pedantic":false}\\nSUB ws 1\\n',
                before="PUB ws 128\\n",
                after="\\n",
            ),
            config=(PEERS / "nats.conf").read_text(),
        )


def _nchan() -> Iterator[Candidate]:
    program = shutil.which("nginx")
    module = program and Path(program).parents[1] / "lib/nginx/modules/ngx_nchan_module.so"
    if program and module and module.exists():
        config = (PEERS / "nchan.conf").read_text().replace("MODULE", str(module))
        yield Candidate(
            "nchan",
            _first_line(program, "-v"),
            (program, "-p", "DIRECTORY", "-c", "DIRECTORY/config"),
            Envelope(publish_path="/publish"),
            config=config,
        )


def _node() -> Iterator[Candidate]:
    program = shutil.which("node")
    asked = program and _first_line(program, "-p", "require('ws/package.json').version")
    if program and asked and asked[0].isdigit():
        yield Candidate(
            "ws on Node.js",
            f"ws {asked}, node {_first_line(program, '--version')}",
            (program, str(PEERS / "ws_broadcast.js"), "PORT"),
        )


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def _loop(name: str) -> str:
    python = f"Python {sys.version.split()[0]}"
    return f"uvloop {_version('uvloop')}, {python}" if name == "uvloop" else python


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
