"""The policy of leaving: who is told, who is closed, when it is over."""

import math
from dataclasses import dataclass, field
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from lastcall.drain import CREDIT, Drain, DrainPolicy, Step

POLICY = DrainPolicy(timeout=60, notice_interval=5, release_rate=100, close_wait=3)


def test_without_clients_it_is_over_at_once() -> None:
    step = Drain(POLICY, started_at=0).step(now=0, open_connections=0, not_closed=0)

    assert step == Step(finished=True)


def test_everybody_is_told_at_once_and_again_every_interval() -> None:
    drain = Drain(POLICY, started_at=100)

    first = drain.step(now=100, open_connections=3, not_closed=3)
    between = drain.step(now=104.9, open_connections=3, not_closed=3)
    second = drain.step(now=105, open_connections=3, not_closed=3)

    assert (first.notify, first.close, first.wake_at) == (True, 0, 105)
    assert (between.notify, between.wake_at) == (False, 105)
    assert (second.notify, second.wake_at) == (True, 110)


def test_a_late_notice_does_not_shift_those_after_it() -> None:
    drain = Drain(POLICY, started_at=0)
    drain.step(now=0, open_connections=1, not_closed=1)

    late = drain.step(now=17, open_connections=1, not_closed=1)

    assert (late.notify, late.wake_at) == (True, 20)


def test_closing_starts_early_enough_to_finish_at_the_deadline() -> None:
    """3000 clients at 100 a second need the last 30 of 60 seconds."""
    drain = Drain(POLICY, started_at=0)

    assert drain.step(now=29.9, open_connections=3000, not_closed=3000).close == 0
    assert drain.step(now=30, open_connections=3000, not_closed=3000).close == 1
    assert drain.step(now=30.105, open_connections=3000, not_closed=2999).close == 10


def test_notices_go_on_while_the_others_are_closed_slowly() -> None:
    """At one close in ten seconds, the notice is due before the next close."""
    drain = Drain(DrainPolicy(timeout=90, notice_interval=5, release_rate=0.1), started_at=0)

    first = drain.step(now=0, open_connections=9, not_closed=9)
    second = drain.step(now=first.wake_at, open_connections=8, not_closed=8)

    assert (first.notify, first.close, first.wake_at) == (True, 1, 5)
    assert (second.notify, second.close) == (True, 0)


def test_who_comes_back_by_itself_is_released_from_the_start_and_the_others_are_left_alone() -> (
    None
):
    drain = Drain(POLICY, started_at=0)

    first = drain.step(now=0, open_connections=300, not_closed=300, returning=200)
    second = drain.step(now=first.wake_at, open_connections=299, not_closed=299, returning=199)

    assert (first.notify, first.release, first.close, first.wake_at) == (True, 1, 0, 0.1)
    assert (second.notify, second.release, second.close) == (False, 10, 0)
    last = drain.step(now=2, open_connections=101, not_closed=101, returning=1)
    assert (last.release, last.close, last.wake_at) == (1, 0, 5), "the notice"
    quiet = drain.step(now=58.9, open_connections=100, not_closed=100)
    assert (quiet.close, quiet.wake_at) == (0, 59)
    assert drain.step(now=59, open_connections=100, not_closed=100).close == 1


def test_a_time_that_is_too_short_for_the_rate_is_used_evenly() -> None:
    """300 clients in 6 seconds are 50 a second, whatever the rate."""
    policy = DrainPolicy(timeout=6, notice_interval=5, release_rate=20)
    drain = Drain(policy, started_at=0)
    left, released = 300, []
    now = 0.0
    while left:
        step = drain.step(now=now, open_connections=left, not_closed=left, returning=left)
        left -= step.release
        released.append((now, step.release))
        now = step.wake_at

    for second in range(6):
        assert 45 <= sum(n for at, n in released if second <= at < second + 1) <= 55
    assert released[-1][0] <= 6
    assert released[-1][1] <= 6, "and not what was left in one batch"


def test_where_both_are_too_many_those_who_come_back_go_first() -> None:
    drain = Drain(DrainPolicy(timeout=10, notice_interval=5, release_rate=1), started_at=0)

    early = drain.step(now=0, open_connections=100, not_closed=100, returning=50)
    late = drain.step(now=5, open_connections=50, not_closed=50, returning=1)

    assert (early.release, early.close) == (1, 0)
    assert late.release == 1
    assert late.close > 0


def test_workers_that_leave_together_share_the_rate() -> None:
    drain = Drain(POLICY, started_at=0)
    drain.share_rate(4)
    drain.step(now=0, open_connections=100, not_closed=100, returning=100)

    assert drain.step(now=0.1, open_connections=99, not_closed=99, returning=99).release == 2
    drain.share_rate(0)
    assert drain.step(now=0.2, open_connections=97, not_closed=97, returning=97).release == 9


def test_whoever_may_be_handed_over_is_not_closed_before_the_deadline() -> None:
    drain = Drain(DrainPolicy(timeout=1, notice_interval=5, release_rate=1), started_at=0)

    step = drain.step(now=0.9, open_connections=50, not_closed=50, spared=50)
    assert (step.release, step.close, step.wake_at) == (0, 0, 1)
    assert drain.step(now=1, open_connections=50, not_closed=50, spared=50).close == 50


def test_what_a_stopped_process_has_slept_through_is_not_made_up_for_in_one_batch() -> None:
    """SIGSTOP for half a minute: the next batch is no larger, the pace that of the time left."""
    drain = Drain(DrainPolicy(timeout=60, notice_interval=5, release_rate=10), started_at=0)
    drain.step(now=0, open_connections=1200, not_closed=1200, returning=1200)

    step = drain.step(now=30, open_connections=1199, not_closed=1199, returning=1199)

    assert step.release <= 10
    assert step.wake_at == 30.1
    assert drain.step(now=30.1, open_connections=1191, not_closed=1191, returning=1191).release == 4


def test_an_appointment_made_for_few_is_kept_earlier_for_many() -> None:
    drain = Drain(DrainPolicy(timeout=10, notice_interval=50, release_rate=0.01), started_at=0)
    drain.step(now=0, open_connections=2, not_closed=2, returning=2)

    crowd = drain.step(now=1, open_connections=901, not_closed=901, returning=901)

    assert crowd.release == 0
    assert crowd.wake_at == 1.1


def test_who_comes_late_has_time_until_the_deadline_and_is_not_closed_in_one_batch() -> None:
    """The rate that nobody used is no credit."""
    drain = Drain(POLICY, started_at=0)
    assert drain.step(now=59.5, open_connections=50, not_closed=50).close == 1
    drain.step(now=59.51, open_connections=49, not_closed=0)

    assert drain.step(now=59.59, open_connections=89, not_closed=40).close == 0
    assert drain.step(now=59.6, open_connections=89, not_closed=40).close == 1


def test_who_comes_one_by_one_is_closed_at_the_rate_too() -> None:
    drain = Drain(DrainPolicy(timeout=60, notice_interval=5, release_rate=1), started_at=0)

    assert drain.step(now=59.0, open_connections=1, not_closed=1).close == 1
    assert drain.step(now=59.1, open_connections=2, not_closed=1).close == 0
    assert drain.step(now=60.0, open_connections=2, not_closed=1).close == 1


def test_at_the_deadline_everybody_is_closed_and_may_answer_for_a_while() -> None:
    drain = Drain(POLICY, started_at=0)

    at_deadline = drain.step(now=60, open_connections=7, not_closed=5)
    waiting = drain.step(now=62, open_connections=7, not_closed=0)
    over = drain.step(now=63, open_connections=7, not_closed=0)

    assert (at_deadline.close, at_deadline.wake_at) == (5, 63)
    assert waiting == Step(wake_at=63)
    assert over == Step(abort=True, finished=True)


def test_force_makes_the_deadline_now() -> None:
    drain = Drain(POLICY, started_at=0)
    drain.step(now=0, open_connections=5, not_closed=5)

    drain.force(10)

    assert drain.deadline == 10
    assert drain.step(now=10, open_connections=5, not_closed=5).close == 5


def test_force_after_the_deadline_gives_nobody_more_time() -> None:
    drain = Drain(POLICY, started_at=0)
    drain.force(62)

    assert drain.deadline == 60


def test_without_a_timeout_clients_are_closed_and_not_told() -> None:
    drain = Drain(DrainPolicy(timeout=0, notice_interval=5, release_rate=100), started_at=0)

    step = drain.step(now=0, open_connections=5, not_closed=5)

    assert (step.notify, step.close) == (False, 5)


def test_a_rounding_error_is_no_second_notice() -> None:
    """These times are 14 intervals apart, by division a little less, and 14 by addition."""
    start, now = 107433.01424136753, 107434.41424136753
    drain = Drain(DrainPolicy(timeout=60, notice_interval=0.1, release_rate=100), start)

    step = drain.step(now=now, open_connections=1, not_closed=1)

    assert step.notify
    assert step.wake_at > now


@dataclass
class Clients:
    """A worker's clients, driven as GracefulShutdown does, with a clock of their own."""

    drain: Drain
    policy: DrainPolicy
    now: float
    staying: int
    returning: int = 0
    closed: int = 0
    closes: list[tuple[float, int]] = field(default_factory=list)
    notices: list[float] = field(default_factory=list)
    over_at: float | None = None
    aborted: bool = False
    highest_pace: float = 0
    """Of what it took to be out in time, at any moment."""

    @property
    def not_closed(self) -> int:
        return self.staying + self.returning

    def step(self) -> float:
        """Do what the drain wants; when it wants to be asked again."""
        left = max(0, self.drain.deadline - self.now)
        if left:
            # Lateness may be made up for; nothing more.
            needed = self.not_closed / left
            self.highest_pace = max(self.highest_pace, needed, self.policy.release_rate)
        step = self.drain.step(
            now=self.now,
            open_connections=self.not_closed + self.closed,
            not_closed=self.not_closed,
            returning=self.returning,
        )
        assert 0 <= step.release <= self.returning
        assert 0 <= step.close <= self.staying
        if step.finished:
            self.over_at, self.aborted = self.now, step.abort
            assert not step.notify
            return math.inf
        self._take(step)
        if self.now >= self.drain.deadline:
            assert self.not_closed == 0
        assert step.wake_at > self.now
        assert step.wake_at <= self.drain.deadline + self.policy.close_wait
        if self.not_closed:
            assert (
                step.wake_at
                <= max(self.notices[-1:], default=0) + self.policy.notice_interval * 1.01
            )
        return step.wake_at

    def _take(self, step: Step) -> None:
        number = step.release + step.close
        if step.notify:
            self.notices.append(self.now)
            assert self.not_closed > number
        if step.close and self.now < self.drain.deadline:
            assert step.release == self.returning, "who does not come back is left alone longest"
        if number:
            self.closes.append((self.now, number))
        self.returning -= step.release
        self.staying -= step.close
        self.closed += number


POLICIES = st.builds(
    DrainPolicy,
    timeout=st.floats(0, 100),
    notice_interval=st.floats(0.2, 20),
    release_rate=st.floats(0.1, 500),
    close_wait=st.floats(0, 5),
)
EVENTS = st.lists(
    st.tuples(
        st.floats(0, 10),  # seconds later, or when the drain wants to be asked, if that is sooner
        st.sampled_from(("come", "leave", "move", "answer", "force", "sleep", "nothing")),
        st.integers(1, 50),
    ),
    max_size=40,
)


@given(
    policy=POLICIES,
    start=st.floats(0, 1e6),
    staying=st.integers(0, 2000),
    returning=st.integers(0, 2000),
    events=EVENTS,
)
def test_whatever_happens_the_promises_hold(
    policy: DrainPolicy,
    start: float,
    staying: int,
    returning: int,
    events: list[tuple[float, str, int]],
) -> None:
    worker = Clients(Drain(policy, start), policy, start, staying, returning)
    wake_at = worker.step()
    for after, event, number in events:
        later = worker.now + after
        if event == "sleep":
            worker.now = later  # the whole process was stopped: nobody was asked meanwhile
        while worker.over_at is None and wake_at <= later and event != "sleep":
            worker.now = wake_at
            wake_at = worker.step()
        if worker.over_at is not None:
            break
        worker.now = max(worker.now, later)
        happen(worker, event, number)
        wake_at = worker.step()
    while worker.over_at is None:
        # Nobody leaves any more: the clock alone has to end it.
        worker.now = wake_at
        wake_at = worker.step()

    check(worker, start, staying + returning)


def happen(worker: Clients, event: str, number: int) -> None:
    """Let clients come, leave by themselves, move or answer their close; or force the drain."""
    if event == "come":
        worker.staying += number // 2
        worker.returning += number - number // 2
    elif event == "leave":
        worker.staying -= min(number, worker.staying)
    elif event == "move":
        worker.returning -= min(number, worker.returning)
    elif event == "answer":
        worker.closed -= min(number, worker.closed)
    elif event == "force":
        worker.drain.force(worker.now)


def check(worker: Clients, start: float, clients: int) -> None:
    """What was promised of the whole."""
    assert worker.over_at is not None
    deadline, policy = worker.drain.deadline, worker.policy
    if worker.aborted:
        assert worker.over_at >= deadline + policy.close_wait
    else:
        assert worker.not_closed + worker.closed == 0
    before = [(at, number) for at, number in worker.closes if at < deadline]
    pace = worker.highest_pace
    for index, (since, _) in enumerate(before):
        total = 0
        for at, number in before[index:]:
            total += number
            assert total <= (at - since + CREDIT) * pace * 1.01 + 2
    if deadline > start and clients > sum(number for at, number in before if at == start):
        assert worker.notices[:1] == [start]
    assert len(set(worker.notices)) == len(worker.notices)


@given(
    timeout=st.floats(1, 200),
    rate=st.floats(0.1, 500),
    staying=st.integers(0, 3000),
    returning=st.integers(0, 3000),
    lateness=st.lists(st.floats(0, 0.05), min_size=1, max_size=20),
)
def test_no_second_has_more_than_twice_the_pace_and_everybody_is_out_in_time(
    timeout: float, rate: float, staying: int, returning: int, lateness: list[float]
) -> None:
    """The pace is the rate, or what is needed evenly. Timers that fire late change nothing."""
    policy = DrainPolicy(timeout=timeout, notice_interval=5, release_rate=rate, close_wait=3)
    worker = Clients(Drain(policy, 0), policy, 0, staying, returning)
    pace = max(rate, worker.not_closed / timeout)
    late = cycle(lateness)
    wake_at = worker.step()
    while worker.not_closed:
        worker.now = min(wake_at + next(late), max(wake_at, worker.drain.deadline))
        wake_at = worker.step()

    times = [at for at, _ in worker.closes]
    assert max(times, default=0) <= timeout
    for second in times:
        number = sum(n for at, n in worker.closes if second <= at < second + 1)
        assert number <= max(2, 2 * pace)
