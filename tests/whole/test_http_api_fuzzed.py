"""The server API asked what its own page allows, and what it does not: never a surprise."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lastcall.server_api import METHODS
from tests.sdk.server import OWN, SETTINGS
from tests.server_process import ServerProcess, run_server

pytestmark = pytest.mark.whole

KEY = "the key"
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    ignored_auth,
]
CHANNELS = st.none() | st.sampled_from(["chat:a", "talk:a", "short:a", "read:$a", "$chat:a", ""])
"""Made up at random a channel is nearly always one of a namespace that does not exist."""
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server(command=OWN, workers=2, api_key=KEY, **SETTINGS) as server:
        workers = set(server.worker_pids())
        yield server
        assert set(server.worker_pids()) == workers, "one has died on the way"
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def page(server: ServerProcess) -> Any:
    load_all_checks()
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


def ask(case: Case[Any], *, status_mode: bool) -> None:
    mode = {"X-Centrifugo-Error-Mode": "transport"} if status_mode else {}
    response = case.call(headers={"X-API-Key": KEY} | mode)
    case.validate_response(response, checks=CHECKS)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("method", [*METHODS, "batch"])
def test_method_answers_as_its_page_says(page: Any, method: str, mode: GenerationMode) -> None:
    operation = page[f"/api/{method}"]["POST"]

    @FEW
    @given(
        case=operation.as_strategy(generation_mode=mode),
        channel=CHANNELS,
        status_mode=st.booleans(),
    )
    def each(case: Case[Any], channel: str | None, *, status_mode: bool) -> None:
        body: Any = case.body
        if channel is not None and mode is GenerationMode.POSITIVE and "channel" in body:
            body["channel"] = channel
        ask(case, status_mode=status_mode)

    each()


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_what_operators_ask_is_answered_as_its_page_says(page: Any, path: str) -> None:
    ask(page[path]["GET"].Case(), status_mode=False)
