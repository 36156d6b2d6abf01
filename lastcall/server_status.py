"""What `lastcall status` shows: from the master's socket, the workers' files and the system."""

from collections.abc import Sequence

import msgspec

from lastcall.drain_report import DrainReport, merged
from lastcall.process_identity import ProcessIdentity
from lastcall.run_directory import RunDirectory
from lastcall.worker_coordinator import records_in
from lastcall.worker_status import WorkerStatus, by_file, memory

_MIB = 1024 * 1024


class DeployStatus(msgspec.Struct, kw_only=True):
    """A reload, recycling or upgrade."""

    number: int
    kind: str
    generation: int
    began: str
    phase: str
    reason: str
    ready_after: float | None
    took: float | None
    retired: int
    retiring: list[int]
    replaced: list[int] = []
    """All workers that it has replaced, also when they are gone."""
    drain: DrainReport | None = None
    """What it did to their clients, so far; kept for an hour after they have left."""


class MasterStatus(msgspec.Struct, kw_only=True):
    """What a master of ours answers."""

    pid: int
    version: str
    python: str
    address: str
    uptime: float
    size: int
    generation: int
    stopping: bool
    workers: list[WorkerStatus]
    deploys: list[DeployStatus]
    """The last ones, newest last."""


class ServerStatus(msgspec.Struct, kw_only=True):
    """One server on one host."""

    directory: str
    master: int | None
    """Pid of whoever started the workers; None for a worker that has none."""
    supervisor: MasterStatus | None
    """Of `lastcall serve`; None under other masters, and if it does not answer."""
    workers: list[WorkerStatus]
    left: list[WorkerStatus] = []
    """Workers that have left within the last hour, the latest first."""
    host: str = ""
    """Which one, where the server has several and all were asked."""


def workers_of(directory: RunDirectory) -> list[WorkerStatus]:
    """Those who live, by their files."""
    found = [by_file(record) for record in records_in(directory) if not record.has_left]
    return sorted(found, key=lambda worker: worker.pid)


def left_in(directory: RunDirectory) -> list[WorkerStatus]:
    """Those who have left lately, the latest first."""
    records = [record for record in records_in(directory) if record.has_left]
    records.sort(key=lambda record: record.since, reverse=True)
    return [
        WorkerStatus(pid=each.pid, state="left", version=each.version, drain=each.drain)
        for each in records
    ]


def drain_of(directory: RunDirectory, pids: Sequence[int]) -> DrainReport | None:
    """What the workers *pids* have done to their clients together; None: nobody says."""
    workers = (*left_in(directory), *workers_of(directory))
    return merged(each.drain for each in workers if each.pid in pids and each.drain is not None)


def completed(
    master: MasterStatus, by_files: list[WorkerStatus], left: list[WorkerStatus]
) -> list[WorkerStatus]:
    """Add what files and system know to what the master knows."""
    drains = {worker.pid: worker.drain for worker in (*left, *by_files) if worker.drain}
    for deploy in master.deploys:
        deploy.drain = merged(drains[pid] for pid in deploy.replaced if pid in drains)
    known = {worker.pid: worker for worker in by_files}
    for worker in master.workers:
        file = known.get(worker.pid)
        if file is not None:
            worker.connections, worker.version = file.connections, file.version
            worker.draining, worker.drain = file.draining, file.drain
        worker.rss, worker.pss = memory(worker.pid)
    return master.workers


def master_of(directory: RunDirectory, workers: list[WorkerStatus]) -> int | None:
    """Whose pid names the directory, while it runs and is not itself the worker."""
    master = ProcessIdentity.parse(directory.path.name)
    is_alone = [worker.pid for worker in workers] == [master.pid]
    return master.pid if master.is_running() and not is_alone else None


def as_text(servers: list[ServerStatus]) -> str:
    """For people."""
    return "\n".join("\n".join(_server(server)) + "\n" for server in servers)


def _server(server: ServerStatus) -> list[str]:
    own, lines = server.supervisor, [_title(server)]
    lines.append(_row("WORKER", "GENERATION", "STATE", "CONNECTIONS", "UP", "MEMORY"))
    for worker in server.workers:
        memory = worker.pss or worker.rss
        lines.append(
            _row(
                worker.pid,
                worker.generation,
                worker.state,
                worker.connections,
                None if worker.uptime is None else _span(worker.uptime),
                None if memory is None else f"{memory / _MIB:.0f} MiB",
            )
        )
    lines += [_drain(worker) for worker in server.workers if worker.drain is not None]
    if own is not None and own.deploys:
        lines.append(_deploy(own.deploys[-1]))
    elif server.left:
        lines.append(_drain(server.left[0]))
    return lines


def _title(server: ServerStatus) -> str:
    own = server.supervisor
    if own is not None:
        return (
            f"lastcall {own.version} on {own.address}: master {own.pid}, Python {own.python}, "
            f"up {_span(own.uptime)}" + (", stopping" if own.stopping else "")
        )
    place = f"on {server.host}" if server.host else f"in {server.directory}"
    if server.master is not None:
        return f"master {server.master} {place}"
    return f"one worker without a master {place}"


def _drain(worker: WorkerStatus) -> str:
    report = worker.drain or DrainReport()
    leaves = f"left after {_span(report.duration)}" if report.finished else "leaves"
    return f"  worker {worker.pid} {leaves}: {report.sentence()}"


def _row(*cells: object) -> str:
    widths = (9, 12, 11, 13, 10, 9)
    shown = ("-" if cell is None else str(cell) for cell in cells)
    return ("  " + "".join(map(str.ljust, shown, widths))).rstrip()


def _deploy(deploy: DeployStatus) -> str:
    line = f"{deploy.kind} {deploy.number} of {deploy.began}: {deploy.phase}"
    if deploy.reason:
        line += f", {deploy.reason}"
    if deploy.ready_after is not None:
        line += f", new workers ready after {_span(deploy.ready_after)}"
        line += f", {deploy.retired} old ones left, {len(deploy.retiring)} still drain"
    if deploy.took is not None:
        line += f", took {_span(deploy.took)}"
    if deploy.drain is not None:
        line += f"\n  {deploy.drain.sentence()}"
    return line


def _span(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004  (a minute)
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004  (two digits)
    minutes, hours = int(seconds / 60), int(seconds / 3600)
    return f"{minutes} min" if not hours else f"{hours} h {minutes % 60} min"
