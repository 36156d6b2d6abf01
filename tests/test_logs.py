"""One event a line, for people or for machines, and never twice."""

import json
import logging
from collections.abc import Callable, Iterator
from io import StringIO

import pytest

from lastcall.logs import log_event, logger, set_up_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the loggers as they were."""
    level, propagates = logger.level, logger.propagate
    yield
    logger.handlers.clear()
    logger.setLevel(level)
    logger.propagate = propagates


@pytest.fixture
def written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """What a process writes in which nobody has set up logging, from the first call on."""

    def read() -> str:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
        return capsys.readouterr().err

    return read


def fail() -> None:
    raise ValueError("broken")


def test_people_read_lines_like_the_servers(written: Callable[[], str]) -> None:
    assert written() == ""
    set_up_logging("auto")
    log_event("told", "told {told} clients", told=3)
    log_event("odd", "that is odd", level=logging.WARNING)
    log_event("detail", "nobody asked", level=logging.DEBUG)

    assert written() == ("INFO:     Lastcall: told 3 clients\nWARNING:  Lastcall: that is odd\n")


def test_machines_read_json(written: Callable[[], str]) -> None:
    assert written() == ""
    set_up_logging("json")
    log_event("told", "told {told} clients", told=3, path=object)
    try:
        fail()
    except ValueError:
        logger.exception("it is\nbroken")

    told, broken = map(json.loads, written().splitlines())
    assert (told["event"], told["message"], told["told"]) == ("told", "told 3 clients", 3)
    assert told["level"] == "info"
    assert told["time"].endswith("Z")
    assert "ValueError: broken" in broken["exception"]
    assert broken["event"] == "lastcall"


def test_people_see_the_traceback(written: Callable[[], str]) -> None:
    assert written() == ""
    set_up_logging("text")
    try:
        fail()
    except ValueError:
        logger.critical("a part died", exc_info=True)

    lines = written().splitlines()
    assert lines[0] == "CRITICAL: Lastcall: a part died"
    assert lines[-1] == "ValueError: broken"


@pytest.mark.parametrize("form", ["auto", "text", "json"])
def test_nothing_is_said_twice(written: Callable[[], str], form: str) -> None:
    """Not after a second start, nor by an application that sets up logging afterwards."""
    assert written() == ""
    for _ in range(2):
        set_up_logging(form)  # type: ignore[arg-type]
    logging.getLogger().addHandler(logging.StreamHandler())
    log_event("told", "told once")

    assert written().count("told once") == 1


def test_an_application_that_set_up_logging_keeps_it(written: Callable[[], str]) -> None:
    assert written() == ""
    own = StringIO()
    handler = logging.StreamHandler(own)
    handler.setFormatter(logging.Formatter("own %(message)s"))
    logging.getLogger().addHandler(handler)
    logger.setLevel(logging.INFO)
    set_up_logging("auto")
    log_event("told", "told once")

    assert own.getvalue() == "own told once\n"
    assert written() == ""


def test_an_application_may_have_a_handler_for_our_lines_alone(written: Callable[[], str]) -> None:
    assert written() == ""
    own = StringIO()
    logger.addHandler(logging.StreamHandler(own))
    logger.setLevel(logging.WARNING)
    set_up_logging("auto")
    log_event("told", "told once", level=logging.WARNING)
    log_event("detail", "not asked for")

    assert own.getvalue() == "told once\n"
    assert written() == ""


def test_a_form_that_was_chosen_is_the_form_of_every_handler() -> None:
    own = StringIO()
    handler = logging.StreamHandler(own)
    logger.addHandler(handler)
    try:
        set_up_logging("json")
        log_event("told", "told {times}", level=logging.WARNING, times="once")
    finally:
        logger.removeHandler(handler)

    assert json.loads(own.getvalue())["message"] == "told once"
