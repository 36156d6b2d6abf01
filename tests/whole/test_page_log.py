"""The chat page in a real Chromium: what a person reads, and how they write."""

from pathlib import Path

import pytest

from lastcall.settings import HEARTBEAT, SHUTDOWN_NOTICE, Settings
from tests.browser import Browser, Tab
from tests.chat_page import say, until_count, until_phase, until_said
from tests.relay import Relay, run_relay

pytestmark = [pytest.mark.whole, pytest.mark.browser]


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
    assert tab.evaluate("document.activeElement.id") == "input"
    tab.press("Tab", shift=True)
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
