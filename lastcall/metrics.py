"""Every metric, declared once, and the text that Prometheus reads.

A worker counts in plain integers where something happens once a turn, a connection or a drain; once
a second it writes them into its record. So each worker can answer for all of its host, those
that left included. docs/decisions/metrics.md says why there is no library between.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from lastcall.drain_report import DrainReport
from lastcall.errors import Disconnect
from lastcall.worker_record import WorkerRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

KNOWN_CODES = frozenset(
    (1000, 1001, 1002, 1005, 1006, 1011, 3001, *(kind.code for kind in Disconnect.__subclasses__()))
)
"""Close codes with a series of their own. A client may send any; the others share one."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name behind `lastcall_`, and what it means."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    label: str = ""
    """Name of the label that its series differ in, beside the worker."""


METRICS = (
    Metric("worker_info", "gauge", "1 for each worker, with its release.", "version"),
    Metric("worker_state", "gauge", "1 for the state in which the worker is.", "state"),
    Metric("connections", "gauge", "Clients that are connected to the worker."),
    Metric("connections_opened_total", "counter", "Clients that came, or were handed over here."),
    Metric("connections_closed_total", "counter", "Clients that are gone.", "code"),
    Metric("limited_total", "counter", "What was refused because of a limit.", "limit"),
    Metric("published_total", "counter", "Publications that the application made here."),
    Metric("publications_total", "counter", "Publications that somebody on the worker listens to."),
    Metric("deliveries_total", "counter", "The same, once for each client written to."),
    Metric("replayed_total", "counter", "Publications written to clients that caught up."),
    Metric("broker_available", "gauge", "1 while publications are carried, else 0."),
    Metric("handover_received_total", "counter", "Clients that other workers handed over here."),
    Metric("handover_pause_seconds", "gauge", "Longest time that a moving client was unserved."),
    Metric("drain_clients_total", "counter", "What became of clients while leaving.", "outcome"),
    Metric("drain_notices_total", "counter", "Shutdown notices sent; each goes to every client."),
    Metric("drain_peak_reconnects", "gauge", "Clients let go in the busiest second of leaving."),
    Metric("drain_seconds", "gauge", "How long leaving has taken so far, or took."),
)

OUTCOMES = ("handed_over", "left", "released", "closed", "cut")


def code_label(code: int) -> str:
    """The label of a close code."""
    return str(code) if code in KNOWN_CODES else "other"


def drain_counts(report: DrainReport) -> dict[str, float]:
    """What the metrics say of a drain."""
    counts: dict[str, float] = {
        f"drain_clients_total:{outcome}": getattr(report, outcome) for outcome in OUTCOMES
    }
    counts["drain_notices_total"] = report.notices
    counts["drain_peak_reconnects"] = report.peak_reconnects
    counts["drain_seconds"] = report.duration
    counts["handover_pause_seconds"] = report.longest_pause
    return counts


def render(records: Iterable[WorkerRecord]) -> str:
    """What Prometheus reads, of all workers that *records* are of."""
    figures = [(record, _figures(record)) for record in records]
    lines: list[str] = []
    for metric in METRICS:
        series = [line for record, each in figures for line in _series(metric, record.pid, each)]
        if series:
            lines.append(f"# HELP lastcall_{metric.name} {metric.help}")
            lines.append(f"# TYPE lastcall_{metric.name} {metric.kind}")
            lines += series
    return "".join(f"{line}\n" for line in lines)


def _figures(record: WorkerRecord) -> dict[str, float]:
    figures = dict(record.counts)
    if record.drain is not None:
        figures |= drain_counts(record.drain)
    if not record.has_left:
        figures[f"worker_info:{record.version}"] = 1
        figures[f"worker_state:{record.state}"] = 1
        figures["connections"] = record.connections
    else:
        # Its counters keep their last values for a while; what is gone has no state.
        figures = {name: value for name, value in figures.items() if name not in _PRESENT}
    return figures


_PRESENT = frozenset(("broker_available",))
"""What is only true of a worker that is there."""


def _series(metric: Metric, pid: int, figures: Mapping[str, float]) -> Iterable[str]:
    for name, value in figures.items():
        base, _, label = name.partition(":")
        if base == metric.name:
            more = f',{metric.label}="{_escaped(label)}"' if metric.label else ""
            yield f'lastcall_{metric.name}{{worker="{pid}"{more}}} {value:.12g}'


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
