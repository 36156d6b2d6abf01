"""Which workers belong together, and what they share: run directory, coordinator, broker."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lastcall.broker.base import Broker, Retention
from lastcall.broker.memory import MemoryBroker
from lastcall.channels import ChannelRetention
from lastcall.errors import SettingsError
from lastcall.host import Host, family_of
from lastcall.logs import log_event
from lastcall.peers import machine_name
from lastcall.process_identity import ProcessIdentity
from lastcall.record_lock import has_record_locks
from lastcall.run_directory import RunDirectory
from lastcall.settings import Settings
from lastcall.sole_worker import SoleWorker
from lastcall.worker_coordinator import Coordinator, WorkerCoordinator
from lastcall.working_directory import working_directory


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What this worker has in common with its siblings."""

    coordinator: Coordinator
    broker: Broker
    broker_name: str
    path: Path | None
    has_one_stream: bool = False
    """Whether all workers hear the same streams, so that positions mean the same on each."""
    machine: str = ""
    """How this host is called among those of the server; empty: it is the only one."""


@contextmanager
def find_neighbourhood(settings: Settings, host: Host) -> Iterator[Neighbourhood]:
    """Arrive among the siblings; leave them, with everything we put there, at the end.

    Siblings have the same master; without one, a process is alone, whatever else runs here.

    Raises:
        SettingsError: several workers are asked for where only one can be, or a directory is unfit.
    """
    url = _url(settings, host)
    limits = ChannelRetention(settings)
    remote = broker_of_hosts(settings, limits) if "//" in url else None
    machine = machine_name() if remote else ""
    if not has_record_locks():
        if url == "unix:":
            raise SettingsError("this system can run one worker only: several need Unix")
        broker, name = remote or (MemoryBroker(limits), "memory:")
        yield Neighbourhood(SoleWorker(), broker, name, None, machine=machine)
        return
    itself = ProcessIdentity.of(os.getpid())
    assert itself is not None  # noqa: S101  (we are running)
    run_dir = RunDirectory.open(family_of(host.master or itself), settings.run_dir)
    run_dir.sweep()
    coordinator = WorkerCoordinator(run_dir, host.master if host.obeys_last_worker else None)
    coordinator.arrive()
    try:
        broker, name = remote or (MemoryBroker(limits), url)
        if url == "unix:":
            broker = _local(settings, run_dir, limits, coordinator)
        yield Neighbourhood(
            coordinator, broker, name, run_dir.path, url != "memory:", machine=machine
        )
    finally:
        coordinator.leave()


def _url(settings: Settings, host: Host) -> str:
    has_siblings = host.workers > 1 or host.obeys_last_worker
    url = settings.broker_url or ("unix:" if has_siblings else "memory:")
    if url == "memory:" and host.workers > 1:
        log_event(
            "workers_apart",
            "LASTCALL_BROKER_URL is memory: with {workers} workers: "
            "clients of different workers do not hear each other",
            level=logging.WARNING,
            workers=host.workers,
        )
    return url


def broker_of_hosts(settings: Settings, limits: Retention) -> tuple[Broker, str]:
    """The broker of several hosts, and what may be shown of where it is.

    Raises:
        SettingsError: its address cannot be used, or what speaks to it is not installed.
    """
    broker = _nats if settings.broker_url.startswith(("nats:", "tls:")) else _redis
    return broker(settings, limits)


def _nats(settings: Settings, limits: Retention) -> tuple[Broker, str]:
    from lastcall.broker.nats import NatsBroker  # noqa: PLC0415  (only for who uses it)

    broker = NatsBroker(settings.broker_url, limits, prefix=settings.broker_prefix)
    return broker, broker.name


def _redis(settings: Settings, limits: Retention) -> tuple[Broker, str]:
    try:
        from lastcall.broker.redis import RedisBroker  # noqa: PLC0415  (only for who uses it)
    except ModuleNotFoundError as error:
        raise SettingsError(
            "LASTCALL_BROKER_URL names a Redis, which needs another package: "
            "pip install 'lastcall[redis]'"
        ) from error
    broker = RedisBroker(settings.broker_url, limits, prefix=settings.broker_prefix)
    return broker, broker.name


def _local(
    settings: Settings,
    run_dir: RunDirectory,
    limits: Retention,
    coordinator: WorkerCoordinator,
) -> Broker:
    from lastcall.broker.unix_socket import UnixSocketBroker  # noqa: PLC0415  (Unix only)

    broker: Broker = UnixSocketBroker(
        run_dir.path, _state_dir(settings), limits, stands_back=coordinator.leaves_to_others
    )
    return broker


def _state_dir(settings: Settings) -> Path:
    """Where the log outlives this server.

    Raises:
        SettingsError: it cannot be written: there the broker would wait for ever for its log.
    """
    path = settings.state_dir or default_state_dir()
    problem = None
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror
    else:
        if not os.access(path, os.W_OK | os.X_OK):
            problem = "it cannot be written"
    if problem is not None:
        raise SettingsError(
            f"LASTCALL_STATE_DIR: {path} cannot be used ({problem}): "
            "name a directory that this user may write"
        )
    return path


def default_state_dir() -> Path:
    """The service's own directory if systemd made one, else one for this application at home."""
    base = os.environ.get("STATE_DIRECTORY")
    if base:
        return Path(base.split(":")[0])
    try:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # a container may run as a user that nobody has heard of
        raise SettingsError(
            "LASTCALL_STATE_DIR is not set, and this user has no home: "
            "name a directory that this user may write"
        ) from None
    return home / "lastcall" / working_directory().as_posix().strip("/").replace("/", "-")
