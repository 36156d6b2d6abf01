"""What hosts that share an engine promise their clients, whatever happens to both."""

from dataclasses import asdict

import anyio

from benchmarks.deploys.hosts_under_fire import ENGINE_IS_AWAY, Fired, Scale, under_fire
from benchmarks.deploys.results import Outcome, Part, say
from tests.engines import ENGINES


def measure(engine: str, scale: Scale) -> Part:
    """Nobody misses anything without being told, whatever happens to engine and hosts."""
    with ENGINES[engine]() as process:
        fired = anyio.run(under_fire, process, scale, backend_options={"use_uvloop": True})
    for complaint in fired.complaints[:10]:
        say(complaint)
    figures = {
        "scale": asdict(scale),
        "steps": [asdict(step) for step in fired.steps],
        "complaints": list(fired.complaints[:100]),
        "reconnects": sum(step.reconnects for step in fired.steps),
        "heard": fired.heard,
    }
    command = f"scripts/bench deploys hosts --engine {engine}"
    return Part(f"hosts-on-{engine}", judge(engine, fired, scale), command, notes(scale), figures)


def judge(engine: str, fired: Fired, scale: Scale) -> list[Outcome]:
    """What the target says of it."""
    under = (
        f"{scale.hosts} hosts with {scale.workers} workers each on `{engine}`, "
        f"{scale.clients:,} clients, {scale.rate:g} publications a second in {scale.channels} "
        f"channels; the engine restarted {scale.restarts} times, "
        f"and of hosts: {', '.join(scale.others)}"
    )
    silent = len(fired.complaints) + fired.lost
    longest = max(fired.steps, key=lambda step: step.seconds)
    return [
        Outcome(
            f"{under}: every client has every offset once, in order, or was told that it has not",
            f"{silent} silent gaps, doubles and losses; told {fired.told} times; "
            f"{fired.publications:,} publications, heard {fired.heard:,} times; "
            f"all heard again after {longest.seconds:.1f} s at most ({longest.what})",
            not silent,
        )
    ]


def notes(scale: Scale) -> str:
    """How it was measured."""
    return _NOTES.format(
        hosts=scale.hosts,
        each=scale.clients // scale.channels,
        away=ENGINE_IS_AWAY,
        seconds=scale.seconds,
    )


_NOTES = """\
- A host is a `lastcall serve` with a run directory and a state directory of its own; {hosts} of
  them share one engine (`benchmarks/deploys/hosts_under_fire.py`).
- Each client speaks the Centrifuge protocol, hears one channel, as {each} do, and publishes in it
  in its turn. It comes back with its position, as the SDKs do, and complains of an offset that is
  not the next one, and of a publication that others heard otherwise. What was acknowledged and
  heard by nobody counts as a loss.
- *engine*: killed with SIGKILL, away for {away:g} s, started with what it had stored. *kill*: a
  host's processes are killed; its clients go to the others. *start*: it is there again. *roll*:
  SIGHUP replaces a host's workers. *stop*: a host leaves in order; its clients are released and go
  to the others. Before each there are {seconds:g} s of peace, and after each everybody has to hear
  a word in each channel.
"""
