"""The SDK in the page is the published one, in the version that the tests use: `scripts/sdk`."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SDK = files("lastcall.web") / "sdk"
RECORD: dict[str, str] = json.loads((SDK / "sdk.json").read_text())
INSTALLED = ROOT / "tests" / "sdk" / "node_modules" / "centrifuge"


def test_shipped_file_is_the_recorded_one() -> None:
    """Of the installed package, too: the same test runs against the wheel."""
    shipped = (SDK / "centrifuge.js").read_bytes()

    assert hashlib.sha256(shipped).hexdigest() == RECORD["sha256"], "run scripts/sdk"


def test_recorded_package_is_the_one_that_the_tests_install() -> None:
    lock: dict[str, Any] = json.loads((ROOT / "tests/sdk/package-lock.json").read_text())
    locked = lock["packages"]["node_modules/centrifuge"]

    assert (RECORD["version"], RECORD["integrity"]) == (locked["version"], locked["integrity"]), (
        "run scripts/sdk"
    )


@pytest.mark.skipif(not INSTALLED.exists(), reason="the JavaScript SDK is not installed here")
def test_shipped_file_is_the_one_that_npm_brings() -> None:
    published = (INSTALLED / RECORD["file"]).read_bytes()

    assert published == (SDK / "centrifuge.js").read_bytes(), "run scripts/sdk"


def test_licences_of_all_that_is_inside_are_kept() -> None:
    licences = (SDK / "licences.txt").read_text()

    assert licences.startswith("centrifuge\n")
    assert "\nevents\n" in licences
    assert licences.count("THE SOFTWARE IS PROVIDED") == 2
    assert "Centrifugal Labs" in licences
    assert "Joyent" in licences
