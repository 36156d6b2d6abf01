"""The token that a master passes to the next, without the masters."""

import os

import msgspec
import pytest

from lastcall.host import UPGRADE_VARIABLE
from lastcall.process_identity import ProcessIdentity
from lastcall.upgrade import UpgradeToken, take_token


def token(old: str) -> UpgradeToken:
    return UpgradeToken(
        old=old,
        outermost=None,
        sockets=[5],
        report=6,
        directory="/run/lastcall/1-2",
        generation=2,
        size=4,
    )


def test_token_of_the_parent_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = token(str(ProcessIdentity.of(os.getppid())))
    monkeypatch.setenv(UPGRADE_VARIABLE, msgspec.json.encode(passed).decode())

    assert take_token() == passed
    assert take_token() is None


def test_token_of_a_later_release_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = token(str(ProcessIdentity.of(os.getppid())))
    more = msgspec.to_builtins(passed) | {"of_a_later_release": True}
    monkeypatch.setenv(UPGRADE_VARIABLE, msgspec.json.encode(more).decode())

    assert take_token() == passed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{}",
        msgspec.json.encode(token("nobody")).decode(),
        msgspec.json.encode(token(str(ProcessIdentity.of(os.getpid())))).decode(),
        msgspec.json.encode(token(f"{os.getppid()}-1")).decode(),
    ],
)
def test_token_for_somebody_else_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UPGRADE_VARIABLE, text)

    assert take_token() is None
    assert UPGRADE_VARIABLE not in os.environ
