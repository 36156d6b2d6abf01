"""Tokens that were good once: refused everywhere, their connections closed, new ones welcome."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

from lastcall import Lastcall
from lastcall.revocation_file import NAME
from lastcall.revocations import Revocation, TokenRevocation
from lastcall.tokens import make_token
from tests.api_caller import KEY, NAMESPACES, Caller
from tests.session_client import SessionClient, serving, session

pytestmark = pytest.mark.usefixtures("run_dir")

SECRET = "a secret of thirty-two characters"  # noqa: S105  (of a test)
REFUSED = (3500, "invalid token")


@pytest.fixture
def lastcall() -> Lastcall:
    return Lastcall(api_key=KEY, token_secret=SECRET, allow_anonymous=True, namespaces=NAMESPACES)


@pytest.fixture
def client(lastcall: Lastcall) -> Iterator[TestClient]:
    with serving(lastcall) as client:
        yield client


@pytest.fixture
def api(client: TestClient) -> Caller:
    return Caller(client)


def now() -> int:
    """Asked when it is needed: a whole run may take longer than a token lives here."""
    return int(time.time())


def token(user: str = "7", **claims: object) -> str:
    return make_token(SECRET, {"sub": user, "iat": now() - 60} | claims)


@contextmanager
def holder(client: TestClient, of: str) -> Iterator[SessionClient]:
    """A client that is connected by this token."""
    with session(client) as speaker:
        assert speaker.connect(token=of)["client"]
        yield speaker


def is_refused(client: TestClient, of: str) -> bool:
    """Whether nobody can connect with this token."""
    with session(client) as speaker:
        speaker.say({"id": 1, "connect": {"token": of}})
        return speaker.closed() == REFUSED


def is_here(speaker: SessionClient) -> bool:
    return bool(speaker.ask("unsubscribe", channel="plain:never") == {})


def test_token_is_refused_and_its_connection_closed(client: TestClient, api: Caller) -> None:
    with holder(client, token(jti="a")) as one, holder(client, token(jti="b")) as other:
        assert api.call("revoke_token", uid="a", expire_at=now() + 60) == {}
        assert one.closed() == REFUSED
        assert is_here(other)
    assert is_refused(client, token(jti="a"))


def test_tokens_of_a_user_are_refused_new_ones_are_good(client: TestClient, api: Caller) -> None:
    fresh = token(iat=now() + 60)
    with (
        holder(client, token()) as old,
        holder(client, token(iat=None)) as ageless,
        holder(client, fresh) as new,
        holder(client, token("8")) as other,
        session(client) as nobody,
    ):
        nobody.connect()
        assert api.call("invalidate_user_tokens", user="7") == {}
        assert old.closed() == ageless.closed() == REFUSED
        assert all(map(is_here, (new, other, nobody)))
        api.call("invalidate_user_tokens", user="")
        assert is_here(nobody)  # who came without a token has none to lose
    assert is_refused(client, token())
    with holder(client, fresh):
        pass


def test_refresh_with_a_revoked_token_ends_the_connection(client: TestClient, api: Caller) -> None:
    with holder(client, token(exp=now() + 60)) as one:
        api.call("revoke_token", uid="a")
        one.say({"id": 9, "refresh": {"token": token(jti="a")}})
        assert one.closed() == REFUSED


def test_subscription_with_a_revoked_token_is_refused(client: TestClient, api: Caller) -> None:
    with holder(client, token()) as one:
        api.call("revoke_token", uid="a")
        refused = one.ask("subscribe", channel="$news:a", token=token(channel="$news:a", jti="a"))
        assert refused["error"]["code"] == 103
        granted = one.ask("subscribe", channel="$news:a", token=token(channel="$news:a", jti="b"))
        assert "error" not in granted


def test_revocation_ends_with_its_tokens(client: TestClient, api: Caller) -> None:
    assert api.call("revoke_token", uid="a", expire_at=now() - 1) == {}
    with holder(client, token(jti="a")):
        pass


@pytest.mark.parametrize(
    ("method", "fields", "code"),
    [
        ("revoke_token", {}, 107),
        ("revoke_token", {"uid": "", "expire_at": now() + 60}, 107),
        ("invalidate_user_tokens", {"user": "7", "channel": "news:a"}, 108),
    ],
)
def test_revocation_that_cannot_be_is_refused(
    api: Caller, method: str, fields: dict[str, object], code: int
) -> None:
    assert api.call(method, **fields) == code


def test_new_worker_learns_what_the_others_know(lastcall: Lastcall) -> None:
    """What the others answer is taken as if it had been told."""
    with serving(lastcall) as client, holder(client, token(jti="a")) as one:
        worker = lastcall.now.worker
        known: list[Revocation] = [TokenRevocation("a", now() + 60)]
        worker.everyone.on("revocations", lambda _: msgspec.json.encode(known))
        assert client.portal is not None
        client.portal.call(worker.revoking.learn)
        assert one.closed() == REFUSED


def test_revocations_outlive_the_server(lastcall: Lastcall) -> None:
    with serving(lastcall) as client:
        assert Caller(client).call("revoke_token", uid="a", expire_at=now() + 60) == {}
        assert Caller(client).call("invalidate_user_tokens", user="8") == {}
    # Another process would know nothing but what is on the disk; nor does another `Lastcall`.
    settings = lastcall.settings
    with serving(Lastcall(settings)) as client:
        assert is_refused(client, token(jti="a"))
        assert is_refused(client, token("8"))
        with holder(client, token(jti="b")):
            pass


def test_revocation_that_would_not_outlive_the_server_is_an_error_and_holds(
    client: TestClient, api: Caller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("no directory")

    assert api.call("revoke_token", uid="a") == 100
    assert is_refused(client, token(jti="a"))
    assert "would not outlive a restart" in caplog.text


def test_start_goes_on_where_revocations_cannot_be_read(
    lastcall: Lastcall, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state" / NAME).mkdir(parents=True)

    with serving(lastcall) as client, holder(client, token()):
        assert NAME in caplog.text


def test_too_many_revocations_are_an_error(
    lastcall: Lastcall, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    revocations = lastcall.now.worker.revoking._revocations  # noqa: SLF001  (100,000 take long)
    revocations._limit = 1  # noqa: SLF001  (the same)
    api = Caller(client)

    assert api.call("revoke_token", uid="a") == {}
    assert api.call("revoke_token", uid="b") == 106
    with caplog.at_level(logging.ERROR):
        lastcall.now.worker.revoking._take([TokenRevocation("c", now() + 60)])  # noqa: SLF001  (as told)
    assert "too many revocations" in caplog.text
