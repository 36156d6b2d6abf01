"""What all tests share: both event loops, and no blocking call inside them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

# CI judges a change, so it tries the same examples for everybody; developers try new ones each
# time. No deadline: the machine may be busy.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("fast", deadline=None, max_examples=20)
settings.load_profile("ci" if "CI" in os.environ else "developer")

LOOPS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}

RUN_DIRECTORY = {"open", "sweep", "remove_if_deserted", "remove_left"}
PROCESS_IDENTITY = {"of", "children"}
NEIGHBOURHOOD = {"find_neighbourhood"}
HANDOVER = {"listening"}
COORDINATOR = {
    "arrive",
    "update",
    "_living",
    "expects_successor",
    "claim_dead",
    "finish",
    "known",
    "leave",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a program that is missing here."""
    for mark in item.iter_markers("program"):
        if shutil.which(mark.args[0]) is None:
            pytest.skip(f"{mark.args[0]} is missing: scripts/install programs")


@pytest.fixture(params=list(LOOPS))
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run every asynchronous test on asyncio's own loop and on uvloop."""
    return LOOPS[request.param]


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """A blocking call inside the event loop fails the test."""
    with blockbuster_ctx("lastcall") as detector:
        for function in detector.functions.values():
            # The file is read once, before anybody is served.
            function.can_block_in("lastcall/settings_source.py", "load_settings")
            # Names and locks of small files on a local disk: quicker than asking a thread, and no
            # other task may come between the steps.
            function.can_block_in("lastcall/process_identity.py", PROCESS_IDENTITY)
            function.can_block_in("lastcall/neighbourhood.py", NEIGHBOURHOOD)
            function.can_block_in("lastcall/run_directory.py", RUN_DIRECTORY)
            function.can_block_in("lastcall/worker_coordinator.py", COORDINATOR)
            function.can_block_in("lastcall/socket_handover.py", HANDOVER)
            # An operator asks how this worker is: a few lines of the kernel's, in milliseconds.
            function.can_block_in("lastcall/worker_status.py", {"by_file"})
            # uvloop looks at the path of a listening socket, on Python 3.13.
            function.can_block_in("lastcall/broker/bus_server.py", {"open", "close"})
        yield


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one, whatever the test is called: the path of a socket has at most 103 bytes."""
    with TemporaryDirectory(prefix="lc-") as path:
        yield Path(path)


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory of the test's own, for applications that read their settings themselves."""
    path = tmp_path / "run"
    monkeypatch.setenv("LASTCALL_RUN_DIR", str(path))
    monkeypatch.setenv("LASTCALL_STATE_DIR", str(tmp_path / "state"))
    return path
