"""What is secret is shown to nobody: not in a log, an error, a page, or a `repr`."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from lastcall import Lastcall, Settings
from lastcall.errors import SettingsError
from lastcall.setting_values import is_secret
from lastcall.settings import ServerSettings
from lastcall.settings_reference import as_json, as_table, rows
from lastcall.settings_source import load_settings
from tests.api_caller import Caller
from tests.session_client import serving, session

SECRETS = {
    name: f"hush-{name}-of-more-than-thirty-two-bytes"
    for name, field in Settings.model_fields.items()
    if is_secret(field)
}


def shown(text: object) -> list[str]:
    """The secrets that stand in *text*."""
    return [secret for secret in SECRETS.values() if secret in str(text)]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_every_setting_that_sounds_secret_is_one() -> None:
    words = ("secret", "key", "password", "authorization")
    sounding = {name for name in Settings.model_fields if any(word in name for word in words)}

    assert sounding - {"token_public_keys"} == set(SECRETS)
    assert {"api_key", "token_secret", "token_previous_secret"} <= set(SECRETS)


def test_settings_show_none() -> None:
    settings: Any = Settings(**SECRETS)  # type: ignore[arg-type]  # as the environment gives them

    assert isinstance(settings.api_key, SecretStr)
    for text in (repr(settings), str(settings), settings.model_dump_json(), settings.model_dump()):
        assert shown(text) == []
    assert shown(vars(Lastcall(settings))) == []


def test_lists_of_settings_show_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(f"LASTCALL_{name.upper()}", secret)

    assert shown(as_table(rows(ServerSettings))) == []
    assert shown(as_json(rows(ServerSettings))) == []


@pytest.mark.parametrize("name", SECRETS)
def test_wrong_setting_is_refused_without_it(name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(**{name: [SECRETS[name]]})
    assert shown(refused.value) == []
    with pytest.raises(SettingsError) as refused:
        load_settings(**SECRETS, ping_interval=1)
    assert shown(refused.value) == []


@pytest.mark.usefixtures("run_dir")
def test_running_server_shows_none(logged: pytest.LogCaptureFixture) -> None:
    settings = Settings(**SECRETS)  # type: ignore[arg-type]  # the same
    with serving(Lastcall(settings)) as client:
        pages = [client.get(path).text for path in ("/metrics", "/health/ready", "/openapi.json")]
        api = Caller(client)
        right = {"X-API-Key": SECRETS["api_key"]}
        for headers in (right, {"X-API-Key": SECRETS["api_key"] + "x"}):
            pages.append(client.post("/api/info", json={}, headers=headers).text)
            pages.append(client.post("/api/publish", content=b"{", headers=headers).text)
        pages.append(api.post("info", {}, Authorization=SECRETS["api_key"]).text)
        with session(client) as speaker:
            speaker.say({"id": 1, "connect": {"token": SECRETS["token_secret"]}})
            pages.append(str(speaker.closed()))

    assert shown(pages) == []
    assert shown([record.getMessage() for record in logged.records]) == []
    assert shown([vars(record) for record in logged.records]) == []


@pytest.mark.usefixtures("run_dir")
def test_token_that_is_refused_stands_in_no_log(logged: pytest.LogCaptureFixture) -> None:
    token = "aaaa.bbbb.cccc"  # noqa: S105  (none)
    with serving(Lastcall(token_secret=SECRETS["token_secret"])) as client:
        with session(client) as speaker:
            speaker.say({"id": 1, "connect": {"token": token}})
            assert speaker.closed() == (3500, "invalid token")
        assert token not in logged.text
