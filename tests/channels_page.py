"""What a person does on the page's second tab, and what they wait for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.browser import LIMIT, Browser, Tab
from tests.server_process import ServerProcess


@contextmanager
def channels_tab(browser: Browser, server: ServerProcess) -> Iterator[Tab]:
    """The page with its second tab in front; in the end it must have had no complaint."""
    with browser.tab(f"http://127.0.0.1:{server.port}/#channels") as tab:
        yield tab
        assert tab.complaints() == []


def until_session(tab: Tab, phase: str, limit: float = LIMIT) -> None:
    """Wait until the header says so of the SDK's connection."""
    tab.until(f"document.querySelector('#session').dataset.phase === '{phase}'", limit)


def until_subscribed(tab: Tab) -> None:
    """Wait until the page may publish."""
    tab.until("!document.querySelector('#publish').disabled")


def until_text(tab: Tab, selector: str, words: str, limit: float = LIMIT) -> None:
    """Wait until these words are to be read there."""
    element = f"document.querySelector({json.dumps(selector)})"
    tab.until(f"{element}.innerText.includes({json.dumps(words)})", limit)


def until_heard(tab: Tab, number: int) -> None:
    """Wait until so many numbers were heard."""
    tab.until(f"{heard_of()} >= {number}")


def heard_of() -> str:
    """In the page: how many numbers were heard."""
    return "Number(document.querySelector('#heard-count').textContent.replace(/\\D/g, ''))"


def heard(tab: Tab) -> int:
    """How many numbers were heard."""
    return int(tab.evaluate(heard_of()))


def fill(tab: Tab, selector: str, text: str) -> None:
    """Put *text* into a field, in place of what was there."""
    tab.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
    tab.type(text)


def publish(tab: Tab, text: str) -> None:
    """Write *text* and publish it as a person does."""
    tab.click("#publication")
    tab.type(text)
    tab.press("Enter")
