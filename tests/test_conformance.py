"""What a run of the Autobahn fuzzing client is judged by. The run itself is `scripts/autobahn`."""

import pytest

from conformance.__main__ import batches
from conformance.cases import COMPRESSED, GROUPS, UNCOMPRESSED, group_of, incomplete
from conformance.fuzzing_client import Candidate, Findings
from conformance.page import PAGE, render
from conformance.results_file import Results, read_results, table
from conformance.verdicts import REASONS, outcome, problems

DETACHED, ENDPOINT = Candidate("detached", "uvloop"), Candidate("endpoint", "asyncio")
CLOSING = {f"7.1.{number}": "OK" for number in range(1, 38)}


def found(outcomes: dict[str, str], log: str = "") -> Findings:
    return Findings(outcomes, 1.5, 2**20, log)


def results() -> Results:
    return Results("2026-01-01", "abc", {})


@pytest.mark.parametrize(
    ("behavior", "close", "word"),
    [
        ("OK", "OK", "OK"),
        ("NON-STRICT", "OK", "NON-STRICT"),
        ("INFORMATIONAL", "INFORMATIONAL", "INFORMATIONAL"),
        ("OK", "UNCLEAN", "OK, closed UNCLEAN"),
        ("OK", "INFORMATIONAL", "OK, closed INFORMATIONAL"),
    ],
)
def test_one_word_for_what_was_found_and_how_it_ended(behavior: str, close: str, word: str) -> None:
    assert outcome(behavior, close) == word


def test_only_what_is_strict_or_left_open_passes() -> None:
    outcomes = {
        "1.1.1": "OK",
        "3.2": "NON-STRICT",
        "7.1.6": "INFORMATIONAL",
        "7.3.1": "OK, closed WRONG CODE",
        "9.1.1": "FAILED",
        "12.1.1": "UNIMPLEMENTED",
    }

    assert list(problems(outcomes)) == [
        "3.2: non-strict without a reason",
        "7.3.1: OK, closed WRONG CODE",
        "9.1.1: FAILED",
        "12.1.1: UNIMPLEMENTED",
    ]


def test_non_strict_passes_with_a_reason() -> None:
    assert not list(problems(dict.fromkeys(REASONS, "NON-STRICT")))


def test_groups_that_are_not_complete_are_named() -> None:
    assert list(incomplete(["1.1.1", "7.1.1"], ["1.*", "7.1.1", "10.*", "12.1.*"])) == [
        "1.*: 1 of 16 cases were run",
        "10.*: 0 of 1 cases were run",
        "12.1.*: 0 of 18 cases were run",
    ]


def test_every_batch_has_to_be_complete() -> None:
    run = results()
    run.add(DETACHED, ("7.*",), found(CLOSING))
    run.add(ENDPOINT, ("7.*",), found({"7.1.1": "OK"}))
    run.add(ENDPOINT, ("12.1.*",), found({"12.1.1": "OK"}))

    assert run.problems()[:3] == [
        "endpoint, asyncio: 7.*: 1 of 37 cases were run",
        "endpoint, asyncio: 12.1.*: 1 of 18 cases were run",
        "no case of 1.* was run",
    ]


def test_server_has_to_be_silent() -> None:
    run = results()
    run.add(DETACHED, ("7.1.1",), found({"7.1.1": "OK"}, log="Traceback"))

    assert run.problems()[0] == "detached, uvloop: the server wrote: Traceback"


def test_table_counts_what_was_run() -> None:
    run = results()
    run.add(DETACHED, ("7.*",), found(CLOSING | {"7.1.6": "INFORMATIONAL"}))
    run.add(ENDPOINT, ("10.*",), found({"10.1.1": "OK"}))

    assert table(run).splitlines()[2:] == [
        "| 7.* closing | 36 OK, 1 informational | - |",
        "| 10.* automatic fragmentation | - | 1 OK |",
    ]


def test_page_says_where_something_is_not_ok() -> None:
    run = results()
    run.add(DETACHED, ("7.1.6", "7.13.1"), found({"7.1.6": "INFORMATIONAL", "7.13.1": "FAILED"}))
    run.add(ENDPOINT, ("7.13.1",), found({"7.13.1": "OK"}))
    page = render(run)

    assert "- **detached, uvloop: 7.13.1: FAILED**" in page
    assert "- **7.1.6**, informational (detached, uvloop): a message of 256 KiB" in page


def test_batches_are_all_cases_of_all_groups() -> None:
    patterns = [pattern for batch in UNCOMPRESSED + COMPRESSED for pattern in batch]

    assert {group_of(pattern) for pattern in patterns} == {group.number for group in GROUPS}
    assert len(batches(quick=False, everything=True)) == 4 * (2 + 12)
    assert len(batches(quick=False, everything=False)) == 4 * 2 + 2 * 12
    assert len(batches(quick=True, everything=False)) == 4


def test_page_says_what_was_found() -> None:
    """`scripts/autobahn --page` renders it anew."""
    assert PAGE.read_text() == render(read_results())


def test_what_was_found_is_all_and_stops_no_release() -> None:
    kept = read_results()

    assert not kept.problems()
    for candidate, patterns in batches(quick=False, everything=False):
        assert " ".join(patterns) in kept.rows[candidate.name].seconds
