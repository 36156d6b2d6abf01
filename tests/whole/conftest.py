"""A browser for all whole tests of the page, and a connected page for each."""

from collections.abc import Iterator

import pytest

from tests.browser import Browser, Tab, run_browser
from tests.chat_page import until_phase
from tests.relay import Relay, run_relay


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
