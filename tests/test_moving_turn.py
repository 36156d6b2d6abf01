"""Workers that leave together move one batch at a time, unless one of them is stuck."""

import os
from pathlib import Path

import anyio
import pytest

from lastcall import moving_turn
from lastcall.moving_turn import Turn

pytestmark = pytest.mark.anyio


async def test_the_second_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving_turn, "PATIENCE", 60.0)
    order: list[str] = []
    waits = anyio.Event()

    async def second() -> None:
        waits.set()
        async with Turn(tmp_path / "lock").taken():
            order.append("second")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, Turn(tmp_path / "lock").taken():
            tasks.start_soon(second)
            await waits.wait()
            for _ in range(3):
                await anyio.sleep(moving_turn.LOOK_TIME)
            order.append("first")
    assert order == ["first", "second"]


async def test_nobody_waits_long_for_one_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving_turn, "PATIENCE", 0.01)
    with anyio.fail_after(10):
        async with Turn(tmp_path / "lock").taken(), Turn(tmp_path / "lock").taken():
            pass


async def test_without_a_directory_there_are_no_turns_and_nothing_is_left_open(
    tmp_path: Path,
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (counts, no paths)
    async with Turn(tmp_path / "gone" / "lock").taken():
        pass
    async with Turn(tmp_path / "lock").taken():
        pass
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  (the same)
