"""Which limit is in force."""

from lastcall.stop_limit import KILL_MARGIN, StopLimit, limit_in_force

OWN = StopLimit(1800, "LASTCALL_SHUTDOWN_TIMEOUT", kills=False)


def test_our_own_setting_counts_where_nobody_is_in_a_greater_hurry() -> None:
    assert limit_in_force(OWN, []) == OWN
    assert limit_in_force(OWN, [StopLimit(1800, "other", kills=False)]) is OWN
    assert limit_in_force(OWN, [StopLimit(3600, "systemd")]) is OWN


def test_the_smallest_counts_with_time_left_before_a_kill() -> None:
    waits, kills = StopLimit(60, "uvicorn", kills=False), StopLimit(61, "systemd")

    assert limit_in_force(OWN, [waits]) is waits
    assert limit_in_force(OWN, [waits, kills]) == StopLimit(61 - KILL_MARGIN, "systemd")
    assert limit_in_force(OWN, [StopLimit(1, "gunicorn")]).seconds == 0
