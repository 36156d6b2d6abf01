"""The host bus where the contract does not look: losses, bounds, bad peers, a full disk."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio.abc import TaskStatus
from hypothesis import given
from hypothesis import strategies as st

from lastcall.broker import bus_connection, history_pages, unacknowledged, unix_socket
from lastcall.broker.base import HistoryLimits, Publication, StreamPosition
from lastcall.broker.bus_client import BusClient
from lastcall.broker.bus_messages import (
    DECODE_FROM_SEQUENCER,
    DECODE_FROM_WORKER,
    MAX_FRAME,
    FrameReader,
    FromSequencer,
    FromWorker,
    Hello,
    Outgoing,
    Ping,
    Publish,
    Refusal,
    Subscribe,
    Welcome,
    frame,
)
from lastcall.broker.sequencer import Peer, Sequencer
from lastcall.broker.unix_socket import UnixSocketBroker
from lastcall.errors import BrokerUnavailable, SettingsError, UnrecoverablePosition
from lastcall.log_file import LogFile
from lastcall.stream_log import Append, StreamLog

pytestmark = pytest.mark.anyio


@dataclass
class Heard:
    """A hub that writes down what it is told."""

    delivered: list[Publication] = field(default_factory=list)
    resets: list[StreamPosition] = field(default_factory=list)
    availability: list[bool] = field(default_factory=list)
    news: anyio.Event = field(default_factory=anyio.Event)

    def deliver(self, publication: Publication, /) -> None:
        self.delivered.append(publication)
        self.news.set()

    def reset(self, channel: str, position: StreamPosition, /) -> None:
        assert channel == "a"
        self.resets.append(position)
        self.news.set()

    def available(self, yes: bool, /) -> None:  # noqa: FBT001  (the seam has it so)
        self.availability.append(yes)
        self.news.set()

    async def until(self, reached: Callable[["Heard"], bool]) -> None:
        with anyio.fail_after(10):
            while not reached(self):
                self.news = anyio.Event()
                await self.news.wait()

    @property
    def data(self) -> list[bytes]:
        return [p.data for p in self.delivered]


@dataclass
class Bus:
    """A sequencer without sockets, and what connects workers to it."""

    sequencer: Sequencer
    file: LogFile

    def worker(self) -> tuple[BusClient, Heard, Callable[[], None]]:
        """A worker, its hub, and a function that connects it (once more)."""
        client, heard = BusClient(), Heard()
        client.open(heard)

        def receive(peer: list[Peer], outgoing: Outgoing) -> None:
            if peer[0] in self.sequencer._peers:  # noqa: SLF001  (what a closed socket does)
                client.receive(outgoing.message)

        def connect() -> None:
            peers: list[Peer] = []
            peers.append(Peer(partial(receive, peers)))
            self.sequencer.attach(peers[0])
            client.connected(partial(self.sequencer.receive, peers[0]))
            self.sequencer.attach(peers[0])

        connect()
        return client, heard, connect

    def lose(self, client: BusClient) -> None:
        """What happens to both sides when a connection is cut."""
        sender = client._send  # noqa: SLF001  (the connection's place)
        assert isinstance(sender, partial)
        self.sequencer.detach(sender.args[0])
        client.disconnected()


LIMITS = HistoryLimits(size=3000, ttl=1e9)


@asynccontextmanager
async def running_bus(limits: HistoryLimits = LIMITS, path: str = "") -> AsyncIterator[Bus]:
    with TemporaryDirectory() as directory:
        target = Path(path or directory) / "log"
        file = await anyio.to_thread.run_sync(LogFile, target, "boot")
        state = await anyio.to_thread.run_sync(file.load, 0.0)
        one = Sequencer(file, StreamLog(limits, state), limits, lambda: 1000.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.run)
            yield Bus(one, file)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(file.close)


def publish(client: BusClient, data: bytes) -> "asyncio.Future[StreamPosition]":
    return client.publish(Append("a", data))


async def test_a_worker_that_was_lost_catches_up_over_many_pages() -> None:
    async with running_bus() as bus:
        client, heard, connect = bus.worker()
        other, _, _ = bus.worker()
        await client.subscribe("a")
        await publish(other, b"0")
        await heard.until(lambda it: len(it.delivered) == 1)
        bus.lose(client)
        for result in [publish(other, b"%d" % n) for n in range(1, 2501)]:
            await result
        connect()
        await heard.until(lambda it: len(it.delivered) == 2501)

        assert heard.data == [b"%d" % n for n in range(2501)]
        assert heard.resets == []
        assert heard.availability == [True, False, True]


async def test_what_was_sent_while_nobody_carried_it_is_carried_later() -> None:
    async with running_bus() as bus:
        client, heard, connect = bus.worker()
        await client.subscribe("a")
        bus.lose(client)
        results = [publish(client, b"%d" % n) for n in range(3)]
        connect()

        assert [(await result).offset for result in results] == [1, 2, 3]
        await heard.until(lambda it: len(it.delivered) == 3)
        assert heard.data == [b"0", b"1", b"2"]


async def test_an_answer_that_was_lost_is_given_again_and_nothing_doubled() -> None:
    async with running_bus() as bus:
        client, _, connect = bus.worker()
        _, _heard, _ = bus.worker()
        results = [publish(client, b"%d" % n) for n in range(3)]
        # Written, but the connection ends before the answer comes.
        bus.lose(client)
        connect()

        assert [(await result).offset for result in results] == [1, 2, 3]
        assert len((await client.history("a", None, None)).publications) == 3


async def test_a_gap_that_cannot_be_closed_is_told_and_the_rest_delivered() -> None:
    async with running_bus(HistoryLimits(size=10, ttl=1e9)) as bus:
        client, heard, connect = bus.worker()
        other, _, _ = bus.worker()
        start = await client.subscribe("a")
        bus.lose(client)
        for n in range(30):
            await publish(other, b"%d" % n)
        connect()
        await heard.until(lambda it: len(it.delivered) == 10)

        assert heard.resets == [StreamPosition(20, start.epoch)]
        assert heard.data == [b"%d" % n for n in range(20, 30)]


async def test_another_log_is_another_epoch_to_everybody() -> None:
    async with running_bus() as bus:
        client, heard, _ = bus.worker()
        old = await client.subscribe("a")
        await publish(client, b"old")
        bus.lose(client)
    async with running_bus() as bus:
        other, _, _ = bus.worker()
        new = await publish(other, b"new")
        peer = Peer(lambda outgoing: client.receive(outgoing.message))
        bus.sequencer.attach(peer)
        client.connected(partial(bus.sequencer.receive, peer))

        assert heard.resets == [StreamPosition(0, new.epoch)]
        assert heard.data == [b"old", b"new"]
        with pytest.raises(UnrecoverablePosition):
            await client.history("a", old, None)


async def test_history_is_read_over_many_pages() -> None:
    async with running_bus() as bus:
        client, _, _ = bus.worker()
        big = b"x" * (history_pages.PAGE_BYTES // 4)
        for result in [publish(client, b"") for _ in range(2100)] + [publish(client, big)]:
            await result
        for _ in range(9):
            await publish(client, big)

        everything = await client.history("a", None, None)
        assert [p.offset for p in everything.publications] == list(range(1, 2111))
        since = everything.publications[99]
        some = await client.history("a", StreamPosition(since.offset, since.epoch), 1500)
        assert [p.offset for p in some.publications] == list(range(101, 1601))


async def test_the_file_is_read_when_the_ring_does_not_reach() -> None:
    with TemporaryDirectory() as directory:
        async with running_bus(path=directory) as bus:
            client, _, _ = bus.worker()
            start = await client.subscribe("a")
            for n in range(5):
                await publish(client, b"%d" % n)
        async with running_bus(path=directory) as bus:
            client, _heard, _connect = bus.worker()
            history = await client.history("a", start, None)
            assert [p.data for p in history.publications] == [b"0", b"1", b"2", b"3", b"4"]
            with pytest.raises(UnrecoverablePosition):
                await client.history("a", StreamPosition(2, "another"), None)


async def test_a_full_disk_refuses_and_is_noticed_to_have_room_again() -> None:
    async with running_bus() as bus:
        client, heard, _ = bus.worker()
        await client.subscribe("a")
        connection = bus.file._connection  # noqa: SLF001  (SQLite's own way to have a small disk)
        set_pages = connection.execute
        await anyio.to_thread.run_sync(set_pages, "PRAGMA max_page_count = 1")
        with pytest.raises(BrokerUnavailable, match="cannot be written"):
            await publish(client, b"x" * 100_000)
        assert heard.availability == [True, False]
        await anyio.to_thread.run_sync(set_pages, "PRAGMA max_page_count = 1000000")
        await heard.until(lambda it: it.availability == [True, False, True])

        assert (await publish(client, b"y")).offset == 1
        assert heard.data == [b"y"]


async def test_a_channel_is_cleared_as_soon_as_somebody_can() -> None:
    async with running_bus() as bus:
        client, heard, connect = bus.worker()
        await publish(client, b"old")
        bus.lose(client)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.clear, "a")
            await anyio.lowlevel.checkpoint()
            connect()
        assert list((await client.history("a", None, None)).publications) == []
        await publish(client, b"new")

        execute = bus.file._connection.execute  # noqa: SLF001  (SQLite's own way to refuse)
        await anyio.to_thread.run_sync(execute, "PRAGMA query_only = ON")
        with pytest.raises(BrokerUnavailable, match="cannot be written"):
            await client.clear("a")
        await anyio.to_thread.run_sync(execute, "PRAGMA query_only = OFF")
        assert len((await client.history("a", None, None)).publications) == 1
        assert heard.resets == []


async def test_unacknowledged_publications_are_bounded_in_bytes_and_time() -> None:
    client = BusClient()
    client.open(Heard())
    piece = b"x" * 2**20
    waiting = [publish(client, piece) for _ in range(unacknowledged.MAX_BYTES // 2**20 - 1)]
    with pytest.raises(BrokerUnavailable, match="too many"):
        await publish(client, piece)
    with pytest.raises(BrokerUnavailable, match="more than"):
        await publish(client, b"x" * (unacknowledged.MAX_DATA + 1))

    now = asyncio.get_running_loop().time()
    client.expire(now)
    assert not waiting[0].done()
    client.expire(now + unacknowledged.ANSWER_SECONDS + 1)
    for result in waiting:
        with pytest.raises(BrokerUnavailable, match="in time"):
            await result
    last = publish(client, b"room again")
    client.close()
    with pytest.raises(BrokerUnavailable, match="not running"):
        await last


def test_a_run_directory_that_is_too_long_for_a_socket_is_refused_in_words() -> None:
    with pytest.raises(SettingsError, match="LASTCALL_RUN_DIR"):
        UnixSocketBroker(Path("/tmp") / ("x" * 100), Path("/tmp"), LIMITS)  # noqa: S108  (never made)


MESSAGES: list[FromWorker] = [
    Hello(),
    Ping(),
    Publish(Append("a", b"\x00" * 300, key="k")),
    Subscribe(1, "a", StreamPosition(1, "e")),
]


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.lists(st.integers(1, 60), max_size=20))
def test_a_stream_is_cut_into_the_same_messages_however_it_arrives(
    messages: list[FromWorker], pieces: list[int]
) -> None:
    stream = b"".join(frame(message) for message in messages)
    reader, found = FrameReader(), []
    for piece in [*pieces, len(stream)]:
        found += [DECODE_FROM_WORKER.decode(encoded) for encoded in reader.feed(stream[:piece])]
        stream = stream[piece:]

    assert found == messages


@dataclass
class Stranger:
    """Somebody who speaks to the socket of the bus without being a worker of ours."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: FrameReader = field(default_factory=FrameReader)

    async def says(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hears(self) -> list[FromSequencer]:
        """The next messages; none if the connection was ended."""
        with anyio.fail_after(5):
            data = await self.reader.read(65536)
        return [DECODE_FROM_SEQUENCER.decode(encoded) for encoded in self.frames.feed(data)]


@asynccontextmanager
async def running_broker() -> AsyncIterator[tuple[UnixSocketBroker, Heard, Path]]:
    with TemporaryDirectory(prefix="lc") as directory:
        run_dir = Path(directory)
        broker, heard = UnixSocketBroker(run_dir, run_dir / "state", LIMITS), Heard()
        async with anyio.create_task_group() as tasks:
            await tasks.start(broker.run, heard)
            yield broker, heard, run_dir / "bus.sock"
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("somebody_stays", [True, False])
async def test_a_worker_that_leaves_leads_only_where_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch, *, somebody_stays: bool
) -> None:
    monkeypatch.setattr(unix_socket, "COURTESY_SECONDS", 60.0 if somebody_stays else 0.1)
    leaves = False
    with TemporaryDirectory(prefix="lc") as directory:
        run_dir = Path(directory)
        log = run_dir / "state"
        first, other = (UnixSocketBroker(run_dir, log, LIMITS) for _ in range(2))
        leaving = UnixSocketBroker(run_dir, log, LIMITS, stands_back=lambda: leaves)
        scope, heard = anyio.CancelScope(), Heard()

        async def lead(*, task_status: TaskStatus[None]) -> None:
            with scope:
                await first.run(Heard(), task_status=task_status)

        async with anyio.create_task_group() as tasks:
            await tasks.start(lead)
            await tasks.start(leaving.run, heard)
            if somebody_stays:
                await tasks.start(other.run, Heard())
            leaves = True
            scope.cancel()
            await heard.until(lambda heard: heard.availability == [True, False, True])
            leader = other if somebody_stays else leaving
            assert leader._tenure is not None  # noqa: SLF001  (nobody else knows who leads)
            tasks.cancel_scope.cancel()


async def test_a_sequencer_that_leaves_makes_way_for_one_that_stays() -> None:
    """At once, and with all that was published: nobody hears of it."""
    leaves = False
    with TemporaryDirectory(prefix="lc") as directory:
        run_dir = Path(directory)
        log = run_dir / "state"
        leaving = UnixSocketBroker(run_dir, log, LIMITS, stands_back=lambda: leaves)
        staying, heard = UnixSocketBroker(run_dir, log, LIMITS), Heard()
        async with anyio.create_task_group() as tasks:
            await tasks.start(leaving.run, Heard())
            await tasks.start(staying.run, heard)
            await staying.subscribe("a")
            await leaving.publish("a", b"before")
            leaves = True
            await heard.until(lambda heard: heard.availability == [True, False, True])
            assert staying._tenure is not None  # noqa: SLF001  (nobody else knows who leads)
            await leaving.publish("a", b"after")
            assert heard.data == [b"before", b"after"]
            assert heard.resets == []
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def stranger(path: Path) -> AsyncIterator[Stranger]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Stranger(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (MAX_FRAME + 1).to_bytes(4),
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x02\x91\x63",
        frame(Publish(Append("a", b"before hello"))),
    ],
    ids=["http", "too long", "empty", "unknown", "no hello"],
)
async def test_garbage_ends_whoever_sent_it_and_nobody_else(garbage: bytes) -> None:
    async with running_broker() as (broker, heard, path), stranger(path) as somebody:
        await somebody.says(garbage)
        assert await somebody.hears() == []

        await broker.subscribe("a")
        await broker.publish("a", b"unharmed")
        assert heard.data == [b"unharmed"]
        assert heard.availability == [True]


async def test_a_release_too_far_away_is_refused_in_words() -> None:
    async with running_broker() as (_, _, path), stranger(path) as somebody:
        await somebody.says(frame(Hello(oldest=98, newest=99)))
        (refusal,) = await somebody.hears()

        assert isinstance(refusal, Refusal)
        assert "98 to 99" in refusal.reason
        assert await somebody.hears() == []


async def test_a_neighbouring_release_is_spoken_to_in_the_version_of_both() -> None:
    async with running_broker() as (_, _, path), stranger(path) as somebody:
        await somebody.says(frame(Hello(oldest=1, newest=2)))

        assert (await somebody.hears())[0] == Welcome(1)


async def test_a_worker_that_does_not_read_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with running_broker() as (broker, _, path):
        with socket.socket(socket.AF_UNIX) as deaf:
            await anyio.to_thread.run_sync(deaf.connect, str(path))
            deaf.sendall(frame(Hello()) + frame(Subscribe(1, "a", None)))
            piece = b"x" * 2**20
            # The others go on while it sits there.
            for _ in range(bus_connection.MAX_BACKLOG // 2**20 + 3):
                await broker.publish("a", piece)

    assert "too slowly" in caplog.text
