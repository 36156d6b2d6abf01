"""The chat page in a real Chromium: what a person sees when they write, and when servers leave."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.settings import HEARTBEAT, SHUTDOWN_NOTICE, Settings
from tests.browser import Browser, Tab, run_browser
from tests.relay import Relay, run_relay

pytestmark = [pytest.mark.whole, pytest.mark.browser]


@pytest.fixture(scope="module")
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


def until_phase(tab: Tab, phase: str) -> None:
    tab.until(f"document.querySelector('#state').dataset.phase === '{phase}'")


def until_count(tab: Tab, selector: str, number: int) -> None:
    tab.until(f"document.querySelectorAll('{selector}').length === {number}")


def until_said(tab: Tab, words: str) -> None:
    tab.until(f"document.querySelector('#log').textContent.includes({words!r})")


def say(tab: Tab, text: str) -> None:
    tab.click("#input")
    tab.type(text)
    tab.press("Enter")


def test_two_tabs_see_each_others_messages_in_one_order_and_know_their_own(
    browser: Browser, relay: Relay, tab: Tab
) -> None:
    with browser.tab(relay.url) as other:
        until_phase(other, "open")
        say(other, "from the other")
        until_count(other, ".own:not(.pending)", 1)
        tab.show()
        say(tab, "from the one")

        for one in (tab, other):
            until_count(one, "#log .message", 2)
            assert one.texts("#log .text") == ["from the other", "from the one"]
        assert tab.texts(".own .text") == ["from the one"]
        assert tab.texts(".theirs .text") == ["from the other"]
        assert other.texts(".own .text") == ["from the other"]
        assert other.complaints() == []


def test_markup_in_a_message_is_shown_as_text(relay: Relay, tab: Tab) -> None:
    markup = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    relay.tell(markup)
    say(tab, markup)

    until_count(tab, "#log .message:not(.pending)", 2)
    assert tab.texts("#log .text") == [markup, markup]
    assert tab.evaluate("document.querySelectorAll('#log script, #log img').length") == 0
    assert tab.evaluate("document.title") == "Lastcall"


def test_notices_stand_apart_and_heartbeats_do_not_fill_the_log(relay: Relay, tab: Tab) -> None:
    announcements = [
        'Client "[127.0.0.1]:54321" connected.',
        'Client "[::1]:54321" disconnected.',
        "137 clients connected.",
        "1 client disconnected.",
    ]
    for text in [*announcements, HEARTBEAT, 'My client "x" connected, I think.']:
        relay.tell(text)
    relay.tell(b"\x00\xff\x00")

    until_count(tab, "#log .binary", 1)
    assert tab.texts("#log .notice span") == announcements
    assert tab.texts("#log .text") == [
        'My client "x" connected, I think.',
        "Binary message, 3 bytes",
    ]
    assert tab.text("#heard").startswith("Last heard")


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
        until_phase(tab, "leaving")

        until_phase(tab, "open")
        assert tab.text("#banner") == ""


def test_a_page_comes_back_by_itself_to_the_next_server_on_the_port(browser: Browser) -> None:
    with run_relay() as first, browser.tab(first.url) as tab:
        until_phase(tab, "open")
        port = first.port
        first.stop()
        until_phase(tab, "waiting")
        assert tab.text("#state-text").startswith("Reconnecting in ")
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


def test_a_return_of_the_network_is_tried_at_once(browser: Browser) -> None:
    with run_relay() as first, browser.tab(first.url) as tab:
        until_phase(tab, "open")
        # Busy: the wait is long, so that coming back within a moment is no accident.
        tab.evaluate("Math.random = () => 1")
        first.close(1013)
        until_phase(tab, "waiting")
        assert int(tab.text("#state-text").split()[2]) > 4

        tab.evaluate("window.dispatchEvent(new Event('online'))")
        tab.until("document.querySelector('#state').dataset.phase === 'open'", limit=3)
        tab.evaluate("Math.random = () => 1")
        first.close(1013)
        until_phase(tab, "waiting")
        tab.click("#retry")
        tab.until("document.querySelector('#state').dataset.phase === 'open'", limit=3)


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


def test_an_end_without_return_says_so_and_leaves_the_choice(relay: Relay, tab: Tab) -> None:
    relay.close(1008, "no")
    until_phase(tab, "ended")
    until_said(tab, "The server does not let this page in.")

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
    settings = Settings.model_construct(heartbeat_interval=0.2)
    with run_relay(settings) as relay, browser.tab(relay.url) as tab:
        until_count(tab, ".separator", 1)
        assert "The connection was lost." in tab.text(".separator")


def test_shift_and_enter_starts_a_new_line(tab: Tab) -> None:
    tab.click("#input")
    tab.type("one")
    tab.press("Enter", shift=True)
    tab.type("two")
    tab.press("Enter")

    until_count(tab, ".own:not(.pending)", 1)
    assert tab.texts(".own .text") == ["one\ntwo"]


def test_a_message_that_is_too_long_is_not_sent(browser: Browser) -> None:
    settings = Settings.model_construct(max_message_size=9)
    with run_relay(settings) as relay, browser.tab(relay.url) as tab:
        until_phase(tab, "open")
        say(tab, "ééééé")
        assert tab.text("#hint") == "Too long: 10 of at most 9 bytes."
        tab.press("Backspace")
        tab.press("Enter")

        until_count(tab, ".own:not(.pending)", 1)
        assert tab.texts(".message .text") == ["éééé"]
        assert tab.text("#hint") == ""


def test_the_log_is_bounded_and_a_reader_further_up_is_left_alone(relay: Relay, tab: Tab) -> None:
    for number in range(520):
        relay.tell(f"line {number}")
    until_said(tab, "line 519")
    assert tab.texts(".message .text")[0] == "line 20"
    assert tab.evaluate("document.querySelector('#scroller').scrollTop") == 0

    top = "document.querySelector('.message:nth-child(400)').getBoundingClientRect().top"
    tab.evaluate("document.querySelector('.message:nth-child(400)').scrollIntoView()")
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    before = tab.evaluate(top)
    relay.tell("news")
    until_said(tab, "news")
    # One came and the oldest went, so what was the 400th is the 399th.
    after = tab.evaluate(top.replace("400", "399"))
    assert abs(after - before) < 2
    assert tab.text("#newer").startswith("1 new message")

    tab.click("#newer")
    tab.until("document.querySelector('#newer').hidden")
    assert tab.evaluate("document.querySelector('#scroller').scrollTop") == 0


def test_unread_messages_are_counted_in_the_title_while_the_tab_is_hidden(
    browser: Browser, relay: Relay, tab: Tab
) -> None:
    with browser.tab():
        tab.until("document.hidden")
        relay.tell("one")
        relay.tell(HEARTBEAT)
        relay.tell("two")
        tab.until("document.title === '(2) Lastcall'")
        tab.show()
        tab.until("document.title === 'Lastcall'")


def test_the_page_can_be_used_with_the_keyboard_alone(tab: Tab) -> None:
    tab.evaluate("document.activeElement.blur()")
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "scroller"
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "input"
    tab.type("by keyboard")
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "send"
    tab.press("Enter")
    until_count(tab, ".own:not(.pending)", 1)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_a_phone(tmp_path: Path, relay: Relay, tab: Tab, *, dark: bool) -> None:
    tab.look_like(320, 560, dark=dark)
    relay.tell("w" * 300)
    relay.tell('Client "[2001:db8:85a3:8d3:1319:8a2e:370:7348]:54321" connected.')
    relay.tell(SHUTDOWN_NOTICE)
    until_phase(tab, "leaving")

    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    assert tab.evaluate("document.querySelector('#scroller').scrollWidth") <= 320
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(19, 22, 23)" if dark else "rgb(244, 241, 236)")
    picture = tmp_path / "phone.png"
    tab.screenshot(picture)
    assert picture.stat().st_size > 5000
