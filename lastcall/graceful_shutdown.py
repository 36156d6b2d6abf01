"""Runs a Drain: the clock, the signals and the order in which a worker leaves."""

import dataclasses
import math
import signal
from collections.abc import Callable
from enum import StrEnum

import anyio
import msgspec

from lastcall.connection_manager import ConnectionManager
from lastcall.drain import Drain, DrainPolicy, Step
from lastcall.drain_report import DrainCounts, DrainReport
from lastcall.errors import Disconnect, ServerShutdown, WorkerFailed
from lastcall.host import Host
from lastcall.logs import log_event
from lastcall.moving_out import SUCCESSOR_TIME, HandOver, MovingOut
from lastcall.peers import Peers
from lastcall.settings import Settings
from lastcall.stop_limit import StopLimit

SETTLING_TIME = 0.25
"""Seconds before and between looks at the siblings: a stop of all of them reaches each in turn."""
LAST_LOOK = 1.0
"""Seconds to see, at the end of the time, whether another worker comes."""
SAME_CTRL_C = 0.5
"""Signals within so many seconds are one key press: from the terminal and from the master."""


class Why(StrEnum):
    """What makes this worker leave."""

    STOP = "stop"
    RECYCLED = "recycled"
    FAILED = "failed"


class GracefulShutdown:
    """One worker's way out. `request` starts it; `run` is its one task."""

    report: DrainReport | None = None
    """Of the drain under way, a moment old, or of the one that is over."""
    _counts: DrainCounts | None = None
    _settled_at = 0.0
    """Until when a stop of all workers may not have reached each of them."""
    _arrivals_until = 0.0
    """When nobody can come any more whom we had accepted; infinite while that is not known."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        connections: ConnectionManager,
        peers: Peers,
        limit: StopLimit,
        *,
        hand_over: HandOver | None = None,
        settling_time: float = SETTLING_TIME,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        """Leave *host* within *limit*; without *hand_over* nobody is taken elsewhere."""
        self._settings = settings
        self._host, self._connections, self._peers = host, connections, peers
        self._coordinator = peers.coordinator
        self._moving_out = MovingOut(hand_over, peers.coordinator, settling_time, clock)
        self._settling_time = settling_time
        self._clock = clock
        self._policy = DrainPolicy(
            timeout=limit.seconds if host.drains else 0,
            notice_interval=settings.shutdown_notice_interval,
            release_rate=settings.release_rate,
        )
        self._why: Why | None = None
        self._drain: Drain | None = None
        self._first_signal_at: float | None = None
        self._is_forced = self._refuses = self._has_failed = False
        self._requested, self._changed = anyio.Event(), anyio.Event()
        self.begun, self.finished = anyio.Event(), anyio.Event()

    @property
    def is_requested(self) -> bool:
        """Whether this worker is leaving: it is not ready any more."""
        return self._why is not None

    @property
    def has_failed(self) -> bool:
        """Whether a part of this worker died, before it was asked to leave or since."""
        return self._has_failed

    @property
    def refuses(self) -> bool:
        """Whether new requests must be refused: nobody else listens, and we will not serve them."""
        return self._refuses

    @property
    def turns_away(self) -> bool:
        """Whether who comes now, and comes back by itself, shall do that later.

        Not while clients may still be handed over: then it would be sent away for nothing.
        """
        return self._drain is not None and not self._moving_out.hopes

    @property
    def retry_after(self) -> float:
        """Seconds after which a refused client may find another server."""
        return self._policy.close_wait

    def on_signal(self, number: signal.Signals) -> None:
        """SIGTERM and SIGINT ask to leave; a Ctrl-C some time after either wants it now."""
        now = self._clock()
        if self._first_signal_at is None:
            self._first_signal_at = now
        is_second = now - self._first_signal_at > SAME_CTRL_C
        if number == signal.SIGINT and is_second:
            self.force()
        else:
            self.request(Why.STOP)

    def request(self, why: Why) -> None:
        """Leave because of *why*. The first reason counts, but a stop outweighs a recycling."""
        if self._why is None or (self._why is Why.RECYCLED and why is not Why.RECYCLED):
            self._why = why
            self._requested.set()
            if self.finished.is_set():
                # Recycled, and now the whole server stops: who was the last then may have to say.
                self._coordinator.finish(stopping=why is Why.STOP)
        if why is Why.FAILED:
            self._has_failed = True
            self.force()

    def force(self) -> None:
        """Leave now: whoever is still there is closed, cleanly, at once."""
        self._is_forced = True
        if self.finished.is_set():
            # The clients have left; it is the server that waits for something of its own.
            self._host.stop(now=True)
            return
        if self._drain is not None:
            self._drain.force(self._clock())
        self._changed.set()

    def server_stops(self) -> bool:
        """The server stops without a signal (`limit_max_requests`): drain before it goes on."""
        if self.finished.is_set():
            return False
        if not self.is_requested:
            self.request(Why.RECYCLED)
        return True

    def connections_changed(self) -> None:
        """Somebody left: it may have been the last."""
        if self.is_requested:
            self._changed.set()

    async def run(self) -> None:
        """Wait for a request, drain, tell the others, and let the server stop."""
        await self._requested.wait()
        leaving_since = self._clock()
        counts = self._begin(leaving_since)
        await self._serve_on(min(self._settings.shutdown_delay, self._policy.timeout))
        # The limit counts from the signal: whoever would kill us does not know of our delay.
        timeout = max(0.0, self._policy.timeout - (self._clock() - leaving_since))
        self._drain = Drain(dataclasses.replace(self._policy, timeout=timeout), self._clock())
        self._settled_at = self._clock() + self._settling_time
        self._look_at_others(self._drain)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._leave_listening_to_others)
            tasks.start_soon(self._moving_out.run, self._wake)
            await self._drain_clients(self._drain, counts)
            tasks.cancel_scope.cancel()
        await self._see_who_is_last(self._drain)
        self._finish(counts)
        if self._why is not Why.RECYCLED:
            # Whoever had to be cut would be waited for by the server, too, and without a limit.
            within = max(0.0, self._drain.deadline - self._clock())
            self._host.stop(now=self._is_forced or counts.cut > 0, within=within)

    def _look_at_others(self, drain: Drain) -> None:
        if not self._is_forced:
            self._moving_out.begin(drain.deadline)
        if self._coordinator.ready_siblings() or self._moving_out.awaits_successor:
            # Who leaves alone closes its listener first, and lets in whom it has accepted by then.
            self._arrivals_until = math.inf

    async def _see_who_is_last(self, drain: Drain) -> None:
        """Wait for a process of the master that is not known yet: it comes, or it goes."""
        within = max(LAST_LOOK, min(SUCCESSOR_TIME, drain.deadline - self._clock()))
        with anyio.move_on_after(within):
            while (  # noqa: ASYNC110  (other processes have no event)
                self._why is Why.STOP
                and not self._is_forced
                and not self._coordinator.siblings()
                and self._coordinator.expects_successor()
            ):
                await anyio.sleep(self._settling_time)

    def _begin(self, now: float) -> DrainCounts:
        self._coordinator.update(state="draining")
        self.begun.set()
        at_start, opened = self._connections.count, self._connections.opened
        self._counts = DrainCounts(str(self._why), at_start=at_start, opened=opened, now=now)
        log_event(
            "drain_started",
            "leaving ({why}): {clients} clients, {seconds:g} s at most",
            why=str(self._why),
            clients=at_start,
            seconds=self._policy.timeout,
        )
        return self._counts

    def _finish(self, counts: DrainCounts) -> None:
        self.report = report = self._report(counts, finished=True)
        self._coordinator.update(drain=report)
        was_last = self._coordinator.finish(stopping=self._why is Why.STOP)
        log_event(
            "drain_finished",
            "left after {seconds:.1f} s: {sentence}",
            seconds=report.duration,
            sentence=report.sentence(),
            was_last=was_last,
            report=msgspec.to_builtins(report),
        )
        self.finished.set()

    def _report(self, counts: DrainCounts, *, finished: bool = False) -> DrainReport:
        return counts.report(
            now=self._clock(),
            opened=self._connections.opened,
            not_closed=self._connections.not_closed,
            moves=self._moving_out.moves,
            finished=finished,
        )

    async def _drain_clients(self, drain: Drain, counts: DrainCounts) -> None:
        if self._is_forced:
            drain.force(self._clock())
        while True:
            self._changed = anyio.Event()
            step = self._step(drain)
            self._take(step, drain, counts)
            wake_at = step.wake_at
            if step.finished:
                if step.abort or self._is_forced or self._clock() >= self._arrivals_until:
                    return
                wake_at = self._arrivals_until
            with anyio.move_on_after(self._moving_out.wake_at(wake_at) - self._clock()):
                await self._changed.wait()
            self._moving_out.look()
            if not self._moving_out.hopes:
                told = self._connections.notify_spared(self._settings.shutdown_notice)
                self._log_notice(told, drain, counts)

    def _step(self, drain: Drain) -> Step:
        now, connections = self._clock(), self._connections
        not_closed, returning, spared = connections.not_closed, connections.returning, 0
        if now < drain.deadline:
            if now < self._settled_at:
                # Who is let go now might come back to a worker that leaves as well.
                spared, returning = returning, 0
            if self._moving_out.hopes:
                spared, returning = not_closed - connections.not_closed_guests, 0
        step = drain.step(
            now=now,
            open_connections=connections.count,
            not_closed=not_closed,
            returning=returning,
            spared=spared,
        )
        if now < self._settled_at:
            return dataclasses.replace(step, wake_at=min(step.wake_at, self._settled_at))
        return step

    def _take(self, step: Step, drain: Drain, counts: DrainCounts) -> None:
        if step.notify:
            counts.notice()
            told = self._connections.notify_all(
                self._settings.shutdown_notice, spare_movable=self._moving_out.hopes
            )
            self._log_notice(told, drain, counts)
        why: Disconnect = WorkerFailed() if self._why is Why.FAILED else ServerShutdown()
        if step.release or step.close:
            released = self._connections.release(step.release, why)
            closed = self._connections.close(step.close, why)
            counts.let_go(self._clock(), released=released, closed=closed)
        if step.abort:
            counts.cut += self._connections.abort_all()

    def _log_notice(self, told: int, drain: Drain, counts: DrainCounts) -> None:
        counts.told(told)
        if told:
            log_event(
                "drain_notice",
                "told {told} clients, {gone} gone, {seconds_left:.0f} s left",
                told=told,
                gone=max(0, counts.at_start - self._connections.count),
                seconds_left=max(0.0, drain.deadline - self._clock()),
            )

    async def _leave_listening_to_others(self) -> None:
        """While another worker is ready, new clients are its; otherwise we refuse them in words.

        Not while one is starting: who comes meanwhile moves there with all the others.
        """
        is_listening = True
        while True:
            await anyio.sleep(self._settling_time)
            others = bool(self._coordinator.ready_siblings())
            self._look_at_siblings()
            arrivals = 0.0
            if others and is_listening:
                is_listening = not self._host.stop_listening()
                arrivals = 0.0 if is_listening else self._settling_time
            elif not others and not is_listening:
                await self._host.listen_again()
                is_listening = True
            waits = not others and self._moving_out.awaits_successor
            self._refuses = is_listening and not others and not waits
            if waits:
                self._arrivals_until = math.inf
            elif arrivals or self._arrivals_until == math.inf:
                self._arrivals_until = self._clock() + arrivals
                self._changed.set()

    def _look_at_siblings(self) -> None:
        """Share the rate with those who leave as well, and let everybody know how far we are."""
        if self._drain is not None:
            self._drain.share_rate(1 + self._peers.leaving())
        if self._counts is not None:
            self.report = self._report(self._counts)
            self._coordinator.update(drain=self.report)

    async def _serve_on(self, delay: float) -> None:
        """Serve as before, not ready any more, until *delay* is over or somebody is in a hurry."""
        if delay:
            with anyio.move_on_after(delay):
                while not self._is_forced:
                    self._changed = anyio.Event()
                    await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
