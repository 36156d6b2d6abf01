"""Reasons of closes are words: SDKs misread what is empty, and what is JSON."""

import pytest

from lastcall.close_words import is_plain
from lastcall.errors import ClosedByApplication, Disconnect


@pytest.mark.parametrize("reason", ["shutdown", "back at 12:30", "30 s", "{x", "é" * 61])
def test_words_are_told_as_they_are(reason: str) -> None:
    assert is_plain(reason)


@pytest.mark.parametrize(
    "reason", ["", " ", "30", "true", '"quoted"', '{"reconnect":false}', "a\nb", "\ud800", "é" * 62]
)
def test_anything_else_is_no_reason(reason: str) -> None:
    assert not is_plain(reason)
    with pytest.raises(ValueError, match="plain words"):
        ClosedByApplication(4000, reason)


def test_end_of_the_applications_own_says_so_in_words() -> None:
    class Moved(Disconnect):
        code = 4001
        reason = "30"

    with pytest.raises(ValueError, match="'30'"):
        raise Moved


@pytest.mark.parametrize("code", [0, 999, 1005, 2000, 5000])
def test_code_that_no_close_frame_can_hold_is_none(code: int) -> None:
    with pytest.raises(ValueError, match="no close code"):
        ClosedByApplication(code, "moving")
