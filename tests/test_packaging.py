"""The image, its composition and the scripts, as far as they can be held without an engine."""

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastcall.settings import ServerSettings

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(ROOT.glob("scripts/*"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
KNOWN = {
    "FROM",
    "RUN",
    "COPY",
    "WORKDIR",
    "ENV",
    "USER",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}
SERVICE: dict[str, Any] = COMPOSE["services"]["lastcall"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (name, arguments), continued lines joined."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (it.partition(" ") for it in text.splitlines() if it)]


INSTRUCTIONS = instructions()
FINAL_STAGE = INSTRUCTIONS[
    max(place for place, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :
]


def last(name: str) -> str:
    """The arguments of the final stage's last such instruction: the one that counts."""
    return [rest for it, rest in FINAL_STAGE if it == name][-1]


def seconds(duration: str) -> int:
    """A duration as compose.yaml writes it."""
    units = {"h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+)([hms])", duration)
    assert "".join(number + unit for number, unit in parts) == duration
    return sum(int(number) * units[unit] for number, unit in parts)


def test_image_has_only_instructions_that_exist() -> None:

    assert {name for name, _ in INSTRUCTIONS} <= KNOWN
    for name, rest in INSTRUCTIONS:
        if name == "RUN":
            subprocess.run(["/bin/sh", "-n", "-c", rest], check=True)


def test_image_copies_exactly_what_is_sent_to_its_build() -> None:
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for name, rest in INSTRUCTIONS
        if name == "COPY" and "--from" not in rest
        for source in shlex.split(rest)[:-1]
    }

    assert copied == sent


def test_signals_reach_the_server() -> None:
    """No shell stands between: both are lists, and the signal is the one that we drain on."""
    assert json.loads(last("ENTRYPOINT")) == ["tini", "--"]
    assert json.loads(last("CMD"))[:2] == ["uvicorn", "main:app"]
    assert last("STOPSIGNAL") == "SIGTERM"


def test_server_does_not_run_as_root() -> None:
    user = last("USER")

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "as numbers, so that Kubernetes can check it"
    assert [name for name, _ in FINAL_STAGE].index("USER") > max(
        place for place, (name, _) in enumerate(FINAL_STAGE) if name == "RUN"
    )


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server whose /health/live answers *status*, and anything else 404; gives its port."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/live" else 404)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health_check(port: int) -> int:
    """Run the image's health check against *port*; its exit status."""
    _, _, command = last("HEALTHCHECK").partition("CMD ")
    python, *arguments = json.loads(command)
    assert python == "python"
    arguments[-1] = arguments[-1].replace("8000", str(port))
    # A proxy in the environment is for the way out.
    environment = {"http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, timeout=30, check=False, capture_output=True
    ).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_health_check_goes_by_the_status(status: int, *, healthy: bool) -> None:
    with answering(status) as port:
        assert (health_check(port) == 0) is healthy


def test_health_check_fails_where_nobody_listens() -> None:
    with answering(200) as port:
        pass
    assert health_check(port) == 1


def test_compose_waits_longer_than_a_drain_lasts() -> None:
    drain = (
        ServerSettings.model_fields["shutdown_timeout"].default
        + ServerSettings.model_fields["shutdown_delay"].default
    )

    assert seconds(SERVICE["stop_grace_period"]) >= drain + 30


def test_dockerfile_advises_the_same_grace_period() -> None:
    advised = re.search(r"--stop-timeout (\d+)", (ROOT / "Dockerfile").read_text())

    assert advised
    assert int(advised[1]) == seconds(SERVICE["stop_grace_period"])


def test_compose_serves_on_8000_with_nothing_but_two_places_to_write() -> None:
    environment = dict(word.split("=", 1) for word in shlex.split(last("ENV")))
    places = [it.partition(":")[0] for it in SERVICE["tmpfs"]]
    volumes = [it.partition(":")[2] for it in SERVICE["volumes"]]

    assert SERVICE["ports"] == ["8000:8000"]
    assert SERVICE["read_only"] is True
    assert environment["LASTCALL_RUN_DIR"] in places
    assert environment["LASTCALL_STATE_DIR"] in volumes
    assert all(it.partition(":")[0] in COMPOSE["volumes"] for it in SERVICE["volumes"])
    assert "uid={},gid={}".format(*last("USER").split(":")) in SERVICE["tmpfs"][0]


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_scripts_run_as_they_are_and_stop_at_the_first_error(path: Path) -> None:
    first, *_ = text = path.read_text().splitlines()

    assert first == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in text
    assert path.stat().st_mode & 0o111
    subprocess.run(["/bin/bash", "-n", str(path)], check=True)


def test_ci_calls_scripts_only() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]

    assert commands == ["scripts/test", "docker build --tag lastcall ."]


def test_versions_are_pinned_and_come_from_wherever_the_machine_gets_packages() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.match(r"#|--editable \.$|--requirement requirements\.txt$|[\w.-]+==\S+", line)
            assert "://" not in line


def test_sdk_packages_are_exact_and_of_no_particular_registry() -> None:
    """The addresses of one machine's registry would not be there on another."""
    folder = ROOT / "tests" / "sdk"
    asked: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]

    for name, version in asked.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    for name, package in locked.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"], name
