"""A headless Chromium, driven over its DevTools protocol: as much of it as our tests need."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

LIMIT = 20.0
"""Seconds that anything in a browser may take."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Headless has no mouse of its own; the page is to take it for a desk, not for a phone.
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
    "--remote-debugging-port=0",
)


def chromium() -> str:
    """The browser's command; without one the test is skipped, or fails where CI is set."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    missing = "no Chromium found: install it (`apt install chromium`) to test the page"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


class Browser:
    """A Chromium process with a profile of its own."""

    def __init__(self, address: str) -> None:
        """Take over the browser that answers on *address*."""
        self._http = httpx.Client(base_url=f"http://{address}", timeout=LIMIT, trust_env=False)

    @contextmanager
    def tab(self, url: str = "about:blank") -> "Iterator[Tab]":
        """A tab in front of the others, showing *url*; closed at the end."""
        target = self._http.put("/json/new?about:blank").json()
        try:
            with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                tab = Tab(socket)
                if url != "about:blank":
                    tab.go(url)
                yield tab
        finally:
            self._http.get(f"/json/close/{target['id']}")

    def close(self) -> None:
        """Let go of it; the process is its starter's."""
        self._http.close()


@contextmanager
def run_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with its files in *profile*, and end it."""
    command = [chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        browser = Browser(_devtools_address(profile, process))
        try:
            yield browser
        finally:
            browser.close()
    finally:
        process.terminate()
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _devtools_address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"Chromium ended with {process.returncode} before it could be driven")
        if port_file.exists() and (lines := port_file.read_text().splitlines()):
            return f"127.0.0.1:{lines[0]}"
        time.sleep(0.02)  # another program's file: there is nothing to wait for
    pytest.fail("Chromium did not start within the limit")


class Tab:
    """One page in the browser, and what it complained about."""

    def __init__(self, socket: ClientConnection) -> None:
        """Drive the tab at the other end of *socket*, and listen for complaints."""
        self._socket = socket
        self._ids = count(1)
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> Any:
        """Give one DevTools command and wait for its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(LIMIT + 5))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._events.append(message)

    def go(self, url: str) -> None:
        """Show *url*."""
        failed = self.command("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of *expression* in the page; a promise is awaited."""
        outcome = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in outcome, outcome["exceptionDetails"]
        return outcome["result"].get("value")

    def until(self, condition: str, limit: float = LIMIT) -> None:
        """Wait in the page until *condition* is true of it."""
        found = self.evaluate(
            f"""new Promise((resolve) => {{
                const end = performance.now() + {limit * 1000};
                const look = () => {{
                    const found = Boolean({condition});
                    if (found || performance.now() > end) resolve(found);
                    else setTimeout(look, 20);
                }};
                look();
            }})"""
        )
        assert found, f"never came true: {condition}\n{self.text('body')}"

    def text(self, selector: str) -> str:
        """What a person reads there."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """What a person reads in each such place, in order."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return list(self.evaluate(f"{found}.map((one) => one.innerText)"))

    def type(self, text: str) -> None:
        """Put *text* where the focus is, as a keyboard or an input method does."""
        self.command("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release *key*."""
        stroke: dict[str, Any] = {"key": key, "code": key, "modifiers": 8 if shift else 0}
        if key == "Enter":
            stroke |= {"text": "\r", "windowsVirtualKeyCode": 13}
        else:
            stroke |= {"windowsVirtualKeyCode": {"ArrowLeft": 37, "Backspace": 8, "Tab": 9}[key]}
        self.command("Input.dispatchKeyEvent", type="keyDown", **stroke)
        self.command("Input.dispatchKeyEvent", type="keyUp", **stroke)

    def click(self, selector: str) -> None:
        """Click in the middle of the first such element, brought into view if it is not."""
        place = self.evaluate(
            f"""(() => {{
                const element = document.querySelector({json.dumps(selector)});
                element.scrollIntoViewIfNeeded();
                const box = element.getBoundingClientRect();
                return {{x: box.x + box.width / 2, y: box.y + box.height / 2}};
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place
            )

    def follow(self, selector: str) -> None:
        """Click on what leads to another page, or to this one anew, and wait until it is there."""
        before = len(self._events)
        self.click(selector)
        while not any(e["method"] == "Page.loadEventFired" for e in self._events[before:]):
            self._events.append(json.loads(self._socket.recv(LIMIT)))

    def show(self) -> None:
        """Bring this tab in front of the others."""
        self.command("Page.bringToFront")

    def look_like(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """Give the page a window of this size and a colour scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """What can be seen, as PNG."""
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """Errors, warnings and violations of the security policy so far.

        Without those of the network: a browser reports every connection that a server refuses.
        """
        self.evaluate("0")  # what happened before it has been reported by now
        return [words for event in self._events if (words := _complaint(event))]


def _complaint(event: dict[str, Any]) -> str:
    parameters = event.get("params", {})
    match event.get("method"):
        case "Log.entryAdded":
            entry = parameters["entry"]
            wrong = entry["level"] in {"error", "warning"} and entry["source"] != "network"
            return f"{entry['source']}: {entry['text']}" if wrong else ""
        case "Runtime.exceptionThrown":
            return str(parameters["exceptionDetails"])
        case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "warning", "assert"}:
            return str(parameters["args"])
        case _:
            return ""
