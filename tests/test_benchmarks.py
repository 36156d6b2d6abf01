"""The load runs still run, and the page says what was measured. Speed itself is never asserted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.page import PAGE, render
from benchmarks.results_file import newest, read_session

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they read /proc and pin to cores")


def test_page_says_what_the_newest_figures_say() -> None:
    """`scripts/bench --page` renders it anew."""
    assert PAGE.read_text() == render(read_session(newest()))


@pytest.mark.whole
@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator has to be compiled")
def test_every_row_can_be_measured() -> None:
    servers = ["C floor", "Lastcall", "FastAPI's ConnectionManager", "websockets broadcast()"]
    only = [word for name in servers for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    for server in (*servers, "two workers", "one deaf"):
        assert f"| {server} |" in done.stdout, done.stderr
