"""The policy of leaving: who is told, who is closed, when it is over."""

import math
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lastcall.drain import Drain, DrainPolicy, Step

POLICY = DrainPolicy(timeout=60, notice_interval=5, close_rate=100, close_wait=3)


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
    drain = Drain(DrainPolicy(timeout=60, notice_interval=5, close_rate=0.1), started_at=0)

    first = drain.step(now=0, open_connections=9, not_closed=9)
    second = drain.step(now=first.wake_at, open_connections=8, not_closed=8)

    assert (first.notify, first.close, first.wake_at) == (True, 1, 5)
    assert (second.notify, second.close) == (True, 0)


def test_who_comes_late_has_time_until_the_deadline_and_is_not_closed_in_one_batch() -> None:
    """The rate that nobody used is no credit."""
    drain = Drain(POLICY, started_at=0)
    assert drain.step(now=59.5, open_connections=50, not_closed=50).close == 1
    drain.step(now=59.51, open_connections=49, not_closed=0)

    assert drain.step(now=59.59, open_connections=89, not_closed=40).close == 0
    assert drain.step(now=59.6, open_connections=89, not_closed=40).close == 1


def test_who_comes_one_by_one_is_closed_at_the_rate_too() -> None:
    drain = Drain(DrainPolicy(timeout=60, notice_interval=5, close_rate=1), started_at=0)

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
    drain = Drain(DrainPolicy(timeout=0, notice_interval=5, close_rate=100), started_at=0)

    step = drain.step(now=0, open_connections=5, not_closed=5)

    assert (step.notify, step.close) == (False, 5)


def test_a_rounding_error_is_no_second_notice() -> None:
    """These times are 14 intervals apart, by division a little less, and 14 by addition."""
    start, now = 107433.01424136753, 107434.41424136753
    drain = Drain(DrainPolicy(timeout=60, notice_interval=0.1, close_rate=100), start)

    step = drain.step(now=now, open_connections=1, not_closed=1)

    assert step.notify
    assert step.wake_at > now


@dataclass
class Clients:
    """A worker's clients, driven as GracefulShutdown does, with a clock of their own."""

    drain: Drain
    policy: DrainPolicy
    now: float
    not_closed: int
    closed: int = 0
    closes: list[tuple[float, int]] = field(default_factory=list)
    notices: list[float] = field(default_factory=list)
    over_at: float | None = None
    aborted: bool = False

    def step(self) -> float:
        """Do what the drain wants; when it wants to be asked again."""
        step = self.drain.step(
            now=self.now,
            open_connections=self.not_closed + self.closed,
            not_closed=self.not_closed,
        )
        assert 0 <= step.close <= self.not_closed
        if step.finished:
            self.over_at, self.aborted = self.now, step.abort
            assert not step.notify
            return math.inf
        if step.notify:
            self.notices.append(self.now)
            assert self.not_closed > step.close
        if step.close:
            self.closes.append((self.now, step.close))
        self.not_closed -= step.close
        self.closed += step.close
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


POLICIES = st.builds(
    DrainPolicy,
    timeout=st.floats(0, 100),
    notice_interval=st.floats(0.2, 20),
    close_rate=st.floats(0.1, 500),
    close_wait=st.floats(0, 5),
)
EVENTS = st.lists(
    st.tuples(
        st.floats(0, 10),  # seconds later, or when the drain wants to be asked, if that is sooner
        st.sampled_from(("come", "leave", "answer", "force", "nothing")),
        st.integers(1, 50),
    ),
    max_size=40,
)


@given(policy=POLICIES, start=st.floats(0, 1e6), clients=st.integers(0, 2000), events=EVENTS)
def test_whatever_happens_the_promises_hold(
    policy: DrainPolicy,
    start: float,
    clients: int,
    events: list[tuple[float, str, int]],
) -> None:
    worker = Clients(Drain(policy, start), policy, start, clients)
    wake_at = worker.step()
    for after, event, number in events:
        later = worker.now + after
        while worker.over_at is None and wake_at <= later:
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

    check(worker, start, clients)


def happen(worker: Clients, event: str, number: int) -> None:
    """Let clients come, leave by themselves or answer their close; or force the drain."""
    if event == "come":
        worker.not_closed += number
    elif event == "leave":
        worker.not_closed -= min(number, worker.not_closed)
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
    batch = 0.1 * policy.close_rate + 2
    for index, (since, _) in enumerate(before):
        total = 0
        for at, number in before[index:]:
            total += number
            assert total <= (at - since) * policy.close_rate + batch
    if deadline > start and clients > sum(number for at, number in before if at == start):
        assert worker.notices[:1] == [start]
    assert len(set(worker.notices)) == len(worker.notices)
