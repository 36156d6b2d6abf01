"""The master of `lastcall serve --workers N`: starts workers, replaces them, stops them."""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait

import uvicorn

from lastcall.exit_status import CANNOT_START, FAILED
from lastcall.host import MASTER_VARIABLE
from lastcall.process_identity import ProcessIdentity
from lastcall.restart_policy import Backoff, Stop, StopRequests
from lastcall.uvicorn_server import log_running
from lastcall.worker_process import CLEAN, WorkerProcess

logger = logging.getLogger("lastcall")


@dataclass(slots=True)
class Place:
    """One of the N places for a worker: who stands in it, or when the next one starts."""

    number: int
    due: float | None
    worker: WorkerProcess | None = None
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """Keeps *workers* processes serving on the same sockets until it is asked to stop.

    It only ever waits for three things at once: a signal, a message of a worker, and the moment
    when the next worker is due. So a signal acts at once in every phase.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], place: str) -> None:
        """Take over bound sockets; *place* says in the log where they are. Starts nothing yet."""
        self._config = config
        self._sockets = sockets
        self._place = place
        self._places = [Place(number, due=0) for number in range(1, config.workers + 1)]
        self._stop_requests = StopRequests()
        self._stopping = False
        self._complete = False
        self._status = 0

    def run(self) -> int:
        """Serve until stopped; return what the process shall exit with.

        0 after an asked-for stop, 3 if no worker can start, 1 if a worker failed on its way out.
        """
        os.environ[MASTER_VARIABLE] = str(ProcessIdentity.of(os.getpid()))
        with _signals() as received:
            logger.info("Master [%d] starts %d workers", os.getpid(), len(self._places))
            try:
                while not self._has_ended():
                    self._start_due()
                    self._wait(received)
            except BaseException:
                self._signal_all(signal.SIGTERM)
                raise
        logger.info("Master [%d] ends with exit status %d", os.getpid(), self._status)
        return self._status

    def _workers(self) -> list[WorkerProcess]:
        return [place.worker for place in self._places if place.worker is not None]

    def _has_ended(self) -> bool:
        return self._stopping and not self._workers()

    def _start_due(self) -> None:
        for place in self._places:
            if place.due is None or place.due > time.monotonic():
                continue
            now = time.monotonic()
            try:
                place.worker = WorkerProcess.start(self._config, self._sockets, now=now)
            except OSError as error:
                place.due = now + place.backoff.after(0)
                logger.error("Worker %d cannot be started now: %s", place.number, error)  # noqa: TRY400  (the system's state, no bug of ours to trace)
            else:
                place.due = None

    def _wait(self, received: socket.socket) -> None:
        messages = {
            worker.messages: worker for worker in self._workers() if not worker.messages.closed
        }
        due = [place.due for place in self._places if place.due is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        happened = wait([received, *messages], timeout)
        for connection, worker in messages.items():
            # Before its end is looked at, which may have happened by now too.
            if connection in happened and worker.hear():
                self._is_ready(worker)
        if received in happened:
            for number in received.recv(4096):
                self._signal_received(number)

    def _signal_received(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._look_for_ended()
            return
        step = self._stop_requests.received(interrupt=number == signal.SIGINT, now=time.monotonic())
        if step is None:
            return
        name, count = signal.Signals(number).name, len(self._workers())
        logger.info("%s received: %s %d workers", name, step.value, count)
        self._stop()
        self._signal_all(_SIGNALS[step])

    def _stop(self) -> None:
        self._stopping = True
        # A client in the backlog of a socket that nobody accepts on would hang.
        for listener in self._sockets:
            listener.close()
        for place in self._places:
            place.due = None

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers():
            worker.signal(number)

    def _is_ready(self, worker: WorkerProcess) -> None:
        logger.info("Worker [%d] is ready", worker.pid)
        if self._complete or self._stopping:
            return
        self._complete = sum(worker.ready for worker in self._workers()) == len(self._places)
        if self._complete:
            log_running(self._place)

    def _look_for_ended(self) -> None:
        for place in self._places:
            if place.worker is not None and place.worker.status is not None:
                worker, place.worker = place.worker, None
                self._worker_ended(place, worker, worker.status or 0)
                worker.close()

    def _worker_ended(self, place: Place, worker: WorkerProcess, status: int) -> None:
        how = f"Worker [{worker.pid}] {_how(status)}"
        now = time.monotonic()
        if self._stopping:
            logger.info("%s; %d left", how, len(self._workers()))
            if status not in CLEAN:
                self._status = self._status or FAILED
        elif status == CANNOT_START and not worker.ready and not self._others_serve():
            logger.error("%s before it was ready: the server cannot start", how)
            self._status = CANNOT_START
            self._stop()
            self._signal_all(signal.SIGTERM)
        elif status in CLEAN and worker.ready:
            logger.info("%s; a new one takes its place", how)
            place.due = now
        else:
            delay = place.backoff.after(now - worker.started_at)
            logger.error("%s; a new one takes its place in %g s", how, delay)
            place.due = now + delay

    def _others_serve(self) -> bool:
        """Whether the start has once succeeded, and somebody is left of it."""
        return self._complete and any(worker.ready for worker in self._workers())


_SIGNALS = {
    Stop.LEAVE: signal.SIGTERM,
    Stop.END: signal.SIGINT,
    Stop.KILL: signal.SIGKILL,
}


def _how(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"left with exit status {status}"


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
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        reader.close()
        writer.close()
