"""The page over HTTP: what is served, with which headers, and what it may load."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import httpx
import pytest
from fastapi import FastAPI

from lastcall.channel_options import ChannelOptions
from lastcall.settings import ServerSettings, Settings
from lastcall.web.page import MEDIA_TYPES, SDK_VERSION, page_router

pytestmark = pytest.mark.anyio

FILES = [
    "base.css",
    "page.css",
    "log.css",
    "channels.css",
    "page.js",
    "tabs.js",
    "connection.js",
    "log.js",
    "outbox.js",
    "channels.js",
    "advice.js",
    "counter.js",
    "entries.js",
    "tally.js",
    "centrifuge.js",
    "licences.txt",
    "icon.svg",
]


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        """Parse *page*."""
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))


def client_of(settings: Settings, prefix: str = "", root_path: str = "") -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(page_router(settings), prefix=prefix)
    transport = httpx.ASGITransport(app=app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(Settings.model_construct()) as client:
        yield client


def data_of(page: str) -> dict[str, str | None]:
    return next(attributes for tag, attributes in Elements(page).found if tag == "html")


def assert_guarded(answer: httpx.Response) -> None:
    policy = dict(
        directive.split(" ", 1)
        for directive in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_the_page_is_html_under_a_strict_policy(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")
    assert_guarded(answer)


@pytest.mark.parametrize("name", FILES)
async def test_every_file_comes_with_its_type_under_the_same_policy(
    client: httpx.AsyncClient, name: str
) -> None:
    answer = await client.get(f"/static/{name}")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == MEDIA_TYPES[name.rpartition(".")[2]]
    assert answer.content
    assert_guarded(answer)


@pytest.mark.parametrize("path", ["/", "/static/page.js"])
async def test_what_a_browser_has_already_is_not_sent_again(
    client: httpx.AsyncClient, path: str
) -> None:
    first = await client.get(path)
    tag = first.headers["ETag"]

    assert first.headers["Cache-Control"] == "no-cache"
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = await client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == tag
        assert_guarded(again)
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_head_answers_like_get_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == (await client.get("/")).headers["Content-Length"]


@pytest.mark.parametrize("name", ["index.html", "sdk.json", "absent.js", "..%2Fpage.py", "%00", ""])
async def test_nothing_else_is_served(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/static/{name}")).status_code == 404


async def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    for tag, attributes in Elements((await client.get("/")).text).found:
        assert tag != "style"
        assert "style" not in attributes
        assert tag != "script" or attributes.get("src")
        assert not any(name.startswith("on") for name in attributes)
        for address in (attributes.get("src"), attributes.get("href")):
            assert address is None or re.fullmatch(r"static/[a-z]+\.[a-z]+", address)


async def test_the_page_works_under_a_prefix_and_a_root_path() -> None:
    async with client_of(Settings.model_construct(), prefix="/chat", root_path="/site") as client:
        page = await client.get("/site/chat/")

        for _, attributes in Elements(page.text).found:
            address = attributes.get("src") or attributes.get("href")
            if address:
                assert (await client.get(str(page.url.join(address)))).status_code == 200
        assert data_of(page.text)["data-websocket-path"] == "ws"
        assert data_of(page.text)["data-connection-path"] == "connection/websocket"


async def test_texts_of_the_settings_reach_the_script_unchanged_and_escaped() -> None:
    nasty = "\"'><script>alert(1)</script>&amp; $name ${x} \r\n é 🛎"
    settings = Settings.model_construct(
        heartbeat=nasty, shutdown_notice=nasty[::-1], heartbeat_interval=2.5, max_message_size=10
    )
    async with client_of(settings) as client:
        page = (await client.get("/")).text

    assert "<script>" not in page
    data = data_of(page)
    assert data["data-heartbeat"] == nasty
    assert data["data-shutdown-notice"] == nasty[::-1]
    assert data["data-heartbeat-interval"] == "2.5"
    assert data["data-max-message-size"] == "10"


async def test_the_page_stays_out_of_the_applications_api_description(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/openapi.json")).json()["paths"] == {}


async def test_the_pages_tag_is_its_version_and_changes_with_the_settings() -> None:
    versions = set()
    for heartbeat in ("one", "two", "two"):
        async with client_of(Settings.model_construct(heartbeat=heartbeat)) as client:
            page = await client.get("/")
        assert page.headers["ETag"] == f'"{data_of(page.text)["data-version"]}"'
        versions.add(page.headers["ETag"])
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("settings", "channel"),
    [
        (Settings.model_construct(), "lobby"),
        (ServerSettings.model_construct(), "demo:lobby"),
        (Settings.model_construct(channels=ChannelOptions(history_size=1)), "lobby"),
        (
            Settings.model_construct(
                namespaces={
                    "plain": ChannelOptions(),
                    "kept": ChannelOptions(history_size=9),
                    "full": ChannelOptions(history_size=5, presence=True),
                }
            ),
            "full:lobby",
        ),
    ],
    ids=["library", "server", "no namespace", "several namespaces"],
)
async def test_the_second_tab_begins_with_the_channel_that_shows_most(
    settings: Settings, channel: str
) -> None:
    async with client_of(settings) as client:
        assert data_of((await client.get("/")).text)["data-channel"] == channel


async def test_the_page_names_the_sdk_that_it_ships(client: httpx.AsyncClient) -> None:
    assert f"centrifuge {SDK_VERSION}" in (await client.get("/")).text
