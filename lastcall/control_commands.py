"""`lastcall status | reload | scale | stop`: find the server on this host, and speak to it."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from lastcall.control_socket import Answer, Request, ask, masters_in
from lastcall.errors import BrokerUnavailable, SettingsError
from lastcall.exit_status import FAILED
from lastcall.process_identity import ProcessIdentity
from lastcall.run_directory import RunDirectory, all_below
from lastcall.server_status import (
    DeployStatus,
    MasterStatus,
    ServerStatus,
    as_text,
    completed,
    left_in,
    master_of,
    workers_of,
)
from lastcall.settings_file import configured_run_dir

LOOK_AGAIN = 0.2
"""Seconds between two looks at a reload that was asked for."""

RunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="Where the servers are; LASTCALL_RUN_DIR if unset.")
]
Pid = Annotated[
    int | None, typer.Option("--pid", help="Which server: its master, or any of its workers.")
]


@dataclass(frozen=True, slots=True)
class Found:
    """A server, and the door to it."""

    directory: RunDirectory
    status: ServerStatus
    silence: str = ""
    """Why a master of ours did not answer."""

    def has(self, pid: int) -> bool:
        """Whether *pid* is its master, one of its workers, or stands in front of them."""
        first = ProcessIdentity.parse(self.directory.path.name)
        if pid == first.pid and first.is_running():
            return True
        return pid in (self.status.master, *(worker.pid for worker in self.status.workers))

    @property
    def leaves(self) -> bool:
        """Whether it was told to stop, or another master has taken over."""
        return self.status.supervisor is not None and self.status.supervisor.stopping

    def ask(self, request: Request) -> Answer:
        """Ask the master, or end with a sentence why it did not do it."""
        if self.silence:
            _fail(self.silence)
        if self.status.supervisor is None:
            _fail(f"only a master of `lastcall serve --workers N` can {request.command}")
        try:
            answer = ask(self.directory, self.status.supervisor.pid, request)
        except (OSError, SettingsError) as error:
            _fail(f"the master {self.status.supervisor.pid} does not answer: {error}")
        if answer.error:
            _fail(answer.error)
        return answer

    def look_again(self) -> MasterStatus | None:
        """Ask the master how it is; None if it has left."""
        request = Request(command="status")
        try:
            return ask(self.directory, self.status.master or 0, request).status
        except OSError as error:
            # Its file goes before its socket does.
            if any(each.pid == self.status.master for each in masters_in(self.directory)):
                _fail(f"the master {self.status.master} does not answer: {error}")
            return None


def status(
    *,
    run_dir: RunDir = None,
    pid: Pid = None,
    everywhere: Annotated[
        bool, typer.Option("--all", help="Of all hosts that share LASTCALL_BROKER_URL.")
    ] = False,
    as_object: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every server of this user: workers, clients, memory, the last deploy."""
    if everywhere:
        _status_of_all_hosts(as_object=as_object)
        return
    found = [each for each in _find(run_dir) if pid is None or each.has(pid)]
    servers = [each.status for each in found]
    if as_object:
        typer.echo(msgspec.json.format(msgspec.json.encode(servers)))
    else:
        typer.echo(as_text(servers) if servers else "no server runs here", nl=not servers)
    if not servers:
        raise SystemExit(FAILED)


def _status_of_all_hosts(*, as_object: bool) -> None:
    # Of these commands only this one needs all settings, and what hosts share.
    from lastcall.all_hosts import all_hosts  # noqa: PLC0415  (half a second of a core)

    try:
        found = all_hosts()
    except (BrokerUnavailable, SettingsError) as error:
        _fail(error)
    text = msgspec.json.format(msgspec.json.encode(found)).decode() + "\n"
    typer.echo(text if as_object else found.as_text(), nl=False)
    if not found.servers:
        raise SystemExit(FAILED)


def reload(
    *,
    run_dir: RunDir = None,
    pid: Pid = None,
    wait: Annotated[bool, typer.Option(help="Until the new workers serve.")] = True,
) -> None:
    """Replace all workers by new ones; status 1 if they do not start and the old ones stay."""
    server = _the_one(run_dir, pid)
    number = server.ask(Request(command="reload")).deploy
    while wait:
        time.sleep(LOOK_AGAIN)
        status = server.ask(Request(command="status")).status
        for deploy in status.deploys if status is not None else ():
            if deploy.number == number and deploy.phase != "starting":
                _report(deploy)
                return


def upgrade(
    *,
    run_dir: RunDir = None,
    pid: Pid = None,
    wait: Annotated[bool, typer.Option(help="Until the new master's workers serve.")] = True,
) -> None:
    """Have a new master of what is installed now take over; status 1 if it does not start."""
    server = _the_one(run_dir, pid)
    number = server.ask(Request(command="upgrade")).deploy or 0
    while wait:
        time.sleep(LOOK_AGAIN)
        status = server.look_again()
        if status is None:
            if not any(masters_in(server.directory)):
                _fail(f"the master {server.status.master} is gone, and no other is here")
            typer.echo("a new master has taken over")  # and the old one left at once
            return
        for deploy in status.deploys:
            # A reload that was asked for meanwhile may come first, and take the number.
            is_it = deploy.kind == "upgrade" and deploy.number >= number
            if is_it and deploy.phase != "starting":
                _report(deploy)
                return


def scale(workers: int, *, run_dir: RunDir = None, pid: Pid = None) -> None:
    """Have WORKERS workers from now on; who is one too many drains."""
    if workers < 1:
        _fail(f"{workers} is not a number of workers, 1 or more")
    _the_one(run_dir, pid).ask(Request(command="scale", workers=workers))


def stop(*, run_dir: RunDir = None, pid: Pid = None) -> None:
    """Ask the server to stop, whoever runs it; its clients are told, and have their time."""
    server = _the_one(run_dir, pid)
    if server.status.supervisor is not None:
        server.ask(Request(command="stop"))
        return
    told = server.status.master or server.status.workers[0].pid
    identity = ProcessIdentity.of(told)
    if identity is None or not identity.signal(signal.SIGTERM):
        _fail(f"process {told} is gone")


def _report(deploy: DeployStatus) -> None:
    if deploy.phase == "given up":
        _fail(f"{deploy.kind} {deploy.number} given up, the old workers stay: {deploy.reason}")
    count = deploy.retired + len(deploy.retiring)
    typer.echo(
        f"{deploy.kind} {deploy.number}: the new workers serve after {deploy.ready_after:.1f} s, "
        f"{count} old ones retire"
    )


def _find(run_dir: Path | None) -> list[Found]:
    base = run_dir or configured_run_dir()
    found = [server for directory in all_below(base) for server in _in(directory)]
    return [server for server in found if server.status.workers or server.status.master]


def _in(directory: RunDirectory) -> list[Found]:
    workers, left, silence = workers_of(directory), left_in(directory), ""
    supervisors = []
    for identity in masters_in(directory):
        try:
            answer = ask(directory, identity.pid, Request(command="status")).status
        except (OSError, SettingsError) as error:
            answer, silence = None, f"the master {identity.pid} does not answer: {error}"
        if answer is not None:
            supervisors.append(answer)
    path, master = str(directory.path), master_of(directory, workers)
    if not supervisors:
        status = ServerStatus(
            directory=path, master=master, supervisor=None, workers=workers, left=left
        )
        return [Found(directory, status, silence)]
    return [
        Found(
            directory,
            ServerStatus(
                directory=path,
                master=own.pid,
                supervisor=own,
                workers=completed(own, workers, left),
                left=left,
            ),
        )
        for own in supervisors
    ]


def _the_one(run_dir: Path | None, pid: int | None) -> Found:
    found = [each for each in _find(run_dir) if pid is None or each.has(pid)]
    if not found:
        _fail("no server runs here" if pid is None else f"{pid} is no server here")
    if len(found) > 1:
        found = [each for each in found if not each.leaves] or found
    if len(found) > 1:
        masters = ", ".join(str(each.status.master or each.status.workers[0].pid) for each in found)
        _fail(f"several servers run here, name one by --pid: {masters}")
    return found[0]


def _fail(reason: object) -> NoReturn:
    sys.stderr.write(f"lastcall: {reason}\n")
    raise SystemExit(FAILED)


COMMANDS = (status, reload, upgrade, scale, stop) if os.name == "posix" else ()


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in COMMANDS:
        app.command()(command)


def main() -> None:
    """Run a command line that has nothing but these."""
    app = typer.Typer(name="lastcall", pretty_exceptions_enable=False)
    register(app)
    app()
