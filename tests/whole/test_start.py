"""A start that cannot succeed: one sentence for the operator, and a status that servers obey."""

import sys

import pytest

from tests.server_process import run_server

pytestmark = pytest.mark.whole

UVICORN = (sys.executable, "-m", "uvicorn", "main:app")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "main:app", "--bind", "127.0.0.1:{port}"),
    *("--worker-class", "uvicorn_worker.UvicornWorker", "--no-control-socket"),
)


@pytest.mark.parametrize("wrong", [{"run_dir": "/proc/nowhere"}, {"handover": "sideways"}])
@pytest.mark.parametrize(
    ("command", "workers", "status"), [(UVICORN, 1, 3), (UVICORN, 2, 0), (GUNICORN, 1, 3)]
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    command: tuple[str, ...], workers: int, status: int, wrong: dict[str, str]
) -> None:
    """The master of uvicorn takes a worker's 3 as "stop", and ends with 0 itself."""
    (name, value) = next(iter(wrong.items()))
    with run_server(command=command, workers=workers, wait=False, **wrong) as server:  # type: ignore[arg-type]
        assert server.wait(10) == status
        assert f"lastcall: LASTCALL_{name.upper()}" in server.log
        assert value in server.log
        assert "Traceback" not in server.log
