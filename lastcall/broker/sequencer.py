"""The one writer of a host: gives every publication its place, writes it, hands it out."""

import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.to_thread

from lastcall.broker.base import Retention, StreamPosition
from lastcall.broker.bus_messages import (
    Clear,
    Delivery,
    FromWorker,
    Outcome,
    Outcomes,
    Outgoing,
    Page,
    Ping,
    Pong,
    Publish,
    Read,
    Subscribe,
    Unsubscribe,
)
from lastcall.broker.history_pages import HistoryPages
from lastcall.errors import LastcallError
from lastcall.log_file import CHECKPOINT_BYTES, RESTART_BYTES, LogFile
from lastcall.stream_log import Append, Batch, StreamLog

logger = logging.getLogger(__name__)

MAX_BATCH = 2000
MAX_BATCH_BYTES = 4 * 2**20
"""A commit takes at most so much, so that nobody's first publication waits for everybody's last."""
MAX_WAITING_BYTES = 64 * 2**20
"""What may wait for the disk, of all workers; more is refused."""
UPKEEP_SECONDS = 0.5
FLUSH_SECONDS = 3.0
"""How long a sequencer that leaves goes on writing what has arrived."""


@dataclass(eq=False, slots=True)
class Peer:
    """A worker, its sequencer's own included, as the sequencer sees it."""

    send: Callable[[Outgoing], None]
    channels: set[str] = field(default_factory=set)


class Sequencer:
    """Commits in groups: what arrives while a batch is written makes up the next one.

    The file is touched only in threads, one call at a time, in the order of calls.
    """

    def __init__(
        self, file: LogFile, log: StreamLog, limits: Retention, clock: Callable[[], float]
    ) -> None:
        """Go on with *log*, which was loaded from *file*."""
        self._file = file
        self._log = log
        self._limits = limits
        self._history = HistoryPages(file, log, limits, clock)
        self._clock = clock
        self._one_call = anyio.CapacityLimiter(1)
        self._peers: set[Peer] = set()
        self._subscribers: dict[str, set[Peer]] = {}
        self._waiting: deque[tuple[Peer, Append]] = deque()
        self._waiting_bytes = 0
        self._arrived = anyio.Event()
        self._to_clear: list[tuple[Peer, Clear]] = []
        self._to_load: deque[tuple[Peer, Subscribe | Read]] = deque()
        self._load_asked = anyio.Event()
        self._writable = True
        self._expiry_due = False
        self._leaving = False

    @property
    def alone(self) -> bool:
        """Whether no worker is served but at most our own."""
        return len(self._peers) <= 1

    async def run(self) -> None:
        """Serve until cancelled; what has arrived by then is still written and acknowledged.

        Raises:
            UnusableLogError: the file is damaged; another log has to be begun.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._commit_for_ever)
                tasks.start_soon(self._load_for_ever)
                tasks.start_soon(self._keep_up)
        except anyio.get_cancelled_exc_class():
            self._leaving = True
            with (
                anyio.move_on_after(FLUSH_SECONDS, shield=True),
                # What cannot be written now, its publisher sends again to the next sequencer.
                contextlib.suppress(LastcallError, sqlite3.Error),
            ):
                while self._waiting and self._writable:
                    await self._commit()
            raise

    def attach(self, peer: Peer) -> None:
        """Serve *peer*."""
        self._peers.add(peer)
        peer.send(Outgoing(Pong(self._writable)))

    def detach(self, peer: Peer) -> None:
        """Forget *peer*; what it published is carried all the same."""
        self._peers.discard(peer)
        for channel in list(peer.channels):
            self._unsubscribe(peer, channel)

    def receive(self, peer: Peer, message: FromWorker) -> None:
        """Do what *peer* asks for."""
        match message:
            case Publish(append):
                self._enqueue(peer, append)
            case Subscribe():
                self._subscribe(peer, message)
            case Unsubscribe(channel):
                self._unsubscribe(peer, channel)
            case Read():
                self._read(peer, message)
            case Clear():
                self._to_clear.append((peer, message))
                self._arrived.set()
            case Ping():
                peer.send(Outgoing(Pong(self._writable)))

    def _enqueue(self, peer: Peer, append: Append) -> None:
        if self._leaving:
            # Neither taken nor refused: its publisher sends it again to the next sequencer.
            return
        if self._waiting_bytes > MAX_WAITING_BYTES:
            outcome = Outcome(append.sequence, None, "too much waits for the disk")
            peer.send(Outgoing(Outcomes([outcome])))
            return
        self._waiting.append((peer, append))
        self._waiting_bytes += len(append.data)
        self._arrived.set()

    async def _commit_for_ever(self) -> None:
        while True:
            if not (self._waiting or self._expiry_due or self._to_clear):
                self._arrived = anyio.Event()
                await self._arrived.wait()
            if self._expiry_due:
                await self._expire()
            await self._commit()
            await self._clear()

    async def _commit(self) -> None:
        taken = self._take()
        batch = self._log.prepare([append for _, append in taken], self._clock())
        try:
            if batch.publications:
                await self._in_thread(partial(self._file.append, batch))
        except sqlite3.IntegrityError:
            # The file is ahead of what we know; whoever opens it next knows more.
            raise
        except (OSError, sqlite3.Error) as error:
            self._refuse(taken, f"the log cannot be written ({error})")
        else:
            self._log.apply(batch)
            self._hand_out(batch)
            self._acknowledge(taken, batch)

    def _take(self) -> list[tuple[Peer, Append]]:
        taken: list[tuple[Peer, Append]] = []
        size = 0
        while self._waiting and len(taken) < MAX_BATCH and size < MAX_BATCH_BYTES:
            peer, append = self._waiting.popleft()
            taken.append((peer, append))
            size += len(append.data)
        self._waiting_bytes -= size
        return taken

    def _hand_out(self, batch: Batch) -> None:
        for publication in batch.publications:
            if subscribers := self._subscribers.get(publication.channel):
                outgoing = Outgoing(Delivery(publication))
                # A copy: a worker of this process may unsubscribe in the middle of it.
                for peer in tuple(subscribers):
                    peer.send(outgoing)

    def _acknowledge(self, taken: list[tuple[Peer, Append]], batch: Batch) -> None:
        outcomes: dict[Peer, list[Outcome]] = {}
        for (peer, append), position in zip(taken, batch.positions, strict=True):
            reason = "" if position else "it was refused before"
            outcomes.setdefault(peer, []).append(Outcome(append.sequence, position, reason))
        for peer, of_peer in outcomes.items():
            peer.send(Outgoing(Outcomes(of_peer)))

    def _refuse(self, taken: list[tuple[Peer, Append]], reason: str) -> None:
        outcomes: dict[Peer, list[Outcome]] = {}
        for peer, append in taken:
            outcomes.setdefault(peer, []).append(Outcome(append.sequence, None, reason))
        for peer, of_peer in outcomes.items():
            peer.send(Outgoing(Outcomes(of_peer)))
        if self._writable:
            logger.error("publications are refused: %s", reason)
        self._set_writable(writable=False)

    def _set_writable(self, *, writable: bool) -> None:
        if writable == self._writable:
            return
        self._writable = writable
        if writable:
            logger.info("the log can be written again")
        for peer in tuple(self._peers):
            peer.send(Outgoing(Pong(writable)))

    def _subscribe(self, peer: Peer, asked: Subscribe) -> None:
        """Answer with what follows *since*; live from the page on that reaches the top."""
        page = self._history.page(asked)
        if page is None:
            self._load_for(peer, asked)
            return
        if page.end == page.top:
            self._subscribers.setdefault(asked.channel, set()).add(peer)
            peer.channels.add(asked.channel)
        peer.send(Outgoing(page))

    def _unsubscribe(self, peer: Peer, channel: str) -> None:
        peer.channels.discard(channel)
        if subscribers := self._subscribers.get(channel):
            subscribers.discard(peer)
            if not subscribers:
                del self._subscribers[channel]

    def _read(self, peer: Peer, asked: Read) -> None:
        page = self._history.page(asked)
        if page is None:
            self._load_for(peer, asked)
            return
        peer.send(Outgoing(page))

    def _load_for(self, peer: Peer, asked: Subscribe | Read) -> None:
        self._to_load.append((peer, asked))
        self._load_asked.set()

    async def _expire(self) -> None:
        """Forget what is old; between two batches, because a batch in flight stands on it."""
        self._expiry_due = False
        if forgotten := self._log.expire(self._clock(), self._subscribers.keys()):
            generation = self._log.generation
            await self._in_thread(partial(self._file.forget, forgotten, generation))

    async def _clear(self) -> None:
        """Forget what was published in channels; between two batches as well."""
        to_clear, self._to_clear = self._to_clear, []
        for peer, asked in to_clear:
            failure = ""
            try:
                await self._in_thread(partial(self._file.clear, asked.channel))
            except (OSError, sqlite3.Error) as error:
                failure = f"the log cannot be written ({error})"
            else:
                self._log.clear(asked.channel)
            nowhere = StreamPosition(0, "")
            page = Page(asked.request, nowhere, (), nowhere, failure=failure)
            peer.send(Outgoing(page))

    async def _keep_up(self) -> None:
        """Trim the file, carry the write-ahead log over, see whether a full disk has room again."""
        while True:
            await anyio.sleep(UPKEEP_SECONDS)
            self._expiry_due = True
            self._arrived.set()
            try:
                while await self._in_thread(partial(self._file.trim, self._limits, self._clock())):
                    pass
                if not self._writable:
                    await self._in_thread(self._file.probe)
                await self._checkpoint()
            except (OSError, sqlite3.Error) as error:
                if self._writable:
                    logger.warning("the log cannot be kept up: %s", error)
            else:
                self._set_writable(writable=True)

    async def _checkpoint(self) -> None:
        if await anyio.to_thread.run_sync(self._file.write_ahead_bytes) < CHECKPOINT_BYTES:
            return
        # Beside the writer, not in its turn: it waits for the disk.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._file.checkpoint)
        if await anyio.to_thread.run_sync(self._file.write_ahead_bytes) > RESTART_BYTES:
            await self._in_thread(self._file.restart_write_ahead)

    async def shorten_log(self) -> None:
        """Carry over what waits beside the log, for somebody who is about to open it.

        It is not begun anew: that waits for the disk, and all publications with it, for longer
        than it takes to read what comes meanwhile.
        """
        with contextlib.suppress(OSError, sqlite3.Error):  # it only saves time
            await anyio.to_thread.run_sync(self._file.checkpoint)

    async def _load_for_ever(self) -> None:
        while True:
            if not self._to_load:
                self._load_asked = anyio.Event()
                await self._load_asked.wait()
            peer, asked = self._to_load.popleft()
            if peer not in self._peers:
                continue
            try:
                if (read := self._history.read(asked.channel)) is not None:
                    self._history.take(asked.channel, await self._in_thread(read))
            except (OSError, sqlite3.Error) as error:
                nowhere = StreamPosition(0, "")
                failure = f"the log cannot be read ({error})"
                peer.send(Outgoing(Page(asked.request, nowhere, (), nowhere, failure=failure)))
            else:
                if peer in self._peers:
                    self.receive(peer, asked)

    async def _in_thread[Result](self, call: Callable[[], Result]) -> Result:
        # Shielded: what a thread has begun to write is not undone by our looking away.
        results: list[Result] = []
        with anyio.CancelScope(shield=True):
            results.append(await anyio.to_thread.run_sync(call, limiter=self._one_call))
        return results[0]
