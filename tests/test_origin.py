"""Which pages may connect."""

import pytest

from lastcall.origin import is_allowed, preflight, sharing


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "example.com"),
        ("https://example.com", "example.com"),
        ("http://example.com", "EXAMPLE.com"),
        ("https://example.com", "example.com:443"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("ws://example.com", "example.com"),
    ],
)
def test_the_same_origin_may_and_what_is_no_browser(origin: str | None, host: str) -> None:
    assert is_allowed(origin, host=host, forwarded_host=None, allowed=())


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "example.com"),
        ("https://example.com.evil.example", "example.com"),
        ("https://example.com:8443", "example.com"),
        ("https://example.com", "example.com:80"),
        ("http://localhost:3000", "localhost:8000"),
        ("null", "example.com"),
        ("", "example.com"),
        ("file://", "example.com"),
        ("chrome-extension://example.com", "example.com"),
        ("https://", ""),
        ("https://example.com:port", "example.com"),
        ("https://example.com", "example.com:port"),
        ("https://[", "["),
        ("https://example.com", ""),
    ],
)
def test_all_others_may_not(origin: str, host: str) -> None:
    assert not is_allowed(origin, host=host, forwarded_host=None, allowed=())


def test_behind_a_proxy_the_forwarded_host_is_ours_too() -> None:
    origin = "https://chat.example.com"

    assert is_allowed(
        origin, host="10.0.0.1:8000", forwarded_host="chat.example.com, proxy", allowed=()
    )
    assert not is_allowed(
        origin, host="10.0.0.1:8000", forwarded_host="proxy, chat.example.com", allowed=()
    )


def test_the_allowed_ones_may_and_a_star_is_everybody() -> None:
    origin = "https://other.example"

    assert is_allowed(origin, host="x", forwarded_host=None, allowed=(origin,))
    assert is_allowed("null", host="x", forwarded_host=None, allowed=("null",))
    assert is_allowed(origin, host="x", forwarded_host=None, allowed=("*",))
    assert not is_allowed(origin, host="x", forwarded_host=None, allowed=("https://another",))


def test_a_page_of_an_allowed_origin_may_read_the_response() -> None:
    assert sharing(None, allowed=()) == {}
    assert sharing("https://a.example", allowed=["https://a.example"]) == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-credentials": "true",
        "vary": "origin",
    }


def test_where_any_page_may_it_does_so_without_cookies() -> None:
    assert sharing("https://a.example", allowed=["*"]) == {"access-control-allow-origin": "*"}
    named = sharing("https://a.example", allowed=["*", "https://a.example"])
    assert named["access-control-allow-credentials"] == "true"


def test_a_browser_is_told_what_a_page_may_ask() -> None:
    headers = preflight("content-type", methods=("POST", "OPTIONS"))

    assert headers == {
        "access-control-allow-methods": "POST, OPTIONS",
        "access-control-allow-headers": "content-type",
        "access-control-max-age": "300",
    }
    assert "access-control-allow-headers" not in preflight(None, methods=("POST",))
