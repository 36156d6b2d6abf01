"""The chat page in a real Chromium: how it holds its connection, and says when it cannot."""

import pytest

from lastcall.settings import HEARTBEAT, SHUTDOWN_NOTICE, Settings
from tests.browser import Browser, Tab
from tests.chat_page import say, until_count, until_phase, until_said
from tests.relay import Relay, run_relay

pytestmark = [pytest.mark.whole, pytest.mark.browser]


def test_a_leaving_server_is_told_until_the_page_is_connected_again(relay: Relay, tab: Tab) -> None:
    relay.tell(SHUTDOWN_NOTICE)
    relay.tell(SHUTDOWN_NOTICE)
    until_phase(tab, "leaving")
    say(tab, "still here")

    until_count(tab, ".own:not(.pending)", 1)
    assert tab.text("#state-text") == "Server is leaving, still connected"
    assert tab.text("#banner").startswith("Server is leaving.")
    assert tab.texts(".notice span") == [SHUTDOWN_NOTICE]

    relay.close(1012, "server is shutting down")
    until_count(tab, ".separator", 2)
    lost, back = tab.texts(".separator")
    assert lost.startswith("Disconnected. The server is restarting.")
    assert back.startswith("Connected again.")
    assert tab.text("#state-text") == "Connected"
    assert tab.text("#banner") == ""


def test_the_warning_ends_when_the_server_does_not_repeat_it(browser: Browser) -> None:
    settings = Settings.model_construct(shutdown_notice_interval=0.1, shutdown_notice="Closing!")
    with run_relay(settings) as relay, browser.tab(relay.url) as tab:
        until_phase(tab, "open")
        relay.tell("Closing!")
        until_count(tab, ".notice", 1)

        until_phase(tab, "open")
        assert tab.text("#banner") == ""


def test_a_page_comes_back_by_itself_to_the_next_server_on_the_port(browser: Browser) -> None:
    with run_relay() as first, browser.tab(first.url) as tab:
        until_phase(tab, "open")
        port = first.port
        first.stop()
        tab.until("document.querySelector('#state-text').innerText.startsWith('Reconnecting in ')")
        tab.click("#input")
        tab.type("typed meanwhile")
        tab.press("Enter")
        assert tab.evaluate("document.querySelector('#input').value") == "typed meanwhile"
        assert tab.evaluate("document.querySelector('#send').disabled")
        assert "Not connected" in tab.text("#hint")

        with run_relay(port=port):
            until_phase(tab, "open")
            tab.press("Enter")
            until_count(tab, ".own:not(.pending)", 1)
            assert tab.texts(".own .text") == ["typed meanwhile"]
            assert tab.complaints() == []


def lose_it_for_long(relay: Relay, tab: Tab) -> None:
    # Busy: the wait is long, so that coming back within a moment is no accident.
    until_phase(tab, "open")
    tab.evaluate("Math.random = () => 1")
    relay.close(1013)
    until_phase(tab, "waiting")
    assert int(tab.text("#state-text").split()[2]) > 4


def test_a_return_of_the_network_or_the_reader_is_tried_at_once(
    browser: Browser, relay: Relay, tab: Tab
) -> None:
    lose_it_for_long(relay, tab)
    tab.evaluate("window.dispatchEvent(new Event('online'))")
    until_phase(tab, "open", limit=3)

    lose_it_for_long(relay, tab)
    tab.click("#retry")
    until_phase(tab, "open", limit=3)

    with browser.tab():
        tab.until("document.hidden")
        lose_it_for_long(relay, tab)
        tab.show()
        until_phase(tab, "open", limit=3)


def test_a_message_that_never_came_back_can_be_sent_again(relay: Relay, tab: Tab) -> None:
    relay.mute = True
    say(tab, "lost?")
    until_count(tab, "#outbox .pending", 1)
    relay.close(1012)
    until_count(tab, "#log .unsure", 1)
    until_phase(tab, "open")
    relay.mute = False
    assert "may not have arrived" in tab.text(".unsure")

    tab.click(".unsure button")
    until_count(tab, "#log .own:not(.unsure)", 1)
    assert tab.texts(".own .text") == ["lost?"]
    assert tab.texts("#outbox .message") == []


def test_a_message_that_stays_away_is_doubted_until_it_comes_after_all(
    relay: Relay, tab: Tab
) -> None:
    tab.evaluate(
        """(() => {
            const later = window.setTimeout;
            window.setTimeout = (act, wait) => later(act, wait === 15000 ? 0 : wait);
        })()"""
    )
    relay.mute = True
    say(tab, "late")
    until_count(tab, "#outbox .unsure", 1)

    relay.tell("late")
    until_count(tab, "#log .own:not(.unsure)", 1)
    assert tab.texts(".own .text") == ["late"]
    assert tab.texts(".doubt") == []


def test_an_end_without_return_says_so_and_leaves_the_choice(relay: Relay, tab: Tab) -> None:
    relay.close(1008, "no")
    until_phase(tab, "ended")
    until_said(tab, "The server does not let this page in.")
    tab.evaluate("window.dispatchEvent(new Event('online'))")
    assert tab.text("#state-text") == "Not connected"

    tab.click("#retry")
    until_phase(tab, "open")


@pytest.mark.parametrize(
    ("code", "reason", "words", "back"),
    [
        (1000, "", "The server closed the connection.", True),
        (1009, "message too big", "A message was too large for the server.", True),
        (1013, "", "The server is busy.", True),
        (3001, "shutdown", "The server is being replaced.", True),
        (3499, "because", "The server said: because.", True),
        (3500, "gone", "The server said: gone.", False),
        (4499, "later", "The server said: later.", True),
        (4500, "never", "The server said: never.", False),
    ],
)
def test_every_close_code_is_said_in_plain_words(
    tab: Tab, code: int, reason: str, words: str, *, back: bool
) -> None:
    said = tab.evaluate(
        f"""import("./static/connection.js").then(({{ explain, comesBack }}) =>
            [explain({code}, "{reason}"), comesBack({code})])"""
    )
    assert said == [words, back]


def test_waits_grow_to_twenty_seconds_and_are_random(tab: Tab) -> None:
    waits = tab.evaluate(
        """import("./static/connection.js").then(({ waitAfter }) =>
            [1, 2, 3, 6, 100].map((failures) =>
                Array.from({ length: 500 }, () => waitAfter(failures))))"""
    )
    for drawn, most in zip(waits, [1000, 2000, 4000, 20_000, 20_000], strict=True):
        assert 500 <= min(drawn) < 500 + most / 10
        assert most * 0.9 < max(drawn) <= most
        assert len(set(drawn)) > 400


def test_the_websocket_is_beside_the_page_and_as_safe_as_it(tab: Tab) -> None:
    urls = tab.evaluate(
        """import("./static/connection.js").then(({ websocketUrl }) => [
            websocketUrl("ws", "http://host:8000/"),
            websocketUrl("ws", "https://host/chat/?token=secret#part"),
        ])"""
    )
    assert urls == ["ws://host:8000/ws", "wss://host/chat/ws"]


def test_the_page_works_under_a_prefix(browser: Browser) -> None:
    with run_relay(prefix="/chat") as relay, browser.tab(relay.url) as tab:
        until_phase(tab, "open")
        say(tab, "hello")
        until_count(tab, ".own:not(.pending)", 1)
        assert tab.complaints() == []


def test_a_server_that_falls_silent_is_given_up(browser: Browser) -> None:
    settings = Settings.model_construct(heartbeat_interval=0.01)
    with run_relay(settings) as relay, browser.tab(relay.url) as tab:
        until_phase(tab, "open")
        relay.tell(HEARTBEAT)
        relay.tell(HEARTBEAT)
        until_said(tab, "Disconnected. The connection was lost.")


def test_a_server_whose_heart_beats_slower_than_the_page_knows_is_not_given_up(
    browser: Browser,
) -> None:
    settings = Settings.model_construct(heartbeat_interval=0.001)
    with run_relay(settings) as relay, browser.tab(relay.url) as tab:
        until_phase(tab, "open")
        # The page was told that three milliseconds are a long silence. It sees for itself.
        tab.evaluate("new Promise((done) => setTimeout(done, 200))")
        relay.tell(HEARTBEAT)
        tab.evaluate("new Promise((done) => setTimeout(done, 200))")
        relay.tell(HEARTBEAT)
        tab.evaluate("new Promise((done) => setTimeout(done, 200))")
        assert tab.texts(".separator") == []


def test_a_server_with_another_page_or_other_texts_is_noticed(browser: Browser) -> None:
    with run_relay() as first, browser.tab(first.url) as tab:
        until_phase(tab, "open")
        first.close(1012)
        until_said(tab, "Connected again.")
        asked = "performance.getEntriesByType('resource')"
        tab.until(f"{asked}.some((one) => one.initiatorType === 'fetch')")
        assert tab.evaluate("document.querySelector('#updated').hidden")
        first.stop()

        with run_relay(Settings.model_construct(heartbeat="Tick"), port=first.port):
            tab.until("!document.querySelector('#updated').hidden")
            tab.follow("#reload")
            assert tab.evaluate("document.documentElement.dataset.heartbeat") == "Tick"
            until_phase(tab, "open")
            assert tab.complaints() == []
