"""What an engine is held to, and its section of `docs/performance.md`."""

from collections.abc import Iterator
from statistics import median

from benchmarks.candidates import BARE, ONE_WORKER, OVER_BUS, OVER_ENGINE
from benchmarks.results_file import ENGINE_RESULTS, Session, newest, read_session
from benchmarks.table import failures, spread, tables, title
from benchmarks.targets import Outcome, difference, judged

_SECTION = """\
## Several hosts on {engine}

What it costs that hosts [share an engine](scaling.md), on the same {engine} as others that use it.
Measured {date} at commit `{commit}` by `scripts/bench {name} --write`; medians of {rounds:.0f}
rounds. Before it began, {load:.1f} processes of the machine wanted to run.

{targets}

- *One worker* is a process of the server whose application calls `publish`; 500 publications are
  under way at any time, in 20 channels, and each is answered with its position. The bare client
  does what one comes down to without our promises, a hundred at a time. Each had one core and the
  engine the other.
- Two workers stand for two hosts: they hear of each other by nothing but the engine. They and the
  engine share one core, the load generator has the other. *Over the host bus* the same two workers
  have no engine.
- Clients of *{subscribers:.0f} x {each:.0f}* are on one worker, and hear channels that nobody else
  hears. *Afterwards* nothing is published, and their channels are not yet compared with where they
  stand in the engine, which begins after half a minute (500 a second).
- Those that only *hear* are workers' brokers without clients; the publisher hears as well. On the
  bus the first worker is the sequencer.
- Compared were {versions}.

{tables}
{failures}"""


def sections() -> str:
    """Those of all engines that were measured."""
    names = sorted({path.name.partition("-")[0] for path in ENGINE_RESULTS.glob("*.json")})
    return "".join(
        section(name, read_session(newest(ENGINE_RESULTS, f"{name}-*.json"))) for name in names
    )


def section(name: str, session: Session) -> str:
    """What was measured of one."""
    return _SECTION.format(
        engine=next(iter(session.versions)),
        name=name,
        date=session.date,
        commit=session.commit,
        rounds=session.scale["rounds"],
        load=session.load_before,
        targets=engine_targets(session),
        subscribers=session.scale["subscribers"],
        each=session.scale["each"],
        versions=", ".join(dict.fromkeys(session.versions.values())),
        tables=tables(session),
        failures=failures(session),
    )


def engine_targets(session: Session) -> str:
    """All of them as a table; those that were not measured are left out."""
    return judged(session, (_publishing, _way, _others, _channels))


def _publishing(session: Session) -> Iterator[Outcome]:
    if not session.servers("publishing"):
        return
    rate = session.figure("publishing", ONE_WORKER, "publications")
    yield Outcome(
        "Publications a second through one worker, 128 bytes with history: at least 15,000",
        f"{rate:,.0f}",
        rate >= 15_000,
    )
    ratio = session.ratios("publishing", ONE_WORKER, "publications", BARE)
    yield Outcome(
        "At least 0.4 of what the engine's own client does, pipelined",
        spread(ratio),
        median(ratio) >= 0.4,
    )


def _way(session: Session) -> Iterator[Outcome]:
    if not session.servers("hosts, few"):
        return
    added = difference(session, "hosts, few", OVER_ENGINE, OVER_BUS, "p50_ms")
    yield Outcome(
        f"{title(session, 'hosts, few')}: p50 at most 1 ms later than over the host bus",
        f"{added:+.2f} ms",
        added <= 1,
    )


def _others(session: Session) -> Iterator[Outcome]:
    for row in ("hosts", "hosts, eight"):
        others = [each for each in session.servers(row) if each not in (OVER_ENGINE, OVER_BUS)]
        if others:
            ratios = {
                each: median(session.ratios(row, each, "cpu_us", OVER_ENGINE)) for each in others
            }
            best = min(ratios, key=lambda each: ratios[each])
            yield Outcome(
                f"{title(session, row)}: less CPU a delivery than all others on the engine",
                f"the best of them, {best}, takes {ratios[best]:.1f} times as much",
                ratios[best] > 1,
            )


def _channels(session: Session) -> Iterator[Outcome]:
    servers = session.servers("subscriptions")
    if len(servers) > 1:
        few, many = servers
        seconds = session.figure("subscriptions", many, "seconds")
        added = difference(session, "subscriptions", many, few, "bytes")
        channels = session.figure("subscriptions", many, "channels")
        yield Outcome(
            f"{channels:,.0f} channels on one worker: all are subscribed",
            f"{seconds:.1f} s, {added / (session.scale['each'] - 1):,.0f} bytes each",
            channels == session.scale["subscribers"] * session.scale["each"],
        )
