"""What it costs that every worker hears a publication: from the engine, or from the host's bus."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from benchmarks.engines.engine import Engine
from benchmarks.engines.hearer import BUS
from benchmarks.engines.scale import EngineScale
from benchmarks.processes import LOAD_CORE, ROOT, pin_server
from benchmarks.runs import Figures, Rows, Tools

type Answer = dict[str, float]


class Hearer:
    """A process with a broker; see `hearer.py`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Wait until it hears."""
        self._process = process
        self.answer()

    def say(self, command: str) -> None:
        """Do *command*; `answer` tells when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> Answer:
        """What became of the last command."""
        assert self._process.stdout is not None
        figures: Answer = json.loads(self._process.stdout.readline())
        return figures

    def report(self, heard: int = 0) -> Answer:
        """What it has heard since the last report, which is that much, and for how much CPU."""
        self.say(f"report {heard}")
        return self.answer()


def hearing(engine: Engine, _tools: Tools, scale: EngineScale) -> Iterator[tuple[str, Rows | str]]:
    """Publish in one worker what more and more workers hear."""
    engine.move_to(LOAD_CORE)
    for name, url in (("host bus", BUS), (engine.measured.title, engine.url)):
        for count in scale.hearers:
            with hearers(count, url) as workers:
                for rate in scale.hearing_rates:
                    figures = _heard(engine, workers, rate, scale.seconds)
                    yield f"{name}, {count} workers, {rate} a second", {"hearing": figures}


@contextlib.contextmanager
def hearers(count: int, url: str) -> Iterator[list[Hearer]]:
    """So many workers, the first of which is the sequencer if they have a bus."""
    with tempfile.TemporaryDirectory(prefix="lcb-") as directory, contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "benchmarks.engines.hearer", url, directory]
        Path(directory).chmod(0o700)
        workers = []
        for _ in range(count):
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                preexec_fn=pin_server,  # noqa: PLW1509  (this process has one thread)
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            workers.append(Hearer(process))
        yield workers


def _heard(engine: Engine, workers: list[Hearer], rate: int, seconds: float) -> Figures:
    for worker in workers:
        worker.report()
    cpu = engine.cpu_seconds
    workers[-1].say(f"publish {rate} {seconds}")
    published = int(workers[-1].answer()["published"])
    reports = [worker.report(published) for worker in workers]
    cpu = engine.cpu_seconds - cpu
    if any(report["heard"] != published for report in reports):
        raise RuntimeError(f"{published} publications, of which was heard: {reports}")
    first, *others, last = (report["cpu_s"] / published * 1e6 for report in reports)
    return {
        "engine_us": cpu / published * 1e6,
        "publish_us": last,
        "first_us": first,
        "hear_us": mean(others),
    }
