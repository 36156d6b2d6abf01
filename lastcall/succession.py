"""From one master to the next: the new one is ready first, or nothing has happened."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterable

from lastcall.control_socket import masters_in
from lastcall.deploy import Deploy
from lastcall.front import Front
from lastcall.process_identity import ProcessIdentity
from lastcall.restart_policy import WorkerLimits
from lastcall.run_directory import RunDirectory
from lastcall.systemd_notify import is_managed, notify
from lastcall.upgrade import READY, STARTING_TIME, NewMaster, UpgradeToken, own_command
from lastcall.worker_process import DYING_TIME
from lastcall.workforce import Workforce
from lastcall.working_directory import working_directory

logger = logging.getLogger("lastcall")


class Succession:
    """Starts the next master when it is asked to, and steps back when that one is ready."""

    def __init__(
        self,
        workforce: Workforce,
        sockets: list[socket.socket],
        directory: RunDirectory,
        limits: WorkerLimits,
        predecessor: "Predecessor | None",
    ) -> None:
        """Prepare; *directory* is where the masters of this family find each other."""
        self._workforce = workforce
        self._sockets = sockets
        self._directory = directory
        self._limits, self._patience = limits, 0.0
        self._command, self._cwd = own_command(), working_directory()
        itself = ProcessIdentity.of(os.getpid())
        assert itself is not None  # noqa: S101  (we are running)
        self._itself = itself
        first = None if is_managed() else itself
        self._outermost = first if predecessor is None else predecessor.outermost
        self._is_wanted = False
        self._deploy: Deploy | None = None
        self._next: NewMaster | None = None
        self._leaving: list[NewMaster] = []
        """Those who did not become ready."""
        self._front: Front | None = None

    @property
    def under_way(self) -> Deploy | None:
        """The upgrade that may still come to nothing."""
        return self._deploy if self._deploy is not None and self._deploy.is_starting else None

    @property
    def reports(self) -> list[socket.socket]:
        """To be waited for; whichever has something is given to `heard`."""
        return [each.report for each in self._started if not each.has_hung_up]

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to wait for but our own workers."""
        return not self._started and (self._front is None or self._front.has_ended)

    @property
    def status(self) -> int:
        """What to exit with: as our workers did, or the master that we stand in front of."""
        return self._workforce.status if self._front is None else self._front.status

    def want(self) -> int:
        """Begin at the next step, or when what replaces workers is over; its deploy's number."""
        if self.under_way is not None:
            logger.info("A new master is being started already")
            return self.under_way.number
        self._is_wanted = True
        return self._workforce.replacements.next_number

    def step(self, now: float) -> None:
        """Do what is due."""
        if self._next is not None and self._next.deadline <= now:
            self._give_up(f"it is not ready after {self._patience:g} s", now)
        for each in self._leaving:
            each.look_after(now)
        replacements = self._workforce.replacements
        if self._is_wanted and not replacements.is_busy and self.under_way is None:
            self._is_wanted = False
            self._begin(replacements.begin_upgrade(now), now)

    def heard(self, report: socket.socket, now: float) -> None:
        """A new master said that it is ready, or hung up: then it will not be."""
        for each in self._started:
            if each.report is not report:
                continue
            is_ready = each.is_ready()
            if each is self._next and is_ready:
                self._step_back(each, now)
            elif each is self._next:
                status = each.ended(wait=True)
                how = "gave up" if status is None else f"left with exit status {status}"
                self._give_up(f"the new master {how}; its log says why", now)
                self._see_ended()

    def look_for_ended(self, own: Iterable[int], now: float) -> None:
        """See whether a new master ended that was not ready, or one behind us did."""
        if self._next is not None and (status := self._next.ended()) is not None:
            self._give_up(f"the new master left with exit status {status}; its log says why", now)
        self._see_ended()
        if self._front is not None:
            self._front.reap([*own, *(each.process.pid for each in self._leaving)])

    def stop(self, number: signal.Signals, now: float) -> None:
        """Start nobody any more, and have whoever we have started leave."""
        self._is_wanted = False
        for each in self._leaving:
            each.signal(number)
        self._give_up("the server stops", now)
        self.pass_on(number)

    def pass_on(self, number: signal.Signals) -> bool:
        """Give a signal to the master behind us, if there is one."""
        if self._front is None:
            return False
        self._front.pass_on(number)
        return True

    @property
    def _started(self) -> list[NewMaster]:
        return self._leaving if self._next is None else [self._next, *self._leaving]

    def _begin(self, deploy: Deploy, now: float) -> None:
        self._deploy = deploy
        if self._itself not in masters_in(self._directory):
            # The next master could not be followed, and nobody could speak to it.
            self._give_up(f"the run directory {self._directory.path} cannot be used", now)
            return
        logger.info("%s: starting a new master: %s", deploy.title, " ".join(self._command))
        token = UpgradeToken(
            old=str(self._itself),
            outermost=None if self._outermost is None else str(self._outermost),
            sockets=[listener.fileno() for listener in self._sockets],
            report=-1,
            directory=str(self._directory.path),
            generation=deploy.generation,
            size=len(self._workforce.places),
        )
        self._patience = self._limits.ready_in_turn(token.size) + STARTING_TIME
        deadline = now + self._patience
        try:
            self._next = NewMaster.start(self._command, self._cwd, token, deadline=deadline)
        except OSError as error:
            self._give_up(f"it cannot be started: {error}", now)

    def _give_up(self, reason: str, now: float) -> None:
        if self.under_way is not None:
            title = self.under_way.title
            self.under_way.given_up(reason, now)
            logger.error("%s given up, this master stays: %s", title, reason)
        if self._next is not None:
            # Twice as long as it gives those of its workers who hang.
            self._next.leave(kill_at=now + 2 * DYING_TIME)
            self._leaving.append(self._next)
            self._next = None

    def _see_ended(self) -> None:
        for each in [*self._leaving]:
            if each.ended() is not None:
                each.report.close()
                self._leaving.remove(each)

    def _step_back(self, successor: NewMaster, now: float) -> None:
        identity = ProcessIdentity.of(successor.process.pid)
        if identity is None or self._deploy is None:
            return  # dead again; its end comes to us too
        is_reload_wanted = self._workforce.replacements.is_reload_wanted
        replaced = self._workforce.step_back(now)
        self._deploy.took_over({worker.pid for worker in replaced}, now)
        logger.info("Master [%d] takes over, %d workers retire", identity.pid, len(replaced))
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()  # they are the new one's now, and a unix socket's path with them
        if self._outermost is None:
            notify("READY=1", f"MAINPID={identity.pid}")
        elif self._outermost == self._itself:
            self._front = Front(self._directory, identity)
        successor.report.close()
        self._next = None
        for worker in replaced:
            self._workforce.replacements.retire(worker)
        if is_reload_wanted:
            identity.signal(signal.SIGHUP)  # asked for when the new workers had begun already


class Predecessor:
    """The master before this one, which serves until we are ready."""

    def __init__(self, token: UpgradeToken) -> None:
        """Stand behind the one who passed *token*."""
        self.serves = True
        """Whether it is not our turn yet."""
        self._report = socket.socket(fileno=token.report)
        self._report.set_inheritable(False)  # that it is closed shall mean something
        self.outermost = (
            ProcessIdentity.parse(token.outermost) if token.outermost is not None else None
        )
        self._before: ProcessIdentity | None = ProcessIdentity.parse(token.old)

    def step_aside(self) -> None:
        """Tell it that all our workers serve."""
        self.serves = False
        self._before = self.outermost
        with contextlib.suppress(OSError), self._report as report:
            report.send(READY)

    def step(self, workforce: Workforce) -> None:
        """Say if nothing will come of us; leave if nobody stands in front of us any more."""
        if workforce.is_stopping:
            self._report.close()
        elif self._before is not None and not self._before.is_running():
            # Whoever started the server sees it end: then it has to.
            logger.error("Process [%d] is gone, which stood in front of us", self._before.pid)
            self._before = None
            signal.raise_signal(signal.SIGTERM)
