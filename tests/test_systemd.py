"""What systemd says of the unit that we run in."""

import os
from pathlib import Path

import pytest

from lastcall.systemd import Unit, parse_time_span, stop_timeout, unit_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1min 30s\n", 90),
        ("30min", 1800),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("1h 1min 1s 1ms 1us", 3661.001001),
        ("1w 2d", 777600),
        ("infinity", None),
        ("", None),
        ("1month", None),
        ("1.2.3s", None),
        ("90", None),
        ("Failed to connect to bus", None),
    ],
)
def test_time_spans_are_read_or_not_believed(text: str, seconds: float | None) -> None:
    assert parse_time_span(text) == pytest.approx(seconds)


USER = "0::/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("membership", "service"),
    [
        ("0::/system.slice/chat.service\n", Unit("chat.service")),
        ("0::/system.slice/chat.service/workers", Unit("chat.service")),
        ("12:pids:/system.slice/chat.service\n0::/\n", Unit("chat.service")),
        (f"{USER}/app.slice/chat.service", Unit("chat.service", is_users=True)),
        (f"{USER}/app.slice/vte-spawn-1.scope", None),
        (USER, None),
        ("0::/system.slice/ssh.service/session-1.scope", None),
        ("0::/", None),
        ("", None),
    ],
)
def test_the_service_is_the_unit_that_stops_us_and_not_one_around_it(
    membership: str, service: Unit | None
) -> None:
    """A terminal on a desktop is no service, though one is above it."""
    assert unit_of(membership) == service


def test_a_users_service_is_asked_of_the_users_manager() -> None:
    assert "--user" in Unit("chat.service", is_users=True).question
    assert "--user" not in Unit("chat.service").question


@pytest.mark.anyio
async def test_outside_a_service_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)

    assert await stop_timeout() is None


@pytest.mark.anyio
async def test_where_nobody_answers_there_is_no_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a container, or on a system without systemctl."""
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}")

    assert await stop_timeout() is None
