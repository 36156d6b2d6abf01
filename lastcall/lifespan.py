"""What starts what, in which order, and who notices when a part dies."""

import asyncio
import logging
import multiprocessing
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from lastcall.admission import Cutter
from lastcall.assembly import Loop, assemble
from lastcall.collector import start_up_spared
from lastcall.commands import Commands
from lastcall.connection import Connection
from lastcall.errors import PartDied, ServerShutdown, SettingsError
from lastcall.graceful_shutdown import GracefulShutdown, Why
from lastcall.handover_receiver import HandoverReceiver
from lastcall.handover_sender import HandoverSender
from lastcall.host import Host
from lastcall.logs import log_event, logger
from lastcall.moving import Mover
from lastcall.neighbourhood import Neighbourhood, default_state_dir, find_neighbourhood
from lastcall.revocation_file import RevocationFile
from lastcall.rulebook import Rulebook
from lastcall.settings import Settings
from lastcall.socket_handover import socket_path
from lastcall.stop_limit import StopLimit, limit_in_force
from lastcall.systemd import stop_timeout

RECORDS_AT_ONCE = 10
RECORD_PAUSE = 0.05
"""Seconds until so many records of who is here may be written for the other workers again."""
BROKER_PATIENCE = 10.0
"""Seconds that a start waits for publications to be carried; longer than an election takes."""
JOIN_PATIENCE = 1.0
"""Seconds that a start waits to hear the other workers; without them it serves all the same."""
FAREWELL_TIME = 1.0
"""Seconds for close handshakes and handlers that are still under way when the lifespan ends."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What this worker finds when it starts."""

    host: Host
    neighbourhood: Neighbourhood
    limit: StopLimit


@asynccontextmanager
async def running(rules: Rulebook, host: Host) -> AsyncIterator["RunningWorker"]:
    """Start every part of this worker; when left, every task, socket and file of it is gone.

    Raises:
        SettingsError: the settings do not fit this machine; nothing was started.
        PartDied: in the end, after everything has been put away.
    """
    has_failed, settings = False, rules.settings
    with start_up_spared(), find_neighbourhood(settings, host) as neighbourhood:
        limit = limit_in_force(
            StopLimit(settings.shutdown_timeout, "LASTCALL_SHUTDOWN_TIMEOUT", kills=False),
            [*host.stop_limits(), *filter(None, [await stop_timeout()])],
        )
        # Whatever a client still wants in its last moment may need the backend.
        async with rules.backend.open(), anyio.create_task_group() as tasks:
            now = RunningWorker(rules, Surroundings(host, neighbourhood, limit), tasks)
            host.wait_at_most(limit.seconds)
            stops = host.stops(now.shutdown.on_signal, now.shutdown.server_stops)
            with stops, now.hearing_of_the_masters_end():
                await now.start()
                try:
                    yield now
                finally:
                    with anyio.CancelScope(shield=True):
                        await now.say_goodbye()
            has_failed = now.shutdown.has_failed
            tasks.cancel_scope.cancel()
    if has_failed:
        # A server that is asked to stop would end with status 0; this one did not work.
        raise PartDied("a part of this worker died; see above")


class Started:
    """Where `RunningWorker.start` waits; what a broker calls when publications are carried."""

    def __init__(self) -> None:
        """Wait."""
        self.event = anyio.Event()

    def started(self, value: None = None) -> None:  # noqa: ARG002  (anyio's signature)
        """Let the start go on."""
        self.event.set()


class RunningWorker:
    """The parts of this process and the tasks that they need."""

    _change: asyncio.Handle | None = None
    _pause: asyncio.Handle | None = None
    _records = 0

    def __init__(
        self,
        rules: Rulebook,
        surroundings: Surroundings,
        tasks: TaskGroup,
    ) -> None:
        """Put the parts together; `start` sets them going in *tasks*."""
        self.loop = asyncio.get_running_loop()
        self._surroundings = surroundings
        self._host, neighbourhood = surroundings.host, surroundings.neighbourhood
        self._tasks = tasks
        rate = rules.settings.message_rate
        self.worker = assemble(
            rules,
            Commands(rules.endpoints, self._start, _report, rate, _outcome),
            Loop(
                self._later,
                self._changed,
                lambda: self.shutdown.turns_away,
                _revocation_file(rules.settings),
                neighbourhood.machine,
            ),
            neighbourhood.broker,
            neighbourhood.coordinator,
        )
        self._mover = Mover(self.worker, self._host)
        self.shutdown = self._shutdown(surroundings.limit)

    @property
    def cutter(self) -> Cutter:
        """See `Host.cutter`."""
        return self._host.cutter

    @property
    def _meeting_place(self) -> Path | None:
        """Where workers find each other to hand connections over; None if they do not."""
        neighbourhood = self._surroundings.neighbourhood
        # Positions mean something elsewhere only where all workers hear the same stream.
        can_move = self._host.takes_connections and self.worker.settings.handover == "auto"
        return neighbourhood.path if neighbourhood.has_one_stream and can_move else None

    def _shutdown(self, limit: StopLimit) -> GracefulShutdown:
        worker, place = self.worker, self._meeting_place
        hand_over = HandoverSender(worker, self._mover, place) if place is not None else None
        return GracefulShutdown(
            worker.settings,
            self._host,
            worker.connections,
            worker.everyone.peers,
            limit,
            hand_over=hand_over,
        )

    async def start(self) -> None:
        """Start every task; returns when publications are carried, or before that: see below."""
        settings, start = self.worker.settings, self._tasks.start_soon
        started = Started()
        start(self._leave, started)
        start(self._tell_other_hosts)
        start(self._guard, "the broker", lambda: self._run_broker(started))
        # Not for the broker alone: with a full disk it takes for ever. A stop must not, and whoever
        # asks this server how it is has to be told that it is not ready.
        with anyio.move_on_after(BROKER_PATIENCE) as waiting:
            await started.event.wait()
        if waiting.cancelled_caught:
            log_event(
                "broker unavailable",
                "nothing can be published yet: serving, not ready, until that changes",
                level=logging.ERROR,
            )
        if self.shutdown.is_requested:
            return
        if self._meeting_place is not None:
            start(self._guard, "the hand-over", self._run_receiver)
        await self.worker.revoking.remember()
        await self._join_the_others()
        start(self._guard, "the clock", self._run_clock)
        start(self._guard, "the watch on the server", self._watch_server)
        if settings.heartbeat_interval:
            start(self._guard, "the heartbeat", self.worker.heart.run)
        self._log_start()

    async def _join_the_others(self) -> None:
        """Hear them before anybody is served here; but do not wait long for those that hang."""
        joined = anyio.Event()

        async def join() -> None:
            await self.worker.join_the_others()
            joined.set()

        self._tasks.start_soon(self._guard, "the line to the other workers", join)
        with anyio.move_on_after(JOIN_PATIENCE):
            await joined.wait()

    @contextmanager
    def hearing_of_the_masters_end(self) -> Iterator[None]:
        """Leave when the master is gone, even if it was killed: nobody would stop an orphan."""
        parent, master = multiprocessing.parent_process(), self._host.master
        if parent is None or master is None or parent.pid != master.pid:
            yield
            return

        def orphaned() -> None:
            self.loop.remove_reader(parent.sentinel)
            log_event("orphaned", "the master is gone, leaving", level=logging.WARNING)
            self.shutdown.request(Why.STOP)

        self.loop.add_reader(parent.sentinel, orphaned)
        try:
            yield
        finally:
            self.loop.remove_reader(parent.sentinel)

    async def say_goodbye(self) -> None:
        """Close whoever is still there: a server that ends without a drain must not cut anybody."""
        connections = self.worker.connections
        connections.close(connections.count, ServerShutdown())
        await self._until_quiet()
        if connections.abort_all():
            # Their ends come soon; what the application does then needs the parts that still run.
            await self._until_quiet()
        last_words = self.worker.last_words()
        if last_words:
            await asyncio.wait(last_words, timeout=FAREWELL_TIME)
        self.worker.record_counts()  # its last word

    async def _until_quiet(self) -> None:
        connections, commands = self.worker.connections, self.worker.commands
        with anyio.move_on_after(FAREWELL_TIME):
            while connections.count or not commands.is_idle:  # noqa: ASYNC110  (two owners)
                await anyio.sleep(0.01)

    async def _guard(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
        except Exception:  # noqa: BLE001  (whatever it is, we cannot go on without the part)
            # uvicorn would log this and serve on without us.
            logger.critical("%s died, this worker leaves", name, exc_info=True)
            self.shutdown.request(Why.FAILED)

    async def _leave(self, started: "Started") -> None:
        try:
            await self.shutdown.run()
        except Exception:  # noqa: BLE001  (a worker that cannot drain has to stop all the same)
            logger.critical("the drain died", exc_info=True)
            self._host.stop(now=True)
        started.started()

    async def _tell_other_hosts(self) -> None:
        # At once: workers that leave together share their pace from the first client on.
        await self.shutdown.begun.wait()
        self.worker.give_sign()

    async def _run_broker(self, started: "Started") -> None:
        await self.worker.broker.run(self.worker.hub, task_status=started)
        raise RuntimeError("it ended by itself")

    async def _run_receiver(self) -> None:
        place, shutdown = self._meeting_place, self.shutdown
        if place is not None:
            path = socket_path(place, os.getpid())
            await HandoverReceiver(
                self.worker, self._mover, path, is_leaving=lambda: shutdown.is_requested
            ).run()

    async def _run_clock(self) -> None:
        while True:
            await anyio.sleep(1)
            self.worker.next_second()

    async def _watch_server(self) -> None:
        host, shutdown = self._host, self.shutdown
        # The lifespan starts before the port is bound; to be sent clients by then is too early.
        while not host.is_listening:  # noqa: ASYNC110  (uvicorn has attributes, no events)
            await anyio.sleep(0.05)
        if not shutdown.is_requested:
            self.worker.coordinator.update(state="ready")
        # A server that has reached its limit of requests closes its listener and tells nobody.
        while host.is_listening and not shutdown.is_requested:  # noqa: ASYNC110  (the same)
            await anyio.sleep(0.25)
        shutdown.server_stops()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await coroutine

        self._tasks.start_soon(run)

    def _later(self, flush: Callable[[], None]) -> None:
        window = self.worker.settings.join_window
        if window:
            self.loop.call_later(window, flush)
        else:
            self.loop.call_soon(flush)

    def _changed(self) -> None:
        # Once for all that come and go in a turn: the record is written and the drain asked.
        if self._change is None:
            self._change = self.loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._change = None
        self._record()
        self.shutdown.connections_changed()

    def _record(self) -> None:
        # Before anybody hears of the client; but a storm is not recorded client by client.
        self._records += 1
        if self._records <= RECORDS_AT_ONCE or self.shutdown.is_requested:
            self.worker.record()
        if self._pause is None:
            self._pause = self.loop.call_later(RECORD_PAUSE, self._record_the_rest)

    def _record_the_rest(self) -> None:
        self._pause, wanted, self._records = None, self._records, 0
        if wanted > RECORDS_AT_ONCE:
            self.worker.record()

    def _log_start(self) -> None:
        limit, neighbourhood = self._surroundings.limit, self._surroundings.neighbourhood
        if self.worker.settings.insecure:
            log_event(
                "insecure",
                "LASTCALL_INSECURE IS ON: ANYBODY MAY CONNECT, HEAR AND PUBLISH EVERYTHING. "
                "For development only.",
                level=logging.WARNING,
            )
        log_event(
            "started",
            "started under {host}, broker {broker}; once told to stop, clients have "
            "{seconds:g} s to leave ({limit})",
            host=self._host.name,
            broker=neighbourhood.broker_name,
            seconds=limit.seconds if self._host.drains else 0,
            limit=limit.name if self._host.drains else "reload",
            run_dir=str(neighbourhood.path),
        )


def _revocation_file(settings: Settings) -> RevocationFile | None:
    """Where revocations are kept, if this user has a place for it."""
    try:
        return RevocationFile(settings.state_dir or default_state_dir())
    except SettingsError:
        return None


async def _outcome(result: Awaitable[object]) -> None:
    try:
        await result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Passed on, it would end every task of this worker, without a word.
        raise RuntimeError("the hook awaited something that was cancelled") from error


def _report(connection: Connection, error: BaseException) -> None:
    logger.error("a hook of endpoint %r failed", connection.endpoint, exc_info=error)
