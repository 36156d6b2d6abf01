"""Once a tick of the wall clock, whatever the timers do."""

from dataclasses import dataclass

import anyio
import pytest

from lastcall.connection_manager import ConnectionManager
from lastcall.heartbeat import next_tick, run_heartbeat
from lastcall.hub import Hub
from tests.fakes import RecordingGuest


@pytest.mark.parametrize(
    ("now", "last", "tick"),
    [
        (100.0, None, 11),
        (109.9, None, 11),
        (110.0, 11, 12),
        (109.9999, 11, 12),  # the timer was early
        (135.0, 11, 14),  # what was missed is not made up for
        (50.0, 11, 6),  # the clock was put back
    ],
)
def test_ticks_are_multiples_of_the_interval(now: float, last: int | None, tick: int) -> None:
    assert next_tick(now, 10, last) == tick


@dataclass
class StoppedClock:
    """A clock that stands a moment before a tick, as a timer that fires early would have it."""

    now: float = 0.999

    def __call__(self) -> float:
        return self.now


@pytest.mark.anyio
async def test_a_timer_that_fires_early_does_not_make_two_heartbeats_of_one() -> None:
    heard = anyio.Event()

    class Guest(RecordingGuest):
        def notify(self, text: str) -> None:
            super().notify(text)
            heard.set()

    connections, guest = ConnectionManager(Hub(lambda _flush: None), lambda: None), Guest()
    connections.welcome(guest)
    async with anyio.create_task_group() as tasks:

        async def beat() -> None:
            await run_heartbeat(connections, 1, "Server is running...", clock=StoppedClock())

        tasks.start_soon(beat)
        with anyio.fail_after(5):
            await heard.wait()
        with anyio.move_on_after(0.05):
            await anyio.sleep_forever()
        tasks.cancel_scope.cancel()

    assert guest.heard == ["Server is running..."]
