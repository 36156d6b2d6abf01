"""What whole-process tests share: a server on either loop, a browser, a connected page."""

from collections.abc import Iterator

import pytest

from tests.browser import Browser, Tab, run_browser
from tests.chat_page import until_phase
from tests.relay import Relay, run_relay
from tests.server_process import ServerProcess, run_server


@pytest.fixture
def anyio_backend() -> str:
    """The clients' loop does not matter; the server's does."""
    return "asyncio"


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    """Both loops for the server."""
    return str(request.param)


@pytest.fixture
def server(loop: str) -> Iterator[ServerProcess]:
    """One stock worker, which gives its clients two seconds to leave."""
    with run_server("--loop", loop, shutdown_timeout=2, shutdown_notice_interval=0.5) as server:
        yield server


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with run_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def relay() -> Iterator[Relay]:
    with run_relay() as relay:
        yield relay


@pytest.fixture
def tab(browser: Browser, relay: Relay) -> Iterator[Tab]:
    """A connected page; at the end it must have had nothing to complain about."""
    with browser.tab(relay.url) as tab:
        until_phase(tab, "open")
        yield tab
        assert tab.complaints() == []
