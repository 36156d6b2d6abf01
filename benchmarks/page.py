"""`docs/performance.md`, rendered from the figures of a session: claims first, then all tables."""

from benchmarks.candidates import FLOOR, JOINING_FLOOR, LASTCALL, LASTCALL_ASYNCIO
from benchmarks.engines.page import sections
from benchmarks.load import HANDSHAKES
from benchmarks.processes import ROOT
from benchmarks.results_file import CENTRIFUGE_RESULTS, Session, newest, read_session
from benchmarks.table import failures, tables, title
from benchmarks.targets import centrifuge_targets, targets

PAGE = ROOT / "docs" / "performance.md"

_PAGE = """\
# Performance

<!-- Generated: scripts/bench --page, from the newest file in benchmarks/results -->

What a delivery and a connection cost, on the way that real messages take: a client of `/ws`
publishes, all clients of `/ws` receive, under a stock `uvicorn main:app` with announcements,
heartbeat and rate limit off. Measured by `scripts/bench --write`, which you can run on your own
machine; each server that is installed there takes part.

## What we hold ourselves to

{targets}

The *floor* is a C program of {floor_lines} lines that does nothing but one `send(2)` for each
client and message. It has no limits and no slow clients; nobody can be cheaper per write. Who is
faster under load all the same joins messages: what is published in one turn of the event loop
leaves as one write for each client.

## Where we lose

{losses}

## How to read the tables

- Measured {date} at commit `{commit}`; {machine}. Before it began, {load:.1f} processes of the
  machine wanted to run.
- The server had one core and the load generator the other, over loopback. Medians of
  {rounds:.0f} rounds in which the servers took turns; every phase lasted {seconds:g} s and every
  publication had 128 bytes.
- **CPU us a delivery** is the user and system time of all processes of the server, divided by the
  messages that reached a client. It is the figure to trust: half of it is the receiver's side of
  the kernel, which loopback charges to the sender. The multiple of the floor's is taken within each
  round, and stands with the smallest and largest that occurred: that is the noise.
- **Deliveries a second** and **latency** are what the clients saw. They say as much about what
  else ran on the machine as about the server. The latency under load is a queue's: with eight
  publications under way there are always seven before yours.
- **Lost** is what had not arrived 5 s after the last that did or was asked for, in the worst
  round. Servers that cannot keep up with an offered rate lose nothing in truth: they are late.
- **Signs of life** are asked for with a tenth of uvicorn's default intervals, so that six seconds
  show what a minute costs.
- Clients **connect** {at_once} at a time, as after a deploy.
- **Bytes a connection** is the growth of the server's memory (PSS), without the kernel's.

{tables}
{failures}{centrifuge}{engines}## What was compared

{versions}
"""

_CENTRIFUGE = """\
## The Centrifuge protocol

What the [official SDKs](centrifuge.md) speak, against plain text on `/ws` of the same server.
Measured {date} at commit `{commit}` by `scripts/bench centrifuge --write`, in the same way;
{rounds:.0f} rounds. Each client has connected and is subscribed to one channel with history and
recovery; each publication carries its offset and who published it. Before it began, {load:.1f}
processes of the machine wanted to run.

{targets}

- **To come back**: a server with the host's bus publishes, stops and starts again. Then all clients
  connect, {at_once} handshakes at a time, subscribe from before the first publication, and are
  *live* when they have the last. Real clients come back less close together. *MiB at most* is the
  largest resident size of the server's process meanwhile.
- *Few* are {few:.0f} clients to each of {rooms:.0f} channels.

{tables}
"""


def write_page() -> None:
    """Render it from the newest figures."""
    PAGE.write_text(render(read_session(newest()), read_session(newest(CENTRIFUGE_RESULTS))))


def render(session: Session, centrifuge: Session) -> str:
    """The page."""
    source = ROOT / "benchmarks" / "floor.c"
    return _PAGE.format(
        targets=targets(session),
        floor_lines=len(source.read_text().splitlines()),
        losses=_losses(session),
        date=session.date,
        commit=session.commit,
        machine=", ".join(
            [
                session.machine["cpu"],
                f"{session.machine['cores']} cores",
                session.machine["memory"],
                session.machine["kernel"],
            ]
        ),
        load=session.load_before,
        at_once=HANDSHAKES,
        rounds=session.scale["rounds"],
        seconds=session.scale["seconds"],
        tables=tables(session),
        failures=failures(session),
        centrifuge=_centrifuge(centrifuge),
        engines=sections(),
        versions="\n".join(f"- {name}: {words}" for name, words in session.versions.items()),
    )


def _centrifuge(session: Session) -> str:
    return _CENTRIFUGE.format(
        date=session.date,
        commit=session.commit,
        rounds=session.scale["rounds"],
        load=session.load_before,
        targets=centrifuge_targets(session),
        at_once=HANDSHAKES,
        few=session.scale["many"] / session.scale["rooms"],
        rooms=session.scale["rooms"],
        tables=tables(session),
    )


_JUDGED = (
    ("one in flight", "cpu_us", "CPU a delivery"),
    ("eight in flight", "cpu_us", "CPU a delivery"),
    ("eight in flight", "p99_ms", "p99"),
    ("offered", "p50_ms", "p50"),
    ("many", "cpu_us", "CPU a delivery"),
    ("idle", "bytes", "bytes a connection"),
    ("connects", "cpu_us", "CPU a connect"),
    ("keepalive", "cpu_us", "CPU a connection and minute"),
    ("leaving", "cpu_us", "CPU a client"),
)


def _losses(session: Session) -> str:
    """Every row in which another server is better than we are by more than a tenth."""
    lines = []
    for row, name, words in _JUDGED:
        ours = session.figure(row, LASTCALL, name)
        better = []
        for server in session.servers(row):
            theirs = session.figure(row, server, name)
            if server not in (LASTCALL, LASTCALL_ASYNCIO) and theirs * 1.1 < ours:
                better.append(f"{server} ({theirs:,.4g})")
        if better:
            lines.append(f"- {title(session, row)}, {words} ({ours:,.4g}): {', '.join(better)}.")
    floors = f"The *{FLOOR}* and the *{JOINING_FLOOR}* do less than any server may."
    return "\n".join([*lines, "", floors]) if lines else "Nowhere, by more than a tenth."
