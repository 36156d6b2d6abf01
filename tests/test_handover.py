"""What becomes of a client when either of the two workers is at its end, or at its limit."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lastcall import handover_receiver, handover_sender
from lastcall.broker.base import StreamPosition
from lastcall.errors import ServerShutdown
from lastcall.handover_messages import (
    VERSION,
    ConnectionState,
    Done,
    Hello,
    Late,
    Offer,
    Postscript,
    Welcome,
    decode,
    encode,
)
from lastcall.handover_receiver import HandoverReceiver
from lastcall.moving import Moving
from lastcall.socket_handover import (
    Claims,
    HandoverChannel,
    accept,
    close_all,
    listening,
    reach,
    socket_path,
)
from tests.handover_places import CHANNEL, Place, two_places
from tests.uvicorn_host import TIMEOUT

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no silent worker."""
    for name in ("HELLO_TIME", "PAUSE_TIME"):
        monkeypatch.setattr(handover_sender, name, TIMEOUT)
    for name in ("SUBSCRIBE_TIME", "HISTORY_TIME"):
        monkeypatch.setattr(handover_receiver, name, TIMEOUT)


@asynccontextmanager
async def client_of(place: Place) -> AsyncIterator[ClientConnection]:
    """A client that is connected to *place*."""
    async with connect(place.host.url, ping_interval=None, compression=None) as client:
        await place.host.until(lambda: place.worker.connections.count)
        yield client


async def hears(client: ClientConnection, *texts: str) -> None:
    async with asyncio.timeout(TIMEOUT):
        assert [await client.recv() for _ in texts] == list(texts)


async def is_served_by(place: Place, client: ClientConnection, text: str = "hello") -> None:
    """What the client says is heard by it, once."""
    assert place.worker.connections.count == 1
    await client.send(text)
    await hears(client, text)


async def test_a_client_goes_on_with_another_worker(tmp_path: Path) -> None:
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        await is_served_by(old, client)
        await old.sender.round([new.record])
        assert old.sender.moved == 1
        assert old.worker.connections.count == 0
        bus.publish("news")
        await hears(client, "news")
        await is_served_by(new, client)
        assert new.connection.user == "somebody"
        assert not old.ends
        # And back, with what it has heard meanwhile.
        await new.sender.round([old.record])
        await is_served_by(old, client, "hello again")
        assert not new.ends
    assert old.ends == [1000]


async def test_a_worker_that_has_heard_more_fills_the_gap(tmp_path: Path) -> None:
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        await is_served_by(old, client)
        old.view.lags = True
        await new.worker.interest.listen([CHANNEL])
        bus.publish("one")
        bus.publish("two")
        await old.sender.round([new.record])
        assert (old.sender.replayed, old.sender.lost) == (2, 0)
        bus.publish("three")
        await hears(client, "one", "two", "three")


async def test_a_worker_that_has_heard_less_repeats_nothing(tmp_path: Path) -> None:
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        await new.worker.interest.listen([CHANNEL])
        new.view.lags = True
        bus.publish("one")
        await hears(client, "one")
        await old.sender.round([new.record])
        bus.publish("two")
        new.view.deliver()
        await hears(client, "two")
        await new.sender.round([old.record])
        bus.publish("three")
        await hears(client, "three")


async def test_who_cannot_have_all_it_missed_stays(tmp_path: Path) -> None:
    """History is too short: the other worker refuses, and nothing is lost here."""
    async with two_places(tmp_path, history=1) as (old, new, bus), client_of(old) as client:
        old.view.lags = True
        await new.worker.interest.listen([CHANNEL])
        for text in ("one", "two"):
            bus.publish(text)
        await old.sender.round([new.record])
        assert old.sender.moved == 0
        old.view.lags = False
        old.view.deliver()
        await hears(client, "one", "two")
        await is_served_by(old, client)


@pytest.mark.parametrize("why", ["leaving", "full", "no broker", "no endpoint", "nobody", "later"])
async def test_who_is_refused_stays_and_notices_nothing(tmp_path: Path, why: str) -> None:
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        record = new.record
        match why:
            case "leaving":
                new.is_leaving = True
            case "full":
                object.__setattr__(new.worker, "max_connections", 0)
            case "no broker":
                new.view.is_away = True
            case "no endpoint":
                del new.endpoints._by_name[""]  # noqa: SLF001  (another release of the application)
            case "nobody":
                record = replace(record, pid=1)
            case "later":
                # Between its welcome and the offer it is told to leave.
                freeze = old.mover.freeze

                def leave(connections: Any) -> list[Moving]:
                    new.is_leaving = True
                    return freeze(connections)

                old.mover.freeze = leave  # type: ignore[method-assign]
        await old.sender.round([record])
        assert old.sender.moved == 0
        assert new.worker.connections.count == 0
        bus.publish("news")
        await hears(client, "news")
        await is_served_by(old, client)
    assert old.ends == [1000]


async def test_what_the_application_is_doing_for_a_client_is_done_first(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:

        async def slowly(connection: Any, message: str | bytes) -> None:
            await go_on.wait()
            connection.send(f"done: {message!r}")

        old.endpoints[""].on_message = slowly
        await client.send("work")
        await old.host.until(lambda: old.tasks)
        await old.sender.round([new.record])
        assert old.sender.moved == 0
        go_on.set()
        await hears(client, "done: 'work'")
        await old.host.until(lambda: not old.tasks)
        await old.sender.round([new.record])
        assert old.sender.moved == 1
        await is_served_by(new, client)


async def test_a_used_up_rate_is_not_a_new_one_elsewhere(tmp_path: Path) -> None:
    async with two_places(tmp_path, message_rate=2) as (old, new, _), client_of(old) as client:
        for text in ("one", "two", "three"):
            await client.send(text)
        await hears(client, "one", "two")
        await old.sender.round([new.record])
        assert new.worker.commands.used_rate(new.connection) == 2
        assert not new.worker.hub._turn  # noqa: SLF001  (the third is not even read)
        new.worker.next_second()
        await hears(client, "three")


type Script = Callable[[HandoverChannel], Awaitable[None]]


@asynccontextmanager
async def played(run_dir: Path, script: Script) -> AsyncIterator[int]:
    """A ready worker that says what the script says; its pid."""
    async with listening(socket_path(run_dir, 4711)) as listener:

        async def play() -> None:
            while (channel := await accept(listener)) is None:
                pass
            try:
                await script(channel)
            finally:
                channel.close()

        task = asyncio.create_task(play())
        try:
            yield 4711
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def silent(_channel: HandoverChannel) -> None:
    await asyncio.Event().wait()


async def welcomes_and_dies(channel: HandoverChannel) -> None:
    await channel.expect(Hello)
    await channel.send(Welcome())


async def takes_the_offer_and_dies(channel: HandoverChannel) -> None:
    await welcomes_and_dies(channel)
    _, descriptors = await channel.receive()
    close_all(descriptors)


async def takes_the_offer_and_hangs(channel: HandoverChannel) -> None:
    await takes_the_offer_and_dies(channel)
    with pytest.raises(EOFError):
        await channel.receive()


async def says_that_it_is_done(channel: HandoverChannel) -> None:
    await takes_the_offer_and_dies(channel)
    await channel.send(Done())


async def talks_nonsense(channel: HandoverChannel) -> None:
    await takes_the_offer_and_dies(channel)
    await channel.send(Welcome())


@pytest.mark.parametrize(
    "script",
    [
        silent,
        welcomes_and_dies,
        takes_the_offer_and_dies,
        takes_the_offer_and_hangs,
        says_that_it_is_done,
        talks_nonsense,
    ],
)
async def test_a_receiver_that_claims_nobody_costs_nothing(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is served on by its old worker; what was published meanwhile is not lost."""
    monkeypatch.setattr(handover_sender, "HELLO_TIME", 0.2)
    monkeypatch.setattr(handover_sender, "PAUSE_TIME", 0.2)
    async with two_places(tmp_path) as (old, _, bus), client_of(old) as client:

        async def and_publishes(channel: HandoverChannel) -> None:
            bus.publish("meanwhile")
            await script(channel)

        async with played(tmp_path, and_publishes) as pid:
            await client.send("while frozen")
            await old.sender.round([replace(old.record, pid=pid)])
            assert old.sender.moved == 0
            heard = {await client.recv(), await client.recv()}
            assert heard == {"while frozen", "meanwhile"}
            await is_served_by(old, client)
    assert old.ends == [1000]


async def claim_all(channel: HandoverChannel) -> list[int]:
    """Claim all that is offered; their sockets."""
    await welcomes_and_dies(channel)
    message, descriptors = await channel.receive()
    assert isinstance(message, Offer)
    count = len(message.states)
    claims = Claims(descriptors[count:])
    assert claims.rest() == {*range(count)}
    claims.close()
    return descriptors[:count]


async def test_a_receiver_that_dies_with_clients_it_has_claimed_ends_them_in_order(
    tmp_path: Path,
) -> None:
    """Nobody knows what they have heard: 1012, and they come back."""

    async def claims_and_dies(channel: HandoverChannel) -> None:
        close_all(await claim_all(channel))

    async with two_places(tmp_path) as (old, _, _bus), client_of(old) as client:
        async with played(tmp_path, claims_and_dies) as pid:
            await old.sender.round([replace(old.record, pid=pid)])
        assert (old.sender.moved, old.sender.lost) == (0, 1)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert old.worker.connections.count == 0
    assert old.ends == [1012]


async def test_a_receiver_that_hangs_with_clients_it_has_claimed_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped, and so are its clients, like all that it has. When it goes on, so do they."""
    monkeypatch.setattr(handover_sender, "PAUSE_TIME", 0.2)
    async with two_places(tmp_path) as (old, _, _bus), client_of(old) as client:
        taken: list[int] = []

        async def claims_and_hangs(channel: HandoverChannel) -> None:
            taken.extend(await claim_all(channel))
            await silent(channel)

        async with played(tmp_path, claims_and_hangs) as pid:
            await old.sender.round([replace(old.record, pid=pid)])
            assert old.sender.moved == 1
            assert old.worker.connections.count == 0
            await client.send("are you there?")
            (descriptor,) = taken
            with socket.socket(fileno=descriptor) as kept:
                kept.settimeout(TIMEOUT)
                assert kept.recv(100)  # nobody has read from it, and nobody has closed it
    assert not old.ends


async def test_a_receiver_that_dies_with_some_of_them_costs_the_others_nothing(
    tmp_path: Path,
) -> None:
    async def claims_the_first_and_dies(channel: HandoverChannel) -> None:
        await welcomes_and_dies(channel)
        _, descriptors = await channel.receive()
        claims = Claims(descriptors[2:])
        assert claims.take(0)
        close_all(descriptors)

    async with (
        two_places(tmp_path) as (old, _, _bus),
        client_of(old) as first,
        connect(old.host.url, ping_interval=None, compression=None) as second,
        played(tmp_path, claims_the_first_and_dies) as pid,
    ):
        await old.host.until(lambda: old.worker.connections.count == 2)
        await old.sender.round([replace(old.record, pid=pid)])
        assert (old.sender.moved, old.sender.lost) == (0, 1)
        with pytest.raises(ConnectionClosed):
            await first.recv()
        await is_served_by(old, second)
    assert old.ends == [1012, 1000]


async def test_a_receiver_that_wakes_up_too_late_has_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover_sender, "PAUSE_TIME", 0.2)
    async with two_places(tmp_path) as (old, _, bus), client_of(old) as client:
        may_go_on, claimed = asyncio.Event(), asyncio.Event()

        async def sleeps(channel: HandoverChannel) -> None:
            await welcomes_and_dies(channel)
            _, descriptors = await channel.receive()
            await may_go_on.wait()
            assert Claims(descriptors[1:]).rest() == set()
            close_all(descriptors)
            claimed.set()

        async with played(tmp_path, sleeps) as pid:
            await old.sender.round([replace(old.record, pid=pid)])
            assert old.sender.moved == 0
            bus.publish("meanwhile")
            may_go_on.set()
            await claimed.wait()
            await hears(client, "meanwhile")
            await is_served_by(old, client)


async def test_a_history_that_comes_too_late_is_for_the_old_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lacks something is not claimed before it is there."""
    monkeypatch.setattr(handover_sender, "PAUSE_TIME", 0.2)
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        may_go_on = asyncio.Event()
        complete = new.mover.complete

        async def sleeps(arriving: Any, within: float) -> None:
            await may_go_on.wait()
            await complete(arriving, within)

        monkeypatch.setattr(new.mover, "complete", sleeps)
        old.view.lags = True
        await new.worker.interest.listen([CHANNEL])
        bus.publish("before")
        await old.sender.round([new.record])
        old.view.lags = False
        bus.publish("meanwhile")
        new.worker.interest.stop_listening([CHANNEL])
        may_go_on.set()
        await new.host.until(lambda: new.hub.head(CHANNEL) is None)
        assert new.worker.connections.count == old.sender.moved == 0
        await hears(client, "before", "meanwhile")
        await is_served_by(old, client)


async def test_what_a_worker_has_heard_since_it_said_welcome_it_does_not_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its welcome and the offer: one worker has heard it by then, the other has not yet."""
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        await is_served_by(old, client)
        freeze = old.mover.freeze

        def publish(connections: Any) -> list[Moving]:
            old.view.lags = True
            bus.publish("one")
            bus.publish("two")
            return freeze(connections)

        async def ask(*_: Any) -> None:
            raise AssertionError("it is known")

        monkeypatch.setattr(old.mover, "freeze", publish)
        monkeypatch.setattr(new.view, "history", ask)
        await old.sender.round([new.record])
        assert (old.sender.moved, old.sender.replayed) == (1, 2)
        await hears(client, "one", "two")
        await is_served_by(new, client)


async def test_who_is_being_offered_is_not_missed_if_their_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last record is all that the others know; by then another may have them."""
    async with two_places(tmp_path, announcements=True) as (old, new, _), client_of(old) as client:
        counts: list[dict[str, int]] = []
        prepare = new.mover.prepare

        def look(*offered: Any) -> Moving:
            counts.append(old.announced)
            return prepare(*offered)

        monkeypatch.setattr(new.mover, "prepare", look)
        new.endpoints._by_name, endpoints = {}, new.endpoints._by_name  # noqa: SLF001  (refused)
        old.worker.record()
        assert old.announced == {CHANNEL: 1}
        await old.sender.round([new.record])
        old.worker.record()
        assert old.announced == {CHANNEL: 1}  # it came back
        new.endpoints._by_name = endpoints  # noqa: SLF001  (and now not)
        await old.sender.round([new.record])
        old.worker.record()
        new.worker.record()
        assert counts == [{}, {}]
        assert (old.announced, new.announced) == ({}, {CHANNEL: 1})
        await client.close()


async def offer(old: Place, new: Place) -> tuple[HandoverChannel, Moving, Claims]:
    """As far as a sender comes before it hears that it is done."""
    channel = await reach(new.path)
    await channel.send(Hello(1, [CHANNEL]))
    assert await channel.expect(Welcome) == Welcome()
    (moving,) = old.mover.freeze([old.connection])
    claims = Claims.of(1)
    await channel.send(Offer([moving.state.encode()]), [moving.descriptor, *claims.descriptors])
    return channel, moving, claims


@pytest.mark.parametrize("hears_done", [True, False])
async def test_a_sender_that_dies_after_its_offer_leaves_its_clients_to_the_receiver(
    tmp_path: Path, *, hears_done: bool
) -> None:
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        channel, moving, claims = await offer(old, new)
        if hears_done:
            assert await channel.expect(Done) == Done()
        bus.publish("meanwhile")
        claims.close()
        channel.close()
        await new.host.until(lambda: new.worker.connections.count)
        old.mover.departed(moving)
        await hears(client, "meanwhile")
        await is_served_by(new, client)


async def test_a_dead_senders_client_whose_history_is_gone_is_told(tmp_path: Path) -> None:
    async with two_places(tmp_path, history=1) as (old, new, bus), client_of(old) as client:
        old.view.lags = True
        await new.worker.interest.listen([CHANNEL])
        for text in ("one", "two"):
            bus.publish(text)
        channel, moving, claims = await offer(old, new)
        assert await channel.expect(Done) == Done()
        assert new.worker.connections.count == 0
        claims.close()
        channel.close()
        old.mover.departed(moving)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3010, "insufficient state")


async def test_what_is_taken_back_leaves_nothing_behind(tmp_path: Path) -> None:
    """Before the other one looks at what it was offered."""
    async with two_places(tmp_path) as (old, new, bus), client_of(old) as client:
        channel, moving, claims = await offer(old, new)
        assert claims.rest() == {0}
        bus.publish("meanwhile")
        claims.close()
        channel.close()
        await old.mover.take_back(moving)
        await hears(client, "meanwhile")
        await new.host.until(lambda: new.hub.head(CHANNEL) is None)
        await is_served_by(old, client)
        assert new.worker.connections.count == 0


async def test_what_its_worker_writes_while_it_is_frozen_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:
        connection = old.connection
        freeze = old.mover.freeze

        def write(connections: Any) -> list[Moving]:
            frozen = freeze(connections)
            connection.send("just for you")
            return frozen

        monkeypatch.setattr(old.mover, "freeze", write)
        await old.sender.round([new.record])
        connection.send("too late")
        await hears(client, "just for you")
        await is_served_by(new, client)


@pytest.mark.parametrize("is_gone", [True, False])
async def test_who_is_closed_while_frozen_is_closed(tmp_path: Path, *, is_gone: bool) -> None:
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:
        channel, moving, claims = await offer(old, new)
        await channel.expect(Done)
        old.worker.connections.close(1, ServerShutdown())
        assert moving.late is not None
        if is_gone:
            new.connection.abort()
            await new.host.until(lambda: not new.worker.connections.count)
        await channel.send(Postscript({0: moving.late, 1: moving.late}))
        claims.close()
        channel.close()
        old.mover.departed(moving)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert is_gone == (closed.value.rcvd is None)
        assert is_gone or (closed.value.rcvd is not None and closed.value.rcvd.code == 1012)
        await new.host.until(lambda: new.hub.head(CHANNEL) is None)
    assert new.ends == [1006 if is_gone else 1012]


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xff" * 100,
    b"\0\0\0\x01\xc1",
    b"\0\0\0\2{}",
    (10).to_bytes(4) + b"half",
    len(encode(Done())).to_bytes(4) + encode(Done()),
    len(encode(Offer([b"x"]))).to_bytes(4) + encode(Offer([b"x"])),
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_on_the_socket_harms_nobody(tmp_path: Path, garbage: bytes) -> None:
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(0)
            stranger.connect(str(new.path))
            stranger.send(garbage)
            stranger.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(TIMEOUT):
                loop = asyncio.get_running_loop()
                while await loop.sock_recv(stranger, 100):
                    pass
        await old.sender.round([new.record])
        await is_served_by(new, client)


async def test_a_state_that_makes_no_sense_is_refused_alone(tmp_path: Path) -> None:
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:
        channel = await reach(new.path)
        await channel.send(Hello(3, [CHANNEL]))
        await channel.expect(Welcome)
        (moving,) = old.mover.freeze([old.connection])
        good = moving.state
        states = [
            b"nonsense",
            msgspec.structs.replace(good, version=VERSION + 1).encode(),
            msgspec.structs.replace(good, protocol="telepathy").encode(),
            msgspec.structs.replace(good, channels=[("other", StreamPosition(0, ""))]).encode(),
            msgspec.structs.replace(good, transport=b"").encode(),
            good.encode(),
        ]
        claims = Claims.of(len(states))
        await channel.send(Offer(states), [moving.descriptor] * len(states) + claims.descriptors)
        await channel.expect(Done)
        assert claims.rest() == {0, 1, 2, 3, 4}
        claims.close()
        channel.close()
        old.mover.departed(moving)
        await is_served_by(new, client)


async def test_a_loop_that_does_not_take_the_socket_is_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:

        async def fail(_transport: object, descriptor: int) -> None:
            os.close(descriptor)
            raise OSError("no room")

        monkeypatch.setattr(new.mover._host, "go_on", fail)  # noqa: SLF001  (nobody else has it)
        await old.sender.round([new.record])
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert new.ends == [1006]
        assert new.worker.connections.count == old.worker.connections.count == 0


async def test_without_a_socket_a_worker_serves_but_takes_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_places(tmp_path) as (old, new, _):
        nowhere = tmp_path / "missing" / "handover"
        receiver = HandoverReceiver(new.worker, new.mover, nowhere, lambda: False)
        task = asyncio.create_task(receiver.run())
        with caplog.at_level("WARNING"):
            await old.host.until(lambda: "no connection can be handed over" in caplog.text)
        assert not task.done()
        task.cancel()


async def test_clients_that_read_slowly_travel_alone(tmp_path: Path) -> None:
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:
        for number in range(300):
            old.connection.send(f"{number} " * 10_000)
        assert old.connection.backlog > handover_sender.LARGE_BACKLOG
        await old.sender.round([new.record])
        assert old.sender.moved == 1
        for number in range(300):
            await hears(client, f"{number} " * 10_000)
        await is_served_by(new, client)


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    async with two_places(tmp_path) as (old, new, _), client_of(old) as client:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (counts, no paths)
        for source, target in ((old, new), (new, old)) * 5:
            await source.sender.round([target.record])
        await is_served_by(old, client)
        await old.host.until(
            lambda: len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  (the same)
        )


STATE = ConnectionState(
    host="127.0.0.1",
    port=1,
    user=None,
    endpoint="",
    channels=[("news", StreamPosition(7, "epoch"))],
    protocol="plain-text",
    transport=b"\x00\xff",
)


def test_a_later_release_may_say_more() -> None:
    said = msgspec.msgpack.decode(STATE.encode())
    said["mood"] = "fine"
    assert ConnectionState.decode(msgspec.msgpack.encode(said)) == STATE


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_a_value_error(data: bytes) -> None:
    for read in (ConnectionState.decode, decode):
        try:
            read(data)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "message",
    [
        Hello(3, ["a", "b"]),
        Welcome("no"),
        Offer([b"", b"\xff"]),
        Done(),
        Postscript({3: Late([b"frame"], (1012, "why"))}),
    ],
)
def test_messages_come_as_they_went(message: Any) -> None:
    assert decode(encode(message)) == message
