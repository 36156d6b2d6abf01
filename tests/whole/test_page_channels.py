"""The page's second tab in a real Chromium, with the server and the SDK that it ships."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import Browser
from tests.channels_page import (
    channels_tab,
    fill,
    heard,
    publish,
    until_heard,
    until_session,
    until_subscribed,
    until_text,
)
from tests.chat_page import say, until_count, until_phase
from tests.sdk.server import token
from tests.server_process import ServerProcess, run_server
from tests.token_makers import SECRET

pytestmark = [pytest.mark.whole, pytest.mark.browser]

KEY = "the key of this test"
OPEN: dict[str, Any] = {"insecure": True, "api_key": KEY}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """Two workers, as for a first try."""
    with run_server(workers=2, **OPEN) as server:
        yield server


def publish_numbers(server: ServerProcess, numbers: range) -> None:
    """Count in the page's channel, as another page would."""
    commands = [
        {"publish": {"channel": "demo:lobby", "data": {"run": "test", "number": number}}}
        for number in numbers
    ]
    answer = httpx.post(
        f"http://127.0.0.1:{server.port}/api/batch",
        json={"commands": commands},
        headers={"X-API-Key": KEY},
        trust_env=False,
    )
    assert all("publish" in reply for reply in answer.json()["replies"]), answer.text


def test_pages_of_two_workers_publish_and_hear_each_other(
    browser: Browser, server: ServerProcess
) -> None:
    markup = "<img src=x onerror=alert(1)>"
    with channels_tab(browser, server) as one, channels_tab(browser, server) as other:
        for tab in (one, other):
            tab.show()
            until_subscribed(tab)
            assert tab.text("#session-text") == "Connected"
        publish(other, markup)
        until_count(one, "#live li", 1)
        one.show()
        publish(one, '{"n": 1}')

        for tab in (one, other):
            until_count(tab, "#live li", 2)
            assert tab.texts("#live .text") == ['{"n":1}', markup]
        assert one.text("#live li:first-child .who") == "anonymous, this page"
        assert "this page" not in other.text("#live li:first-child .who")
        until_count(one, "#people li", 2)
        assert one.texts("#people li")[0] == "anonymous, this page"
        one.click("#ask-history")
        until_count(one, "#past li", 2)
        assert one.texts("#past .text") == ['{"n":1}', markup]
        assert one.texts("#past .offset") == ["2", "1"]


def test_nothing_is_missed_over_a_restart_of_everything(browser: Browser, tmp_path: Path) -> None:
    with ExitStack() as servers:
        first = servers.enter_context(
            run_server(workers=2, directory=tmp_path, shutdown_timeout=1, **OPEN)
        )
        with channels_tab(browser, first) as tab:
            until_subscribed(tab)
            tab.click("#count")
            until_heard(tab, 10)
            publish_numbers(first, range(1, 4))
            first.send_signal(signal.SIGTERM)
            until_session(tab, "connecting")
            first.wait(10)
            before = heard(tab)

            # Somewhere else, so that the page cannot be back before it has missed something.
            with run_server(workers=2, directory=tmp_path, shutdown_timeout=1, **OPEN) as away:
                publish_numbers(away, range(4, 21))
                away.send_signal(signal.SIGTERM)
                away.wait(10)
            servers.enter_context(
                run_server(workers=2, directory=tmp_path, port=first.port, **OPEN)
            )
            until_text(tab, "#recovery", "yes, ")
            assert int(tab.text("#recovery strong").split()[1]) >= 17
            until_heard(tab, before + 17 + 5)

            assert tab.texts("dd")[1:] == ["0", "0", "1"]
            assert tab.text("#verdict").startswith("Nothing missing, nothing doubled, of ")
            assert "caught up" in tab.text("#live")


def test_a_server_that_has_lost_its_history_says_so(browser: Browser, tmp_path: Path) -> None:
    with ExitStack() as servers:
        first = servers.enter_context(run_server(workers=2, shutdown_timeout=1, **OPEN))
        with channels_tab(browser, first) as tab:
            until_subscribed(tab)
            tab.click("#count")
            until_heard(tab, 3)
            first.send_signal(signal.SIGTERM)
            first.wait(10)
            servers.enter_context(
                run_server(workers=2, directory=tmp_path, port=first.port, **OPEN)
            )
            until_text(tab, "#recovery", "no, the server cannot say what was missed")
            until_text(tab, "#verdict", "The server said 1 time that it cannot fill a gap.")
            assert tab.texts("dd")[1:] == ["0", "0", "1"]


def test_a_reload_of_the_workers_is_not_noticed(browser: Browser, server: ServerProcess) -> None:
    with channels_tab(browser, server) as tab:
        until_subscribed(tab)
        tab.click("#count")
        until_heard(tab, 5)
        old = set(server.worker_pids())
        server.send_signal(signal.SIGHUP)
        tab.until("true")
        while old & {*server.records(), *server.records("DONE")}:
            until_heard(tab, heard(tab) + 1)
        until_heard(tab, heard(tab) + 5)

        assert tab.texts("dd")[1:] == ["0", "0", "0"]
        tab.click("#count")
        assert tab.text("#count") == "Start counting"


def test_a_server_that_wants_a_token_says_what_to_set_and_takes_one(browser: Browser) -> None:
    namespaces = {
        "demo": {
            "allow_subscribe_for_client": True,
            "allow_publish_for_subscriber": True,
            "history_size": 10,
            "presence": True,
        }
    }
    with (
        run_server(token_secret=SECRET, namespaces=json.dumps(namespaces)) as server,
        channels_tab(browser, server) as tab,
    ):
        until_session(tab, "ended")
        until_text(tab, "#advice", "lets nobody in without a token")
        assert "LASTCALL_INSECURE=true" in tab.text("#advice pre")
        assert "LASTCALL_ALLOW_ANONYMOUS=true" in tab.text("#advice")

        fill(tab, "#token", "not.a.token")
        tab.press("Enter")
        until_text(tab, "#advice", "does not accept this token")
        assert tab.text("#advice pre") == "lastcall token --user ann"

        fill(tab, "#token", token("ann"))
        tab.press("Enter")
        until_subscribed(tab)
        until_text(tab, "#advice", "without recovery")
        assert "[namespaces.demo]" in tab.text("#advice pre")
        publish(tab, "hello")
        until_count(tab, "#live li", 1)
        assert tab.text("#live .who") == "ann, this page"
        until_text(tab, "#presence-words", "allow_presence_for_subscriber = true")
        tab.click("#ask-history")
        until_text(tab, "#history-words", "allow_history_for_subscriber = true")


def test_what_a_channel_does_not_allow_is_said_in_words(browser: Browser) -> None:
    namespaces = {"open": {"allow_subscribe_for_client": True}, "shut": {}}
    with (
        run_server(token_secret=SECRET, namespaces=json.dumps(namespaces)) as server,
        channels_tab(browser, server) as tab,
    ):
        until_session(tab, "ended")
        fill(tab, "#token", token("ann"))
        tab.press("Enter")
        until_text(tab, "#advice", "allow_subscribe_for_client = true")
        for channel, words in {
            "shut:room": "[namespaces.shut]",
            "none:room": "no such namespace",
            "$open:room": "needs a token for the channel",
        }.items():
            fill(tab, "#channel", channel)
            tab.press("Enter")
            until_text(tab, "#advice", words)

        fill(tab, "#channel", "open:room")
        tab.press("Enter")
        until_subscribed(tab)
        publish(tab, "hello")
        until_text(tab, "#publisher-words", "allow_publish_for_subscriber = true")
        tab.click("#count")
        tab.until("document.querySelector('#count').textContent === 'Start counting'")
        until_text(tab, "#presence-words", "presence = true switches it on")
        tab.click("#ask-history")
        until_text(tab, "#history-words", "history_size = 1000")
        tab.click("#subscribe")
        assert tab.text("#subscribe") == "Subscribe"
        assert tab.evaluate("document.querySelector('#publish').disabled")


def test_a_server_that_takes_nobody_any_more_is_waited_for(browser: Browser) -> None:
    with (
        run_server(shutdown_timeout=20, **OPEN) as server,
        browser.tab(f"http://127.0.0.1:{server.port}/") as chat,
        channels_tab(browser, server) as tab,
    ):
        until_phase(chat, "open")  # who stays, so that the server does as well
        until_subscribed(tab)
        server.send_signal(signal.SIGTERM)
        until_text(tab, "#session-text", "Server is busy or leaving, trying again")


def test_a_token_that_is_over_is_said(browser: Browser) -> None:
    with (
        run_server(token_secret=SECRET) as server,
        channels_tab(browser, server) as tab,
    ):
        until_session(tab, "ended")
        fill(tab, "#token", token("ann", -5))
        tab.press("Enter")
        until_text(tab, "#advice", "The time of this token is over.")


def test_the_chat_goes_on_behind_the_other_tab(browser: Browser, server: ServerProcess) -> None:
    with browser.tab(f"http://127.0.0.1:{server.port}/") as tab:
        until_phase(tab, "open")
        assert tab.evaluate("document.querySelector('#session').hidden")
        say(tab, "hello")
        until_count(tab, ".own:not(.pending)", 1)
        tab.click("#channels-tab")
        until_session(tab, "open")
        assert tab.evaluate("location.hash") == "#channels"
        assert tab.evaluate("document.querySelector('#state').hidden")

        tab.press("ArrowLeft")
        assert tab.evaluate("document.activeElement.id") == "chat-tab"
        assert tab.evaluate("document.querySelector('#channels').hidden")
        assert tab.texts(".own .text") == ["hello"]
        assert tab.text("#state-text") == "Connected"
        assert tab.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 700, 1100])
def test_the_second_tab_fits_every_window(
    tmp_path: Path, browser: Browser, server: ServerProcess, width: int, *, dark: bool
) -> None:
    with channels_tab(browser, server) as tab:
        tab.look_like(width, 640, dark=dark)
        until_subscribed(tab)
        publish(tab, "w" * 300)
        tab.click("#count")
        until_heard(tab, 2)
        fill(tab, "#token", "not.a.token")
        until_text(tab, "#live", "www")

        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("document.querySelector('#channels').scrollWidth") <= width
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(19, 22, 23)" if dark else "rgb(244, 241, 236)")
        picture = tmp_path / "channels.png"
        tab.screenshot(picture)
        assert picture.stat().st_size > 5000
