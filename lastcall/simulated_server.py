"""Workers for tests: this process forked, with the application as the test has prepared it.

A process between the test and the workers plays their master: the last worker to leave tells its
master so with a signal, and a test run is not to be ended by it.
"""

import contextlib
import dataclasses
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import uvicorn

from lastcall.drain_report import DrainReport
from lastcall.host import MASTER_VARIABLE
from lastcall.lastcall import Lastcall
from lastcall.logs import TextFormatter
from lastcall.process_identity import ProcessIdentity
from lastcall.settings import PREFIX
from lastcall.uvicorn_server import READY, MasterLine

REPORT, CLEAN = b"report ", b"clean"
"""What a simulated worker tells beside what workers tell their master."""


class SimulatedWorker:
    """One worker, seen from the test: what it has said, and how it ended."""

    def __init__(self, line: Connection) -> None:
        """Hear of it over *line*; its pid comes first."""
        self.pid = 0
        self.is_ready = False
        self.has_ended = False
        self.cleaned_up = False
        self.report: DrainReport | None = None
        self.line = line

    def hear(self) -> None:
        """Take what it says next; waits if that is nothing."""
        try:
            said = self.line.recv_bytes()
        except (EOFError, OSError):
            self.has_ended = True
            self.line.close()
            return
        if said == READY:
            self.is_ready = True
        elif said == CLEAN:
            self.cleaned_up = True
        elif said.startswith(REPORT):
            self.report = msgspec.json.decode(said[len(REPORT) :], type=DrainReport)
        elif not self.pid:
            self.pid = int(said)


class SimulatedServer:
    """Two workers at most, one after the other, on one port."""

    def __init__(self, app: Any, directory: Path, settings: Mapping[str, Any]) -> None:
        """Fork the master; no worker is started yet.

        *settings* take the place of the application's own, in the workers only.
        """
        self.log = directory / "log"
        self.log.touch()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = listener.getsockname()[1]
        self.commands, commands = multiprocessing.Pipe()
        lines = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        self.workers = [SimulatedWorker(reader) for reader, _ in lines]
        self.master = _fork()
        if not self.master:
            self.commands.close()
            for reader, _ in lines:
                reader.close()
            writers = [writer for _, writer in lines]
            _in_child(lambda: _Master(app, listener, self.log, settings).run(commands, writers))
        commands.close()
        listener.close()
        for _, writer in lines:
            writer.close()

    def start_worker(self, number: int) -> SimulatedWorker:
        """Start the worker of that number; it is ready when it says so."""
        self.commands.send(number)
        return self.workers[number]

    def exit_status(self, worker: SimulatedWorker) -> int:
        """The exit status of a worker that has ended, negative for a signal."""
        self.commands.send(-worker.pid)
        status: int = self.commands.recv()
        return status

    def close(self) -> None:
        """End whatever is left."""
        self.commands.close()
        os.waitpid(self.master, 0)
        for worker in self.workers:
            worker.line.close()


class _Master:
    """What runs between the test and the workers: forks them, and sees how they end."""

    def __init__(
        self, app: Any, listener: socket.socket, log: Path, settings: Mapping[str, Any]
    ) -> None:
        self._app = app
        self._listener = listener
        self._log = log
        self._settings = settings

    def run(self, commands: Connection, lines: list[Connection]) -> int:
        """Do as told until the test hangs up; then nobody may be left."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the last worker tells us; we know
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ[MASTER_VARIABLE] = str(ProcessIdentity.of(os.getpid()))
        running: set[int] = set()
        while True:
            try:
                command = commands.recv()
            except EOFError:
                break
            if command < 0:
                running.discard(-command)
                commands.send(os.waitstatus_to_exitcode(os.waitpid(-command, 0)[1]))
                continue
            line = lines[command]
            pid = _fork()
            if not pid:
                commands.close()
                for other in lines:
                    if other is not line:
                        other.close()
                _in_child(lambda line=line: self._serve(line))
            running.add(pid)
            line.close()
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return 0

    def _serve(self, line: Connection) -> int:
        line.send_bytes(str(os.getpid()).encode())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.stderr = open(log, "w", buffering=1)  # noqa: PTH123, SIM115  (until the end)
        self._set_up(line)
        config = uvicorn.Config(self._app, workers=2, log_config=None)
        server = MasterLine(line, config).server
        status = server.run_to_status([self._listener])
        lifespan: Any = getattr(server, "lifespan", None)
        ended = getattr(lifespan, "shutdown_event", None)
        if ended is None or (ended.is_set() and not lifespan.shutdown_failed):
            line.send_bytes(CLEAN)
        return status

    def _set_up(self, line: Connection) -> None:
        """Give every `Lastcall` that is there, or will be made, the simulation's settings."""
        os.environ |= {f"{PREFIX}{name.upper()}": str(it) for name, it in self._settings.items()}
        for each in gc.get_objects():
            if isinstance(each, Lastcall):
                rules = each._rules  # noqa: SLF001  (an application must not change it; a test may)
                settings = rules.settings.model_copy(update=dict(self._settings))
                each._rules = dataclasses.replace(rules, settings=settings)  # noqa: SLF001  (the same)
                each.settings = settings
        # uvicorn says why an application does not start, or does not end.
        formatters = {"lastcall": TextFormatter(), "uvicorn": logging.Formatter("%(message)s")}
        for name, level in (("lastcall", logging.INFO), ("uvicorn", logging.WARNING)):
            logger = logging.getLogger(name)
            logger.handlers[:] = [logging.StreamHandler()]
            logger.handlers[0].setFormatter(formatters[name])
            logger.setLevel(level)
            logger.propagate = False
        logging.getLogger("lastcall").addHandler(_ReportToTest(line))


class _ReportToTest(logging.Handler):
    """Passes the report of the drain on, out of the log."""

    def __init__(self, line: Connection) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", "") == "drain_finished":
            self._line.send_bytes(REPORT + msgspec.json.encode(vars(record)["fields"]["report"]))


def _fork() -> int:
    with warnings.catch_warnings():
        # That other threads of a test run are not in the child is what is wanted here.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _in_child(body: Any) -> NoReturn:
    """Run *body* and end: nothing of the test run may go on in a forked process."""
    status = 70
    try:
        status = body()
    except BaseException:  # noqa: BLE001  (whatever it is, it ends here)
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status)
