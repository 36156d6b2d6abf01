"""What an upgrade to another version on another Python does to clients, and the way back."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.deploys.releases import Release, Releases
from benchmarks.deploys.restarts import (
    Restarts,
    Scale,
    again_and_again,
    everybody_stays,
    figures,
    served,
    short_pause,
)
from benchmarks.deploys.results import Part
from lastcall.server_status import ServerStatus
from tests.server_process import ServerProcess

SCALE = Scale(restarts=20)
"""Ten times there, and ten times back."""
PATIENCE = 120
"""Seconds for any one command."""


def upgrades(
    releases: Releases, program: Path, scale: Scale, say: Callable[[str], object] = print
) -> Restarts:
    """Upgrade to the new release, back to the old one, and so on, under load.

    Raises:
        RuntimeError: the command failed, or what serves then is not what was deployed.
    """
    releases.deploy(releases.old)
    with served(releases.command, program, scale, cwd=releases.current) as (server, crowd):
        check(releases, server, releases.old)

        def upgrade(number: int) -> None:
            release = (releases.new, releases.old)[number % 2]
            releases.deploy(release)
            say(lastcall(releases, server, "upgrade").strip())
            check(releases, server, release)

        return again_and_again(server, crowd, scale, upgrade, say)


def lastcall(releases: Releases, server: ServerProcess, *arguments: str) -> str:
    """Run a command of the release that was deployed; what it prints.

    Raises:
        RuntimeError: it says that it did not succeed.
    """
    ended = subprocess.run(
        [releases.program, *arguments],
        env={"PATH": os.environ["PATH"], "LASTCALL_RUN_DIR": str(server.run_dir)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{ended.stderr}\n{server.describe()}")
    return ended.stdout


def check(releases: Releases, server: ServerProcess, release: Release) -> None:
    """Make sure that master and workers are of *release*, which is the whole point.

    Raises:
        RuntimeError: they are not.
    """
    said = lastcall(releases, server, "status", "--json")
    servers = msgspec.json.decode(said, type=list[ServerStatus])
    serving = [(each, each.supervisor) for each in servers if each.supervisor is not None]
    (found,) = ((each, own) for each, own in serving if not own.stopping)
    each, own = found
    versions = {own.version, *(worker.version for worker in each.workers)}
    if versions != {release.version} or not own.python.startswith(f"{release.python}."):
        raise RuntimeError(f"{release} was to serve, and {versions} on {own.python} does")


def measure(releases: Releases, program: Path, scale: Scale, say: Callable[[str], object]) -> Part:
    """Row 2: everybody stays, there and back."""
    say(f"{scale.restarts} upgrades between {releases.old} and {releases.new}")
    done = upgrades(releases, program, scale, say)
    under = (
        f"`lastcall upgrade` from {releases.old} to {releases.new} and back, "
        f"{scale.workers} workers, {scale.restarts} times"
    )
    outcomes = [*everybody_stays(under, done, scale), short_pause(under, done)]
    kept = figures(done)
    return Part("upgrades", outcomes, "scripts/bench deploys upgrades", notes(kept), kept)


def notes(kept: dict[str, Any]) -> str:
    """How it was measured."""
    return _NOTES.format(quiet=kept["quiet_p99_ms"])


_NOTES = """\
- Clients, rooms, messages and pauses are those of the restarts.
- Two releases stand side by side, each with its own environment: the built wheel of this version
  on one Python, of a later version on the next. Every second time is the way back. A deploy moves
  the link by which the server was started, and says `lastcall upgrade`; version and Python of
  master and workers are checked after each.
- Here two masters and twice as many workers start and run on the same cores as the clients. With
  nothing going on the 99th percentile of the pauses is {quiet} ms.
"""
