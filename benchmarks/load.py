"""The load generator's side of a run: tells `load.c` what to do, and reads what came of it."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, pin_load

TIMEOUT = 120.0
"""Seconds that any one command may take; a server that hangs must not hang us."""

HANDSHAKES = 512
"""Under way at a time: after a deploy all come at once."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a server wants around a publication; see the top of `load.c`."""

    path: str = "/ws"
    publish_path: str = ""
    hello: str = ""
    before: str = ""
    after: str = ""


class Load:
    """The clients of one run."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Use `load_on`."""
        self._process = process

    def connect(self, number: int, *, deaf: bool = False) -> float:
        """Open *number* clients that receive, or that never read; the seconds that it took.

        Raises:
            RuntimeError: not all of them could connect.
        """
        answer = self.tell(f"connect{'-deaf' if deaf else ''} {number}")
        if answer["opened"] != number:
            raise RuntimeError(f"{answer['opened']} of {number} clients could connect")
        return float(answer["seconds"])

    def prepare_to_publish(self) -> None:
        """Open the publishing client, and publish until every client has received something.

        Raises:
            RuntimeError: they do not.
        """
        self.tell("publisher")
        self.tell("size 128")
        for _ in range(5):
            answer = self.tell("window 1 0.2")
            if answer["published"] and answer["received"] == answer["expected"]:
                return
        raise RuntimeError("publications do not reach every client")

    def tell(self, command: str) -> dict[str, Any]:
        """Do *command* and return what it came to."""
        process = self._process
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the load generator was started without pipes")
            process.stdin.write(command + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise RuntimeError(f"the load generator ended at {command!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def build(name: str, directory: Path) -> Path:
    """Compile `benchmarks/<name>.c`."""
    program = directory / Path(name).name
    source = ROOT / "benchmarks" / f"{name}.c"
    command = ["cc", "-O2", f"-DHANDSHAKES={HANDSHAKES}", "-o", str(program), str(source)]
    subprocess.run(command, check=True)  # any compiler
    return program


@contextlib.contextmanager
def load_on(program: Path, port: int, envelope: Envelope) -> Iterator[Load]:
    """Run the load generator on its core until the block is left."""
    process = subprocess.Popen(
        [
            program,
            str(port),
            envelope.path,
            envelope.publish_path,
            envelope.hello,
            envelope.before,
            envelope.after,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=pin_load,  # noqa: PLW1509  (see `serving`)
    )
    try:
        yield Load(process)
    finally:
        process.kill()
        process.communicate()
