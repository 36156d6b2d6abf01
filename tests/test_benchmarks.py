"""The load runs still run, and the page says what was measured. Speed itself is never asserted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.instructions import grown, to_yardstick
from benchmarks.page import PAGE, render
from benchmarks.results_file import CENTRIFUGE_RESULTS, newest, read_session
from tests.redis_process import needs_redis

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they read /proc and pin to cores")


def test_page_says_what_the_newest_figures_say() -> None:
    """`scripts/bench --page` renders it anew."""
    newest_centrifuge = read_session(newest(CENTRIFUGE_RESULTS))
    assert PAGE.read_text() == render(read_session(newest()), newest_centrifuge)


def test_a_path_that_takes_more_instructions_is_noticed() -> None:
    kept = to_yardstick({"yardstick": 1000, "read 200 frames": 500, "connect 32 clients": 2000})
    assert kept == {"read 200 frames": 0.5, "connect 32 clients": 2.0}

    assert grown({"read 200 frames": 0.505, "connect 32 clients": 2.2, "new": 9.0}, kept) == []
    assert grown({"read 200 frames": 0.52, "connect 32 clients": 2.4}, kept) == list(kept)


@pytest.mark.whole
@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator has to be compiled")
def test_every_row_can_be_measured() -> None:
    servers = ["C floor", "Lastcall", "FastAPI's ConnectionManager", "websockets broadcast()"]
    only = [word for name in servers for word in ("--only", name)]
    said = measured("benchmarks", *only)

    for server in (*servers, "two workers", "one deaf"):
        assert f"| {server} |" in said, said


@pytest.mark.whole
@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator has to be compiled")
def test_rows_of_the_centrifuge_protocol_can_be_measured() -> None:
    said = measured("benchmarks.centrifuge")

    for server in (
        "plain text",
        "Centrifuge JSON",
        "one channel for all",
        "each channel for a few",
    ):
        assert f"| {server} |" in said, said
    assert said.count(" 0 lost, 0 out of order;") == 2, said


@pytest.mark.whole
@needs_redis
@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator has to be compiled")
def test_rows_of_an_engine_can_be_measured() -> None:
    said = measured("benchmarks.engines", "redis")

    for server in (
        "one worker",
        "Lastcall over the engine",
        "10 channels each",
        "Redis, 4 workers, 2000 a second",
    ):
        assert f"| {server} |" in said, said


def measured(*words: str) -> str:
    """What a load run prints that takes a moment only."""
    done = subprocess.run(
        [sys.executable, "-m", *words, "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
