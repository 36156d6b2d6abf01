"""A worker in a process of its own, with nothing in it but its coordinator."""

import fcntl  # noqa: F401  (before it becomes another user, who may not read the library)
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from lastcall.errors import SettingsError
from lastcall.process_identity import ProcessIdentity
from lastcall.run_directory import RunDirectory
from lastcall.worker_coordinator import WorkerCoordinator


class CoordinatedProcess:
    """Speaks with the process over its pipes: one call a line, one answer a line."""

    def __init__(self, base: Path, master: ProcessIdentity, user: int = 0) -> None:
        """Start it; it has not arrived yet. Root may have it become another *user*."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.coordinated_process", str(base), str(master), str(user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        """Do nothing more."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it and what it forked, unless it has ended."""
        self.kill()

    def ask(self, call: str, **arguments: Any) -> None:
        """Send one call without waiting for the answer."""
        assert self._process.stdin is not None
        print(json.dumps([call, arguments]), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """Wait for the answer to the oldest call."""
        return json.loads(self._line())

    def call(self, call: str, **arguments: Any) -> Any:
        """Send one call and wait for its answer."""
        self.ask(call, **arguments)
        return self.answer()

    def refusal(self) -> str:
        """Wait for the sentence with which it refuses to start."""
        return self._line().strip()

    def _line(self) -> str:
        # At most one answer is on its way, so what can be read is all that there is to read.
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 20)
        assert ready, "no answer within 20 s"
        return self._process.stdout.readline()

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill -9 and wait for the end."""
        self._process.kill()
        self._process.wait(timeout=10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def end(self) -> int:
        """Close its input, at which it ends in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(timeout=10)


@contextmanager
def a_master() -> Iterator[tuple[subprocess.Popen[bytes], ProcessIdentity]]:
    """Run a process that can be told to stop."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        try:
            yield process, identity
        finally:
            process.kill()


def main() -> None:
    """Answer calls until the input ends."""
    master = ProcessIdentity.parse(sys.argv[2])
    if sys.argv[3] != "0":
        # Here and no sooner: the interpreter may lie where the other user has no access.
        os.setuid(int(sys.argv[3]))
    try:
        coordinator = WorkerCoordinator(RunDirectory.open(master, Path(sys.argv[1])), master)
    except SettingsError as error:
        print(error)  # noqa: T201  (its side of the pipe)
        return
    for line in sys.stdin:
        call, arguments = json.loads(line)
        if call == "fork":
            answer: Any = fork(coordinator)
        else:
            answer = getattr(coordinator, call)(**arguments)
        if isinstance(answer, list):
            answer = [record.pid for record in answer]
        print(json.dumps(answer), flush=True)  # noqa: T201  (its side of the pipe)


def fork(coordinator: WorkerCoordinator) -> int:
    """Leave a child behind that tries everything which only its parent may do."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # whatever becomes of the test
        coordinator.update(state="ready", connections=99)
        useless = coordinator.finish(stopping=True), coordinator.siblings()
        coordinator.leave()
        os.write(tell, b"." if useless == (False, []) else b"!")
        os.closerange(0, 3)
        signal.pause()
    assert os.read(told, 1) == b"."
    return child


if __name__ == "__main__":
    main()
