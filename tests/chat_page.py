"""What a person does on the chat page, and what they wait for."""

from tests.browser import LIMIT, Tab


def until_phase(tab: Tab, phase: str, limit: float = LIMIT) -> None:
    """Wait until the header says so."""
    tab.until(f"document.querySelector('#state').dataset.phase === '{phase}'", limit)


def until_count(tab: Tab, selector: str, number: int) -> None:
    """Wait until there are exactly so many such elements."""
    tab.until(f"document.querySelectorAll('{selector}').length === {number}")


def until_said(tab: Tab, words: str) -> None:
    """Wait until these words are in the log."""
    tab.until(f"document.querySelector('#log').textContent.includes({words!r})")


def say(tab: Tab, text: str) -> None:
    """Write *text* and send it as a person does."""
    tab.click("#input")
    tab.type(text)
    tab.press("Enter")
