"""When workers are started again, and what each signal to the master means."""

from lastcall.restart_policy import LONGEST_DELAY, Backoff, Stop, StopRequests, WorkerLimits


def test_crash_loop_backs_off_to_a_bound() -> None:
    backoff = Backoff()
    delays = [backoff.after(1) for _ in range(12)]

    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == LONGEST_DELAY


def test_a_minute_of_health_forgives() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(1)

    assert backoff.after(60) == 0.1
    assert backoff.after(1) == 0.2


def test_sigterm_is_one_request_however_often_it_comes() -> None:
    requests = StopRequests()

    assert requests.received(interrupt=False, now=0) is Stop.LEAVE
    assert requests.received(interrupt=False, now=5) is None
    assert requests.received(interrupt=False, now=50) is None


def test_each_later_ctrl_c_insists_more() -> None:
    requests = StopRequests()

    assert requests.received(interrupt=True, now=0) is Stop.LEAVE
    assert requests.received(interrupt=True, now=0.4) is None
    assert requests.received(interrupt=True, now=1) is Stop.END
    assert requests.received(interrupt=True, now=1.1) is None
    assert requests.received(interrupt=True, now=2) is Stop.KILL
    assert requests.received(interrupt=True, now=3) is None


def test_ctrl_c_and_the_sigterm_of_what_started_us_are_one_request() -> None:
    for first, second in ((True, False), (False, True)):
        requests = StopRequests()

        assert requests.received(interrupt=first, now=0) is Stop.LEAVE
        assert requests.received(interrupt=second, now=0.1) is None


def test_ctrl_c_during_a_drain_asks_for_the_end() -> None:
    requests = StopRequests()

    assert requests.received(interrupt=False, now=0) is Stop.LEAVE
    assert requests.received(interrupt=True, now=60) is Stop.END


def test_workers_of_one_age_do_not_go_together() -> None:
    limits = WorkerLimits(lifetime=100)

    assert [limits.lifetime_of_one(chance) for chance in (0, 0.5, 1)] == [100, 95, 90]
    assert WorkerLimits().lifetime_of_one(0.5) is None
