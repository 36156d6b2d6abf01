"""What Prometheus reads: every name declared, every series well formed, the left ones included."""

import re
from pathlib import Path

from lastcall.drain_report import DrainReport
from lastcall.metrics import METRICS, code_label, drain_counts, render
from lastcall.metrics_reference import reference
from lastcall.worker_record import WorkerRecord

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "metrics.md"

LINE = re.compile(r'(lastcall_\w+)\{worker="\d+"(,\w+="(\\.|[^"\\])*")?\} \d+(\.\d+)?(e\+\d+)?')


def test_the_names_follow_the_conventions() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_worker_has_its_series_under_one_head() -> None:
    first = WorkerRecord(
        1, state="ready", connections=3, version='1"0', counts={"published_total": 7}
    )
    second = WorkerRecord(2, state="draining", connections=1, counts={"published_total": 1e6})

    text = render([first, second])

    assert text.endswith("\n")
    assert 'lastcall_worker_info{worker="1",version="1\\"0"} 1' in text
    assert 'lastcall_worker_state{worker="2",state="draining"} 1' in text
    assert (
        "# HELP lastcall_published_total Publications that the application made here.\n"
        "# TYPE lastcall_published_total counter\n"
        'lastcall_published_total{worker="1"} 7\n'
        'lastcall_published_total{worker="2"} 1000000\n'
    ) in text
    for line in text.splitlines():
        assert line.startswith("# ") or LINE.fullmatch(line), line


def test_a_drain_is_counted_by_what_became_of_the_clients() -> None:
    report = DrainReport(handed_over=5, closed=2, notices=3, longest_pause=0.25, duration=1.5)
    text = render([WorkerRecord(1, drain=report)])

    assert 'lastcall_drain_clients_total{worker="1",outcome="handed_over"} 5\n' in text
    assert 'lastcall_drain_clients_total{worker="1",outcome="released"} 0\n' in text
    assert 'lastcall_drain_notices_total{worker="1"} 3\n' in text
    assert 'lastcall_handover_pause_seconds{worker="1"} 0.25\n' in text
    assert 'lastcall_drain_seconds{worker="1"} 1.5\n' in text
    names = {metric.name for metric in METRICS}
    assert {name.partition(":")[0] for name in drain_counts(report)} <= names


def test_who_has_left_keeps_its_counters_and_has_no_state() -> None:
    counts = {"published_total": 7.0, "broker_available": 1.0}
    text = render([WorkerRecord(1, state="done", connections=4, counts=counts, has_left=True)])

    assert 'lastcall_published_total{worker="1"} 7\n' in text
    for gone in ("broker_available", "worker_state", "worker_info", "lastcall_connections{"):
        assert gone not in text


def test_a_client_cannot_make_new_series_with_its_close_codes() -> None:
    assert (code_label(1000), code_label(3001), code_label(4711)) == ("1000", "3001", "other")


def test_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == reference(), (
        "run: python -m lastcall.metrics_reference > docs/reference/metrics.md"
    )
