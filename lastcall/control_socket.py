"""The master's ear in the run directory, for `lastcall status`, `reload`, `scale` and `stop`.

One line of JSON each way. Who may open a socket in the directory is its user, and root.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from lastcall.errors import SettingsError
from lastcall.process_identity import ProcessIdentity
from lastcall.record_lock import RecordLock
from lastcall.run_directory import RunDirectory
from lastcall.server_status import MasterStatus

MAX_CALLERS = 16
MAX_REQUEST = 4096
ANSWER_TIMEOUT = 3.0

logger = logging.getLogger("lastcall")


class Request(msgspec.Struct, kw_only=True):
    """What a master is asked for."""

    command: Literal["status", "reload", "scale", "stop", "upgrade"]
    workers: int | None = None


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What it says to that."""

    error: str = ""
    deploy: int | None = None
    """The number of the deploy that was asked for, to look for in the status."""
    status: MasterStatus | None = None


class MasterFile(msgspec.Struct, kw_only=True):
    """The content of `<pid>.MASTER`, for people; that it is locked is what counts."""

    pid: int
    version: str


class ControlSocket:
    """Answers without ever waiting: its sockets are waited for together with all else."""

    def __init__(
        self, directory: RunDirectory, version: str, answer: Callable[[Request], Answer]
    ) -> None:
        """Prepare; *answer* is called for every request."""
        self._directory = directory
        self._version = version
        self._answer = answer
        self._lock: RecordLock | None = None
        self._listener: socket.socket | None = None
        self._callers: dict[socket.socket, bytes] = {}
        self._has_warned = False
        self._path = directory.path / f"{os.getpid()}.MASTER"

    @property
    def sockets(self) -> list[socket.socket]:
        """To be waited for; whichever has something is given to `happened`."""
        listener = [self._listener] if self._listener is not None else []
        return [*listener, *self._callers]

    def keep(self) -> None:
        """Make sure that file and socket are there; something may have cleaned up."""
        if self._lock is None or not self._lock.is_at(self._path):
            self.close(for_good=False)
        elif self._listener is not None:
            return
        try:
            with self._directory.kept():
                self._appear()
        except (OSError, SettingsError) as error:
            if not self._has_warned:
                logger.warning("no `lastcall status`, `reload` or `scale` here: %s", error)
            self._has_warned = True

    def happened(self, on: socket.socket) -> None:
        """Take a caller, or what a caller says."""
        with contextlib.suppress(BlockingIOError):
            if on is self._listener:
                caller = on.accept()[0]
                caller.settimeout(0)
                if len(self._callers) >= MAX_CALLERS:
                    self._drop(next(iter(self._callers)))
                self._callers[caller] = b""
            elif on in self._callers:
                self._hear(on)

    def close(self, *, for_good: bool = True) -> None:
        """Let go of everything, and of the directory if nobody is left in it."""
        for caller in [*self._callers]:
            self._drop(caller)
        # The file first: who finds it may rely on being answered.
        if self._lock is not None:
            with contextlib.suppress(OSError):
                if self._lock.is_at(self._path):
                    self._path.unlink()
            self._lock.release()
            self._lock = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                self._socket_path().unlink()
        if for_good:
            self._directory.remove_if_deserted()

    def _socket_path(self) -> Path:
        return self._directory.socket_path(f"{os.getpid()}.control")

    def _appear(self) -> None:
        if self._lock is None:
            unborn = self._path.with_suffix(".NEW")
            self._lock = RecordLock(unborn)
            content = msgspec.json.encode(MasterFile(pid=os.getpid(), version=self._version))
            self._lock.write(content + b"\n")
            unborn.rename(self._path)
        path = self._socket_path()
        path.unlink(missing_ok=True)
        self._listener = _listening(path)

    def _hear(self, caller: socket.socket) -> None:
        try:
            data = caller.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._callers[caller] += data
        said = self._callers[caller]
        if b"\n" in said:
            try:
                answer = self._answer(msgspec.json.decode(said, type=Request))
            except msgspec.DecodeError as error:
                answer = Answer(error=f"not understood: {error}")
            with contextlib.suppress(OSError):
                # Small enough for the socket's buffer; who does not read it has it cut.
                caller.send(msgspec.json.encode(answer) + b"\n")
            self._drop(caller)
        elif not data or len(said) > MAX_REQUEST:
            self._drop(caller)

    def _drop(self, caller: socket.socket) -> None:
        del self._callers[caller]
        caller.close()


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.settimeout(0)
        listener.bind(str(path))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def masters_in(directory: RunDirectory) -> Iterator[ProcessIdentity]:
    """The masters of ours that live in *directory*: during an upgrade there are two."""
    for file in directory.master_files():
        identity = ProcessIdentity.of(file.pid)
        if file.lives and identity is not None:
            yield identity


def ask(directory: RunDirectory, master: int, request: Request) -> Answer:
    """Ask a master.

    Raises:
        SettingsError: the directory's path is too long for a socket in it, so there is none.
        OSError: nobody answers, or not in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(ANSWER_TIMEOUT)
        line.connect(str(directory.socket_path(f"{master}.control")))
        line.sendall(msgspec.json.encode(request) + b"\n")
        said = b""
        while not said.endswith(b"\n"):
            data = line.recv(65536)
            if not data:
                raise ConnectionResetError("the master hung up")
            said += data
    try:
        return msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError as error:
        raise ConnectionError(f"the master speaks another language: {error}") from error
