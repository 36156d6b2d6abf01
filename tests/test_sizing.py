"""How many hosts a load takes: what is worked out, and what the page says about it."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lastcall.size_command import as_text
from lastcall.sizing import COSTS, GIB, LIMITS, Load, Means, size, warnings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scaling.md"
LOAD = Load(connections=10_000, publications=50, channels=500, subscriptions=5)
MEANS = Means()


def test_a_small_load_takes_one_host_and_a_spare_one() -> None:
    found = size(LOAD, MEANS)

    assert (found.workers, found.hosts, found.engines) == (1, 2, 1)
    assert found.deliveries == 50 * 10_000 * 5 / 500
    assert warnings(LOAD, MEANS, found) == [
        "one host carries this: several are for its failure, not for the load"
    ]


def test_nobody_is_busier_than_allowed_with_the_spare_hosts_away() -> None:
    for factor in (1, 3, 10, 30, 100, 1000):
        load = replace(LOAD, publications=LOAD.publications * factor)
        found = size(load, MEANS)
        carrying = found.hosts - MEANS.spare
        assert found.busy <= MEANS.busy
        assert found.workers <= carrying * MEANS.cores
        assert found.memory <= MEANS.memory * MEANS.busy
        assert found.engine_busy / found.engines <= MEANS.busy


def test_more_of_anything_never_takes_less() -> None:
    small = size(LOAD, MEANS)
    for load in (
        replace(LOAD, connections=LOAD.connections * 40),
        replace(LOAD, publications=LOAD.publications * 400),
        replace(LOAD, subscriptions=LOAD.subscriptions * 40),
    ):
        large = size(load, MEANS)
        assert large.workers > small.workers
        assert large.hosts >= small.hosts


def test_memory_takes_hosts_where_the_processor_does_not() -> None:
    load = Load(connections=1_000_000, publications=1, channels=1000)
    found = size(load, Means(memory=2))

    assert found.busy < MEANS.busy / 4
    assert found.hosts - MEANS.spare > LIMITS.connections / 10_000
    assert found.memory <= 2 * MEANS.busy


def test_a_worker_has_not_more_connections_than_it_may() -> None:
    load = Load(connections=1_000_000, publications=0, channels=1)
    found = size(load, Means(memory=1024))

    assert found.workers == load.connections / LIMITS.connections


def test_history_lies_in_the_engine_as_long_as_it_is_kept() -> None:
    often = Load(connections=100, publications=1000, channels=1, history_size=200, history_ttl=10)
    seldom = replace(often, publications=2)

    assert (often.kept, seldom.kept) == (200, 20)
    entry = often.data + COSTS.engine_entry_bytes
    assert size(seldom, MEANS).engine_memory == (COSTS.engine_channel_bytes + 20 * entry) / GIB


def test_a_publication_is_told_to_the_workers_that_have_subscribers_and_no_others() -> None:
    personal = Load(connections=800_000, publications=10_000, channels=800_000)
    found = size(personal, MEANS)
    signs = found.workers**2 / LIMITS.sign_seconds

    assert found.engine_told == pytest.approx(personal.publications + signs)


def test_what_has_to_be_seen_to_is_said() -> None:
    load = Load(connections=1_000_000, publications=60_000, channels=2_000_000)
    said = "\n".join(warnings(load, MEANS, size(load, MEANS)))

    assert "28,000 ports" in said
    assert "LASTCALL_RELEASE_RATE" in said
    assert "one core of the engine does not do" in said
    assert "more channels than subscriptions" in said


def test_seconds_are_told_as_minutes_where_there_are_many() -> None:
    text = "\n".join(as_text(LOAD, MEANS, size(replace(LOAD, connections=100_000), MEANS)))

    assert "a host leaves in  8 min, at 100 clients a second" in text


def test_the_page_shows_what_the_command_says() -> None:
    blocks = re.findall(
        r"^```console\n\$ lastcall (size .*)\n((?:.*\n)*?)```", PAGE.read_text(), re.MULTILINE
    )

    assert len(blocks) >= 3
    for command, shown in blocks:
        ended = subprocess.run(
            [sys.executable, "-m", "lastcall", *shlex.split(command)],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stdout == shown


def test_as_an_object_for_programs() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "lastcall", *shlex.split(ROW), "--json"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert '"hosts": 2,' in ended.stdout


ROW = "size --connections 10000 --publications 50 --channels 500 --subscriptions 5"
