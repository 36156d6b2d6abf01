"""What was revoked stays revoked, whoever has written it and however the writer ended."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lastcall.revocation_file import RevocationFile
from lastcall.revocations import Revocation, TokenRevocation, UserRevocation

FAR = 2.0**53


def test_without_a_revocation_there_is_no_file(tmp_path: Path) -> None:
    assert RevocationFile(tmp_path).load(now=1) == []
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "for it"
    kept: list[Revocation] = [
        TokenRevocation("a", 50.5),
        UserRevocation("", 7.25, FAR),
        UserRevocation("ann", 8.0, 60.0),
    ]
    RevocationFile(directory).keep(kept, now=1)

    loaded = RevocationFile(directory).load(now=2)
    assert sorted(map(str, loaded)) == sorted(map(str, kept))
    (path,) = directory.iterdir()
    assert path.stat().st_mode & 0o077 == 0, "whom it names is nobody else's business"


def test_the_longer_of_two_counts(tmp_path: Path) -> None:
    file = RevocationFile(tmp_path)
    for until in (50, 90, 70):
        file.keep([TokenRevocation("a", until)], now=1)

    assert file.load(now=2) == [TokenRevocation("a", 90)]


def test_what_is_over_is_forgotten(tmp_path: Path) -> None:
    file = RevocationFile(tmp_path)
    file.keep([TokenRevocation("a", 50), TokenRevocation("b", 60)], now=1)
    assert file.load(now=50) == [TokenRevocation("b", 60)]

    file.keep([], now=55)
    with sqlite3.connect(file.path) as connection:
        assert connection.execute("SELECT count(*) FROM revocations").fetchone() == (1,)
    connection.close()


def test_workers_write_side_by_side(tmp_path: Path) -> None:
    tokens = [TokenRevocation(str(number), FAR) for number in range(20)]
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda each: RevocationFile(tmp_path).keep([each], now=1), tokens))

    assert len(RevocationFile(tmp_path).load(now=2)) == 20


def test_file_that_cannot_be_read_is_set_aside_and_cried_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = RevocationFile(tmp_path)
    file.path.write_bytes(b"no database at all, " * 100)

    assert file.load(now=1) == []
    assert "TOKENS THAT WERE REVOKED ARE GOOD AGAIN" in caplog.text
    file.keep([TokenRevocation("a", FAR)], now=1)
    assert file.load(now=1) == [TokenRevocation("a", FAR)]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="file"):
        RevocationFile(tmp_path / "file").keep([TokenRevocation("a", FAR)], now=1)
