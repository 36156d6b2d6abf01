"""The figures of a session as tables, in Markdown that can also be read in a terminal."""

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.candidates import BARE, FLOOR, OVER_ENGINE, PLAIN
from benchmarks.results_file import Session

TITLES = {
    "one in flight": "{clients:.0f} clients, one publication under way",
    "eight in flight": "{clients:.0f} clients, eight publications under way",
    "offered": "{clients:.0f} clients, {rate:.0f} publications a second asked for",
    "many": "{many:.0f} clients, eight publications under way",
    "idle": "{many:.0f} idle connections",
    "connects": "{many:.0f} clients that connect",
    "keepalive": "{many:.0f} idle connections that are asked for signs of life",
    "leaving": "{most:.0f} clients that leave at once",
    "workers, few": "{few:.0f} clients on one worker or two, {slow_rate:.0f} publications a second",
    "workers": "Workers that share a core and a bus, twice {clients:.0f} clients, "
    "one publication under way",
    "publishing": "Publications of 128 bytes with history through one process, as many as go",
    "hosts, few": "{few:.0f} clients on two workers, {slow_rate:.0f} publications a second",
    "hosts": "{clients:.0f} clients on two workers, one publication under way",
    "hosts, eight": "{clients:.0f} clients on two workers, eight publications under way",
    "subscriptions": "{subscribers:.0f} clients that connect, each with channels of its own",
    "hearing": "Workers that hear what one of them publishes",
    "deaf": "{clients:.0f} clients of which one never reads",
    "recovery": "{many:.0f} clients that come back after a restart, each with {missed:.0f} "
    "publications to catch up",
}
_FAN_OUT = {
    "deliveries": "deliveries a second",
    "cpu_us": "CPU us a delivery",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "lost": "lost",
}
_OVER_HOSTS = {**_FAN_OUT, "engine_us": "the engine's CPU us a publication"}
_COLUMNS = {
    "idle": {"bytes": "bytes a connection"},
    "connects": {"connects": "connects a second", "cpu_us": "CPU us a connect"},
    "keepalive": {"cpu_us": "CPU us a connection and minute"},
    "leaving": {"cpu_us": "CPU us a client"},
    "publishing": {
        "publications": "publications a second",
        "cpu_us": "CPU us a publication",
        "engine_us": "the engine's",
        "commands": "commands in the engine",
    },
    "hosts": _OVER_HOSTS,
    "hosts, eight": _OVER_HOSTS,
    "subscriptions": {
        "seconds": "s until all are there",
        "cpu_us": "CPU us a channel",
        "engine_us": "the engine's",
        "bytes": "bytes a connection with its channels",
        "engine_bytes": "bytes of the engine a channel",
        "idle_percent": "% of a core afterwards",
        "engine_idle_percent": "the engine's",
    },
    "hearing": {
        "engine_us": "the engine's CPU us a publication",
        "publish_us": "who publishes",
        "first_us": "the first worker",
        "hear_us": "each of the others",
    },
    "recovery": {
        "seconds": "s until all are live",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "cpu_s": "CPU s",
        "before_mib": "MiB before",
        "peak_mib": "MiB at most",
        "lost": "lost",
    },
}
_YARDSTICKS = {
    FLOOR: "CPU, of the floor's",
    PLAIN: "CPU, of plain text's",
    OVER_ENGINE: "CPU, of Lastcall's",
    BARE: "CPU, of the bare client's",
}
"""By which others are measured, where they took part."""
_WORST_COUNTS = {"lost", "out_of_order"}


def tables(session: Session) -> str:
    """A table for each row that was measured."""
    return "\n".join(table(session, row) for row in TITLES if session.servers(row))


def failures(session: Session) -> str:
    """What went wrong, in words; nothing where nothing did."""
    if not session.failures:
        return ""
    lines = [f"- {name}: {words}" for name, words in session.failures.items()]
    return "\n".join(["### What failed", "", *lines, "", ""])


def title(session: Session, row: str) -> str:
    """What the row is about."""
    return TITLES[row].format(**session.scale)


def table(session: Session, row: str) -> str:
    """The medians of *row*, with the cost as a multiple of the yardstick's."""
    columns = _COLUMNS.get(row, _FAN_OUT)
    servers = session.servers(row)
    yardstick = next((each for each in _YARDSTICKS if each in servers), None)
    if "cpu_us" not in columns:
        yardstick = None
    head = ["server", *columns.values()] + ([_YARDSTICKS[yardstick]] if yardstick else [])
    lines = []
    for server in servers:
        cells = [_cell(session, row, server, column) for column in columns]
        if yardstick:
            cells.append(spread(session.ratios(row, server, "cpu_us", yardstick)))
        lines.append([server, *cells])
    return f"### {title(session, row)}\n\n{grid(head, lines)}\n"


def grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def spread(ratios: Sequence[float]) -> str:
    """The median of ascending *ratios*, and in brackets the smallest and the largest."""
    if not ratios:
        return "-"
    middle = median(ratios)
    if len(ratios) == 1:
        return f"{middle:.2f}"
    return f"{middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def _cell(session: Session, row: str, server: str, column: str) -> str:
    if column in _WORST_COUNTS:
        return f"{session.largest(row, server, column):,.0f}"
    value = session.figure(row, server, column)
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
