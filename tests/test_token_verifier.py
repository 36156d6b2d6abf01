"""Where the keys come from: settings, files, and an identity provider's address."""

import http.server
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from lastcall import token_verifier
from lastcall.errors import InternalError, InvalidToken, SettingsError
from lastcall.settings import Settings
from lastcall.token_verifier import FETCH_BYTES, TokenVerifier
from tests.token_makers import ED25519, NOW, P256, RSA, SECRET, jwk, jwks, pem, token

pytestmark = pytest.mark.anyio


class IdentityProvider:
    """An HTTP server on loopback that publishes keys; slow, broken or gone if it shall."""

    def __init__(self) -> None:
        self.document = jwks(jwk(RSA, kid="k1"))
        self.status = 200
        self.requests = 0
        self.is_endless = False
        self.never = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked = threading.Event()
        provider = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.requests += 1
                provider.asked.set()
                provider.may_answer.wait(30)
                self.send_response(provider.status)
                self.end_headers()
                self.wfile.write(provider.document)
                with suppress(OSError):
                    while provider.is_endless:
                        self.wfile.write(b" ")
                        provider.never.wait(0.01)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self.may_answer.set()
        self.is_endless = False
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityProvider]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(token_verifier, "FETCH_SECONDS", 30)  # this machine may be busy
    provider = IdentityProvider()
    yield provider
    provider.stop()


def verifier(**settings: Any) -> TokenVerifier:
    return TokenVerifier(Settings(**settings))


def from_k1(key_name: str = "k1") -> str:
    return token({"sub": "42"}, RSA, "RS256", kid=key_name)


async def user(checked_by: TokenVerifier, made: str, now: float = NOW) -> str:
    return (await checked_by.connection(made, now)).user


async def test_secrets_of_the_settings_check_tokens() -> None:
    both = verifier(token_secret="new" * 11, token_previous_secret=SECRET)

    assert await user(both, token({"sub": "1"}, "new" * 11)) == "1"
    assert await user(both, token({"sub": "2"})) == "2"
    with pytest.raises(InvalidToken):
        await user(verifier(), token({"sub": "2"}))


async def test_subscription_tokens_go_the_same_way() -> None:
    made = token({"sub": "42", "channel": "news"})
    claims = await verifier(token_secret=SECRET).subscription(
        made, NOW, channel="news", user="42", client="c1"
    )

    assert claims.channel == "news"


async def test_audience_and_issuer_of_the_settings_are_checked() -> None:
    strict = verifier(token_secret=SECRET, token_audience="us", token_issuer="login")  # noqa: S106  (no secrets)

    assert await user(strict, token({"sub": "42", "aud": "us", "iss": "login"})) == "42"
    with pytest.raises(InvalidToken):
        await user(strict, token({"sub": "42", "aud": "us"}))


async def test_public_keys_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    path.write_text(pem(RSA) + pem(ED25519))
    by_file = await anyio.to_thread.run_sync(lambda: verifier(token_public_keys=path))

    assert await user(by_file, token({"sub": "42"}, RSA, "RS512")) == "42"
    assert await user(by_file, token({"sub": "42"}, ED25519, "EdDSA")) == "42"
    with pytest.raises(InvalidToken):
        await user(by_file, token({"sub": "42"}, P256, "ES256"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "but No such file or directory"),
        (b"", "but there is no public key in it (-----BEGIN PUBLIC KEY-----)"),
        (b"\xff", "but it is no text"),
    ],
)
def test_file_without_public_keys_stops_the_start_in_one_sentence(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        verifier(token_public_keys=path)

    assert str(refused.value) == f"LASTCALL_TOKEN_PUBLIC_KEYS is {str(path)!r}, {words}"


@pytest.mark.parametrize(
    "setting", [{"token_public_keys": "/keys.pem"}, {"token_jwks_url": "https://login.example"}]
)
def test_public_keys_without_cryptography_stop_the_start(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("lastcall.public_keys", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "lastcall.public_keys", None)
    with pytest.raises(SettingsError, match=r"needs the package cryptography: install lastcall\["):
        verifier(**setting)


def test_short_secret_is_warned_of_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    verifier(token_secret="hunter2", token_previous_secret=SECRET)  # noqa: S106  (made up)

    assert [record.getMessage() for record in caplog.records] == [
        "LASTCALL_TOKEN_SECRET has fewer than 32 bytes: who has a token can find it by trying"
    ]


async def test_keys_of_the_provider_are_fetched_when_the_first_token_comes(
    provider: IdentityProvider,
) -> None:
    remote = verifier(token_jwks_url=provider.url, token_secret=SECRET)

    assert await user(remote, token({"sub": "1"})) == "1"
    assert provider.requests == 0
    for _ in range(3):
        assert await user(remote, from_k1()) == "42"
    assert provider.requests == 1


async def test_one_fetch_is_for_all_who_wait(provider: IdentityProvider) -> None:
    remote = verifier(token_jwks_url=provider.url)
    provider.may_answer.clear()
    users = []

    async def connect() -> None:
        users.append(await user(remote, from_k1()))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(connect)
        await anyio.to_thread.run_sync(provider.asked.wait, 10)
        provider.may_answer.set()

    assert users == ["42"] * 50
    assert provider.requests == 1


async def test_next_one_fetches_if_the_first_leaves(provider: IdentityProvider) -> None:
    remote = verifier(token_jwks_url=provider.url)
    provider.may_answer.clear()
    users = []

    async def connect() -> None:
        users.append(await user(remote, from_k1()))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()
            with first:
                async with anyio.create_task_group() as leaving:
                    leaving.start_soon(connect)
                    await anyio.to_thread.run_sync(provider.asked.wait, 10)
                    tasks.start_soon(connect)
                    first.cancel()
            provider.may_answer.set()

    assert users == ["42"]
    assert provider.requests == 2


async def test_key_with_a_new_name_is_fetched_but_not_again_and_again(
    provider: IdentityProvider,
) -> None:
    remote = verifier(token_jwks_url=provider.url)
    await user(remote, from_k1())

    with pytest.raises(InternalError):
        await user(remote, from_k1("k2"), NOW + 1)
    provider.document = jwks(jwk(RSA, kid="k2"))
    assert provider.requests == 1
    assert await user(remote, from_k1("k2"), NOW + 6) == "42"
    assert provider.requests == 2
    for _ in range(10):
        with pytest.raises(InternalError):
            await user(remote, from_k1("k1"), NOW + 7)
    assert provider.requests == 2
    with pytest.raises(InvalidToken):
        await user(remote, from_k1("k1"), NOW + 12)


@pytest.mark.parametrize(
    ("status", "document", "words"),
    [
        (404, b"", "the answer is 404 Not Found"),
        (200, b"no keys", "not a JSON Web Key Set"),
        (200, b'{"keys": []}', "no usable key in it"),
        (200, b"x" * (FETCH_BYTES + 1), "more than 262144 bytes"),
    ],
)
async def test_provider_that_gives_no_keys_is_asked_again_later(
    status: int,
    document: bytes,
    words: str,
    provider: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    remote = verifier(token_jwks_url=provider.url)
    good = provider.document
    provider.status, provider.document = status, document

    for _ in range(3):
        with pytest.raises(InternalError):
            await user(remote, from_k1())
    assert provider.requests == 1
    (record,) = caplog.records
    assert words in record.getMessage()
    provider.status, provider.document = 200, good
    assert await user(remote, from_k1(), NOW + 6) == "42"


async def test_keys_are_kept_while_the_provider_is_away(provider: IdentityProvider) -> None:
    remote = verifier(token_jwks_url=provider.url)
    await user(remote, from_k1())
    provider.status = 503

    assert await user(remote, from_k1(), NOW + 1000) == "42"
    assert provider.requests == 2


async def test_provider_that_does_not_answer_is_waited_for_a_bounded_time(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_verifier, "FETCH_SECONDS", 0.05)
    remote = verifier(token_jwks_url=provider.url)
    provider.may_answer.clear()

    with anyio.fail_after(10), pytest.raises(InternalError):
        await user(remote, from_k1())


async def test_provider_that_answers_byte_by_byte_is_waited_for_a_bounded_time(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ends too: each byte would give a socket's time-out a new beginning."""
    monkeypatch.setattr(token_verifier, "FETCH_SECONDS", 0.05)
    provider.is_endless = True
    with anyio.fail_after(10), pytest.raises(TimeoutError):
        await anyio.to_thread.run_sync(token_verifier._download, provider.url)  # noqa: SLF001  (its thread is out of reach)


async def test_nobody_listens_at_the_address(
    provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.stop()
    caplog.set_level(logging.WARNING)
    with pytest.raises(InternalError):
        await user(verifier(token_jwks_url=provider.url), from_k1())

    assert "cannot be fetched" in caplog.text
