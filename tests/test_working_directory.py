"""Where we run, by the name that stays when a link moves on to the next release."""

from pathlib import Path

import pytest

from lastcall.neighbourhood import default_state_dir
from lastcall.working_directory import working_directory


@pytest.fixture(autouse=True)
def current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A link to a release, in which we run."""
    (tmp_path / "release-1").mkdir()
    link = tmp_path / "current"
    link.symlink_to("release-1")
    monkeypatch.chdir(link)
    return link


def test_name_is_the_shells(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", str(current))

    assert working_directory() == current


@pytest.mark.parametrize("named", ["", ".", "/", "/nowhere at all"])
def test_name_that_means_something_else_does_not_count(
    named: str, current: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWD", named)

    assert working_directory() == current.resolve()


def test_history_of_one_release_is_found_by_the_next(
    current: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWD", str(current))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    before = default_state_dir()
    (current.parent / "release-2").mkdir()
    current.unlink()
    current.symlink_to("release-2")
    monkeypatch.chdir(current)

    assert default_state_dir() == before
