"""The chat page with the server that serves it: several workers, and a restart under open tabs."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.browser import Browser, Tab
from tests.chat_page import say, until_count, until_phase, until_said
from tests.server_process import ServerProcess, run_server

pytestmark = [pytest.mark.whole, pytest.mark.browser]


@contextmanager
def two_tabs(browser: Browser, server: ServerProcess) -> Iterator[tuple[Tab, Tab]]:
    """Two connected pages, which must have had nothing to complain about in the end."""
    url = f"http://127.0.0.1:{server.port}/"
    with browser.tab(url) as one, browser.tab(url) as other:
        for tab in (one, other):
            until_phase(tab, "open")
        yield one, other
        assert one.complaints() == other.complaints() == []


def messages(tab: Tab) -> list[str]:
    return tab.texts("#log .text")


def test_tabs_of_several_workers_read_the_same_and_know_their_own(browser: Browser) -> None:
    with run_server(workers=2) as server, two_tabs(browser, server) as (one, other):
        markup = "<script>document.title = 'owned'</script>"
        say(other, markup)
        until_count(other, ".own:not(.pending)", 1)
        one.show()
        say(one, "hello")

        for tab in (one, other):
            until_count(tab, "#log .message", 2)
            assert messages(tab) == [markup, "hello"]
            assert tab.evaluate("document.title").endswith("Lastcall")
        assert one.texts(".own .text") == ["hello"]
        assert other.texts(".own .text") == [markup]
        until_said(other, 'Client "[127.0.0.1]:')


def test_tabs_talk_while_their_server_leaves_and_come_back_to_the_next(browser: Browser) -> None:
    with ExitStack() as servers:
        first = servers.enter_context(run_server(shutdown_timeout=3, heartbeat_interval=0.5))
        with two_tabs(browser, first) as (one, other):
            for tab in (one, other):
                tab.until("!document.querySelector('#heard').hidden")
            first.send_signal(signal.SIGTERM)
            for tab in (one, other):
                until_phase(tab, "leaving")
                assert tab.text("#banner").startswith("Server is leaving.")
            say(other, "still here")
            until_said(one, "still here")
            until_count(other, ".own:not(.pending)", 1)

            for tab in (one, other):
                until_said(tab, "Disconnected. The server is restarting.")
            first.wait(10)
            servers.enter_context(run_server(port=first.port))
            for tab in (one, other):
                until_phase(tab, "open")
                assert tab.text("#banner") == ""
            say(other, "and back")
            until_said(one, "and back")
            until_count(other, ".own:not(.pending)", 2)
            assert messages(one) == messages(other) == ["still here", "and back"]
