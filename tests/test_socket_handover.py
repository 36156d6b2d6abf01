"""Messages and descriptors between two processes, and who may not send any."""

import asyncio
import os
import resource
import socket
from pathlib import Path

import pytest

from lastcall.handover_messages import MAX_MESSAGE, Done, Offer
from lastcall.socket_handover import (
    BATCH,
    Claims,
    HandoverChannel,
    accept,
    close_all,
    listening,
    reach,
    socket_path,
)
from tests.uvicorn_host import TIMEOUT

pytestmark = pytest.mark.anyio


def channels() -> tuple[HandoverChannel, HandoverChannel]:
    one, two = socket.socketpair()
    return HandoverChannel(one), HandoverChannel(two)


async def test_descriptors_come_with_a_message_that_is_larger_than_any_buffer() -> None:
    one, two = channels()
    reader, writer = os.pipe()
    offer = Offer([bytes(3_000_000)] * 2)
    async with asyncio.timeout(TIMEOUT):
        sending = asyncio.create_task(one.send(offer, [writer] * 2 * BATCH))
        message, descriptors = await two.receive()
        await sending
    assert message == offer
    assert len(descriptors) == 2 * BATCH  # the claims go with the sockets
    assert not any(map(os.get_inheritable, descriptors))
    os.write(descriptors[-1], b"through")
    assert os.read(reader, 100) == b"through"
    close_all([*descriptors, reader, writer])
    one.close()
    two.close()
    two.close()


async def test_what_nobody_took_is_closed() -> None:
    one, two = channels()
    reader, writer = os.pipe()
    await one.send(Offer([b""]), [writer])
    os.close(writer)
    with pytest.raises(ValueError, match="Offer instead of Done"):
        await two.expect(Done)
    assert os.read(reader, 1) == b""
    os.close(reader)
    one.close()
    with pytest.raises(EOFError):
        await two.receive()
    with pytest.raises(OSError, match="Broken pipe"):
        await two.send(Done())
    two.close()


async def test_a_worker_short_of_descriptors_takes_none() -> None:
    one, two = channels()
    reader, writer = os.pipe()
    await one.send(Offer([b""] * BATCH), [writer] * BATCH)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (counts, no paths)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208  (the same)
    limit = [number for number in range(1000) if number not in used][2]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with pytest.raises(ValueError, match="short of descriptors"):
            await two.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    two.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1  # noqa: PTH208  (the same)
    one.close()
    close_all([reader, writer])


async def test_a_length_that_nobody_would_send() -> None:
    one, two = socket.socketpair()
    one.settimeout(0)
    one.send((MAX_MESSAGE + 1).to_bytes(4))
    channel = HandoverChannel(two)
    with pytest.raises(ValueError, match="none of ours"):
        await channel.receive()
    channel.close()
    one.close()


def test_a_claim_is_given_once() -> None:
    mine = Claims.of(4)
    theirs = Claims([os.dup(each) for each in mine.descriptors])
    assert theirs.take(2)
    assert not mine.take(2)
    assert mine.take(0)
    assert not mine.take(0)
    assert theirs.rest() == {1, 3}
    assert mine.rest() == theirs.rest() == set()
    mine.close()
    theirs.close()
    assert mine.rest() == set()
    mine.close()


def test_claims_leave_nothing_open_where_there_is_no_room_for_all() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208  (numbers, no paths)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Claims.of(1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208  (the same)


async def test_other_users_are_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = socket_path(tmp_path, 1)
    async with listening(path) as listener:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(PermissionError):
            await reach(path)
        async with asyncio.timeout(TIMEOUT):
            assert await accept(listener) is None
    with pytest.raises(FileNotFoundError):
        await reach(path)
