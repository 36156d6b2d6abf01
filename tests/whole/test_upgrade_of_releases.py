"""From one version and Python to the next under load, and back: the short form of the benchmark."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.deploys.crowd import build_crowd
from benchmarks.deploys.releases import MissingError, Releases, build_releases
from benchmarks.deploys.restarts import Scale
from benchmarks.deploys.upgrades import upgrades
from tests.server_process import ROOT

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the crowd has to be compiled"),
    pytest.mark.skipif(
        not (ROOT / "lastcall").is_dir(),
        reason="it builds wheels of the checkout, for 3.12 and 3.13, and is run from there",
    ),
]

SCALE = Scale(workers=2, clients=300, rooms=6, rate=60, restarts=2)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """The checkout's version on Python 3.12, and a later one on 3.13."""
    try:
        return build_releases(tmp_path)
    except MissingError as missing:
        if "CI" in os.environ:
            raise
        pytest.skip(str(missing))


def test_upgrade_and_rollback_disturb_nobody(releases: Releases, tmp_path: Path) -> None:
    """Where all of them take turns on too few cores, clients may be told before they are moved."""
    done = upgrades(releases, build_crowd(tmp_path), SCALE)

    assert all(each.is_flawless for each in done.reports), [str(each) for each in done.reports]
    assert done.sum("newcomers") > 0
    assert done.sum("heard") > 0
