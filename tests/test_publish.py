"""Publishing as an application does it: in the event loop, from a thread, twice by mistake."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anyio.to_thread import run_sync
from fastapi import FastAPI

from lastcall import Lastcall, Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lastcall(tmp_path: Path) -> AsyncIterator[Lastcall]:
    lastcall = Lastcall(Settings(run_dir=tmp_path / "run", state_dir=tmp_path / "state"))
    async with lastcall.run(FastAPI()):
        yield lastcall


async def test_positions_count_in_the_order_of_calls(lastcall: Lastcall) -> None:
    first, second = lastcall.publish("news", "one"), lastcall.publish("news", "two")

    assert (await second).offset == (await first).offset + 1


async def test_the_same_key_publishes_once(lastcall: Lastcall) -> None:
    first = await lastcall.publish("news", "one", idempotency_key="key")

    assert await lastcall.publish("news", "one", idempotency_key="key") == first
    assert await run_sync(publish_from_a_thread, lastcall, "key") == first
    assert (await lastcall.publish("news", "two")).offset == first.offset + 1


def publish_from_a_thread(lastcall: Lastcall, key: str) -> object:
    return lastcall.publish_sync("news", "one", idempotency_key=key)


async def test_publish_sync_in_the_event_loop_says_what_to_do(lastcall: Lastcall) -> None:
    with pytest.raises(RuntimeError, match="await publish"):
        lastcall.publish_sync("news", "one")


async def test_publishing_without_a_lifespan_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match=r"lifespan=lastcall\.lifespan"):
        await Lastcall(Settings()).publish("news", "one")
