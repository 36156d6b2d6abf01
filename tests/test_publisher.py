"""A publisher that finds nobody, or whose server is gone, says so in bounded time."""

import time
from pathlib import Path

import pytest

from lastcall import BrokerUnavailable, Publisher

pytestmark = pytest.mark.anyio


async def test_no_server_is_no_place_to_publish_to(tmp_path: Path) -> None:
    started = time.monotonic()
    async with Publisher(run_dir=tmp_path, timeout=0.2) as publisher:
        with pytest.raises(BrokerUnavailable, match="no server with a bus runs here"):
            await publisher.publish("news", "hello")
    assert time.monotonic() - started < 5


def test_plain_function_hears_the_same(tmp_path: Path) -> None:
    with (
        Publisher(run_dir=tmp_path, timeout=0.2) as publisher,
        pytest.raises(BrokerUnavailable, match="no server with a bus runs here"),
    ):
        publisher.publish_sync("news", "hello")


async def test_publisher_that_is_not_entered_says_how(tmp_path: Path) -> None:
    publisher = Publisher(run_dir=tmp_path)
    with pytest.raises(RuntimeError, match="async with"):
        await publisher.publish("news", "hello")
    with pytest.raises(RuntimeError, match="with Publisher"):
        publisher.publish_sync("news", "hello")
