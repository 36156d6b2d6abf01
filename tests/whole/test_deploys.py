"""What is measured of deploys, in a short form: what must hold is asserted; times are not."""

import os
import random
import shutil
import sys
import time
from pathlib import Path

import pytest

from benchmarks.deploys import interruptions
from benchmarks.deploys.chaos import lives
from benchmarks.deploys.crowd import build_crowd
from benchmarks.deploys.page import PAGE, render
from benchmarks.deploys.restarts import OWN, STOCK, Restarts, Scale, rolling_restarts
from benchmarks.deploys.results import newest_parts

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(sys.platform != "linux", reason="connections move on Linux only"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="the crowd has to be compiled"),
]

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "6"))
"""How many rounds of chaos; releases are tried with many more."""
SEED = int(os.environ.get("STRESS_SEED", str(time.time_ns() % 1_000_000)))
SCALE = Scale(workers=3, clients=200, rooms=4, rate=100, restarts=2)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_crowd(tmp_path_factory.mktemp("crowd"))


def disturb_nobody(done: Restarts) -> None:
    """Everybody stays and hears everything once, in order; whoever comes is served."""
    assert all(each.is_flawless for each in done.reports), [str(each) for each in done.reports]
    assert done.sum("newcomers") > 0
    assert done.sum("heard") > 0


def test_a_rolling_restart_disturbs_nobody(program: Path) -> None:
    done = rolling_restarts(OWN, program, SCALE)
    disturb_nobody(done)
    assert done.sum("told") == 0


def test_a_rolling_restart_of_stock_workers_disturbs_nobody(program: Path) -> None:
    disturb_nobody(rolling_restarts(STOCK, program, SCALE))


@pytest.mark.parametrize("number", range(2))
def test_a_stop_in_the_middle_of_something_is_acted_on(program: Path, number: int) -> None:
    """Everybody is told, closed in order, and nothing is left."""
    chance = random.Random(SEED + number)  # noqa: S311  (a schedule, not a secret)
    interruptions.during_a_restart(OWN, program, SCALE, chance)
    interruptions.during_a_handover(OWN, program, SCALE, chance)
    interruptions.during_a_start(OWN, SCALE, chance)


def test_a_sudden_death_in_the_middle_of_a_handover_harms_nobody_else(program: Path) -> None:
    done = lives(program, ROUNDS, SEED)
    assert done.count == ROUNDS
    assert done.heard > 0


def test_page_says_what_the_newest_figures_say() -> None:
    """`scripts/bench deploys --page` renders it anew."""
    assert PAGE.read_text() == render(newest_parts())
