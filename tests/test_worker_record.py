"""A worker's word to the others fits its place, whatever it has to say."""

from pathlib import Path

from lastcall.drain_report import DrainReport
from lastcall.run_directory import WorkerFile
from lastcall.worker_record import RECORD_SIZE, WorkerRecord

REPORT = DrainReport(why="stop", at_start=5, handed_over=5)


def read(record: WorkerRecord) -> WorkerRecord:
    content = record.write()
    assert len(content) == RECORD_SIZE
    return WorkerRecord.read(WorkerFile(Path("7.ALIVE"), 7, lives=True, content=content))


def test_everything_is_read_back() -> None:
    record = WorkerRecord(7, announced={"ws": 3}, drain=REPORT, counts={"published_total": 1})

    assert read(record) == record


def test_what_does_not_fit_is_left_out_and_the_rest_stands() -> None:
    counts = {f"connections_closed_total:{number}": number for number in range(40)}
    names = {f"{number}" * 500: 1 for number in range(8)}
    record = WorkerRecord(7, state="ready", connections=9, drain=REPORT)

    assert read(record.changed(announced={"ws": 1}, counts=counts)).counts == counts
    small = read(record.changed(announced={"x" * 2800: 1}, counts=counts))
    assert (small.counts, len(small.announced)) == ({}, 1)
    assert read(record.changed(announced=names, counts=counts)) == record


def test_what_is_not_said_stays_as_it_was() -> None:
    counts = {"published_total": 1.0}
    record = WorkerRecord(7, connections=3).changed(state="ready", connections=None, counts=counts)
    counts["published_total"] = 2

    assert record == WorkerRecord(7, connections=3, state="ready", counts={"published_total": 1})
