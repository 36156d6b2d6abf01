"""The master of `lastcall serve --workers N`: hears signals and workers, and acts at once."""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import uvicorn

from lastcall import __version__
from lastcall.control_socket import ControlSocket
from lastcall.host import FAMILY_VARIABLE, MASTER_VARIABLE
from lastcall.master_answers import MasterAnswers
from lastcall.process_identity import ProcessIdentity
from lastcall.restart_policy import Stop, StopRequests, WorkerLimits
from lastcall.run_directory import RunDirectory, default_base
from lastcall.server_status import drain_of
from lastcall.settings_file import configured_run_dir
from lastcall.succession import Predecessor, Succession
from lastcall.systemd_notify import notify
from lastcall.upgrade import UpgradeToken
from lastcall.uvicorn_server import log_running
from lastcall.worker_process import WorkerProcess
from lastcall.workforce import Workforce

LONGEST_SLEEP = 1.0
"""Seconds between two looks at what nothing tells of: heartbeats that do not come."""

logger = logging.getLogger("lastcall")


class Supervisor:
    """Keeps workers serving on the same sockets until it is asked to stop.

    It only ever waits for three things at once: a signal, a message of a worker, and the moment
    when something is due. So a signal acts at once in every phase.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        place: str,
        limits: WorkerLimits,
        token: UpgradeToken | None = None,
    ) -> None:
        """Take over bound sockets; *place* says in the log where they are. Starts nothing yet.

        *token* is from the master before this one, if there is one.
        """
        self._sockets = sockets
        self._place = place
        self._stop_requests = StopRequests()
        start = partial(WorkerProcess.start, config, sockets, limits=limits)
        identity = str(ProcessIdentity.of(os.getpid()))
        if token is None:
            self._predecessor, self._workforce = None, Workforce(start, config.workers, limits)
            path = (configured_run_dir() or default_base()).absolute() / identity
        else:
            self._predecessor = Predecessor(token)
            self._workforce = Workforce(start, token.size, limits, token.generation)
            self._workforce.has_one_try = True
            path = Path(token.directory)
        os.environ[MASTER_VARIABLE] = identity
        os.environ[FAMILY_VARIABLE] = f"{identity}:{path.name}"
        directory = RunDirectory(path)
        self._workforce.replacements.drained = partial(drain_of, directory)
        self._succession = Succession(
            self._workforce, sockets, directory, limits, self._predecessor
        )
        answers = MasterAnswers(self._workforce, self._succession, place)
        self._control = ControlSocket(directory, __version__, answers)

    def run(self) -> int:
        """Serve until stopped; return what the process shall exit with.

        0 after an asked-for stop, 3 if no worker can start, 1 if a worker failed on its way out.
        """
        workforce = self._workforce
        control = self._control
        with _signals() as received, closing(control):
            logger.info("Master [%d] starts %d workers", os.getpid(), len(workforce.places))
            try:
                while not (workforce.has_ended and self._succession.has_ended):
                    self._step(time.monotonic())
                    self._wait(received)
            except BaseException:
                workforce.signal_all(signal.SIGTERM)
                raise
        status = self._succession.status
        logger.info("Master [%d] ends with exit status %d", os.getpid(), status)
        return status

    @property
    def _is_beside_another(self) -> bool:
        """Whether it is another master as yet that stands for this server."""
        return self._predecessor is not None and self._predecessor.serves

    def _step(self, now: float) -> None:
        self._workforce.step(now)
        self._succession.step(now)
        if self._predecessor is not None:
            self._predecessor.step(self._workforce)
        if self._workforce.has_ended:
            self._control.close()  # who is left of us only passes signals on
        elif not self._is_beside_another:
            self._control.keep()  # until then it is the master before us that is spoken to

    def _serves(self) -> None:
        """Every worker is ready for the first time."""
        log_running(self._place)
        if self._predecessor is None:
            notify("READY=1")
        else:
            # To be found before the one before us can be gone; the manager hears from that one.
            self._control.keep()
            self._predecessor.step_aside()

    def _wait(self, received: socket.socket) -> None:
        messages = {
            worker.messages: worker
            for worker in self._workforce.workers
            if not worker.messages.closed
        }
        timeout = max(0.0, self._workforce.next_step - time.monotonic())
        callers, reports = self._control.sockets, self._succession.reports
        happened = wait([received, *messages, *callers, *reports], min(timeout, LONGEST_SLEEP))
        now = time.monotonic()
        for connection, worker in messages.items():
            # Before its end is looked at, which may have happened by now too.
            is_news = connection in happened and worker.hear(now=now)
            if is_news and self._workforce.became_ready(worker):
                self._serves()
        for report in reports:
            if report in happened:
                self._succession.heard(report, now)
        if received in happened:
            for number in received.recv(4096):
                self._signal_received(signal.Signals(number), now)
        for caller in callers:
            if caller in happened:
                self._control.happened(caller)

    def _signal_received(self, number: signal.Signals, now: float) -> None:
        workforce = self._workforce
        match number:
            case signal.SIGCHLD:
                workforce.look_for_ended(now)
                own = [worker.pid for worker in workforce.workers]
                self._succession.look_for_ended(own, now)
                if workforce.is_stopping:
                    self._close_sockets()
            case signal.SIGTERM | signal.SIGINT:
                self._stop(number, now)
            case _ if self._succession.pass_on(number):
                pass
            case _ if workforce.is_stopping:
                logger.info("%s received, but the server is stopping", number.name)
            case _ if self._is_beside_another:
                logger.info("%s received, but this master has not taken over yet", number.name)
            case _:
                self._change(number, now)

    def _change(self, number: signal.Signals, now: float) -> None:
        workforce = self._workforce
        match number:
            case signal.SIGHUP:
                workforce.replacements.want_reload()
            case signal.SIGUSR2:
                self._succession.want()
            case _ if self._succession.under_way is not None:
                logger.info("%s received, but a new master is being started", number.name)
            case signal.SIGTTIN:
                workforce.scale(len(workforce.places) + 1, now)
            case signal.SIGTTOU:
                workforce.scale(len(workforce.places) - 1, now)

    def _stop(self, number: signal.Signals, now: float) -> None:
        self._succession.stop(number, now)
        step = self._stop_requests.received(interrupt=number == signal.SIGINT, now=now)
        if step is None:
            return
        workforce = self._workforce
        count = len(workforce.workers)
        logger.info("%s received: %s %d workers", number.name, step.value, count)
        if not (workforce.is_stopping or self._is_beside_another):
            notify("STOPPING=1")
        workforce.stop(f"{number.name} came", now)
        self._close_sockets()
        workforce.signal_all(_SIGNALS[step])

    def _close_sockets(self) -> None:
        # A client in the backlog of a socket that nobody accepts on would hang.
        for listener in self._sockets:
            listener.close()


_SIGNALS = {
    Stop.LEAVE: signal.SIGTERM,
    Stop.END: signal.SIGINT,
    Stop.KILL: signal.SIGKILL,
}


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Give a socket on which each signal arrives as a byte, its number.

    The handlers stay when this ends: the process is about to end too, and a late message of the
    last worker must not become its exit status.
    """
    reader, writer = socket.socketpair()
    reader.settimeout(0)
    writer.settimeout(0)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in _HEARD:
        signal.signal(number, lambda *_: None)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        reader.close()
        writer.close()


_HEARD = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
)
