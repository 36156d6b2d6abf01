"""Where settings come from, and what an operator reads when one is wrong."""

import json
import logging
from pathlib import Path
from typing import Self

import pytest
from pydantic import model_validator

from lastcall.channel_options import ChannelOptions
from lastcall.errors import SettingsError
from lastcall.setting_values import allowed
from lastcall.settings import ServerSettings, Settings
from lastcall.settings_file import configured_run_dir
from lastcall.settings_reference import as_json, as_table, reference, rows
from lastcall.settings_source import load_settings, settings_or_exit

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an empty working directory and no variable of ours."""
    monkeypatch.chdir(tmp_path)
    for variable in [f"LASTCALL_{name.upper()}" for name in Settings.model_fields]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("LASTCALL_CONFIG", raising=False)


def write(text: str, name: str = "lastcall.toml") -> None:
    Path(name).write_text(text, "utf-8")


def refusal(kind: type[Settings] = Settings, **overrides: object) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(kind, **overrides)
    return str(refused.value)


def test_defaults_of_the_library_and_of_the_server() -> None:
    library, server = load_settings(), load_settings(ServerSettings)

    assert (library.heartbeat_interval, library.announcements) == (0, False)
    assert (server.heartbeat_interval, server.announcements) == (10, True)
    assert library.shutdown_timeout == server.shutdown_timeout == 1800
    assert (library.namespaces, list(server.namespaces)) == ({}, ["demo"])
    rights = [name for name in server.namespaces["demo"].set_options() if name.startswith("allow_")]
    assert rights == []


def test_argument_wins_over_environment_over_file_over_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("shutdown_timeout = 1\nshutdown_delay = 1\nrelease_rate = 1")
    monkeypatch.setenv("LASTCALL_SHUTDOWN_TIMEOUT", "2")
    monkeypatch.setenv("LASTCALL_SHUTDOWN_DELAY", "2")

    settings = load_settings(ServerSettings, shutdown_timeout=3)

    assert (settings.shutdown_timeout, settings.shutdown_delay, settings.release_rate) == (3, 2, 1)
    assert settings.heartbeat_interval == 10


def test_file_is_the_one_that_lastcall_config_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("shutdown_timeout = 1")
    write("shutdown_timeout = 2", "other.toml")
    monkeypatch.setenv("LASTCALL_CONFIG", str(tmp_path / "other.toml"))

    assert load_settings().shutdown_timeout == 2


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """`${API_KEY:-}` in a compose file must not open the API with an empty key."""
    write("shutdown_timeout = 4")
    monkeypatch.setenv("LASTCALL_SHUTDOWN_TIMEOUT", "")
    monkeypatch.setenv("LASTCALL_API_KEY", "")

    assert load_settings().shutdown_timeout == 4
    assert load_settings().api_key is None
    assert Settings().api_key is None


@pytest.mark.anyio
async def test_settings_may_be_read_inside_an_event_loop() -> None:
    write("shutdown_timeout = 1")
    assert load_settings().shutdown_timeout == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("90s", 90),
        ("30min", 1800),
        ("30 min", 1800),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),
        ("1.5h", 5400),
        ("1d", 86400),
    ],
)
def test_durations_have_units(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTCALL_SHUTDOWN_TIMEOUT", text)
    assert load_settings().shutdown_timeout == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan", "1y", "h", "1h 30", "1hh", "\u0663m"])
def test_what_is_no_duration_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTCALL_SHUTDOWN_TIMEOUT", text)
    assert refusal() == (
        f"LASTCALL_SHUTDOWN_TIMEOUT is {text!r}, but must be seconds, 0 or more, such as 30, 0.5, "
        "500ms, 30min or 1h30m"
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("shutdown_notice_interval", 0, "seconds, more than 0"),
        ("shutdown_notice", "", "text of 1 to 1000 characters"),
        ("release_rate", "nan", "a number, more than 0"),
        ("announcement_rate", 1.5, "a whole number, 0 or more"),
        ("announcement_rate", True, "a whole number, 0 or more"),
        ("max_backlog", 12, "a whole number, 1024 or more"),
        ("max_connections", 0, "a whole number, 1 or more"),
        ("announcements", "maybe", "true or false"),
        ("handover", "on", "auto or off"),
        ("heartbeat", 5, "text of 1 to 1000 characters"),
        ("allowed_origins", "https://example.com/", "origins such as"),
        ("allowed_origins", ["example.com"], "origins such as"),
        ("run_dir", 5, "the path of a directory"),
    ],
)
def test_sentence_names_setting_value_and_what_is_allowed(
    name: str, value: object, words: str
) -> None:
    sentence = refusal(Settings, **{name: value})

    assert sentence.startswith(f"the argument {name} is {value!r}, but must be ")
    assert words in sentence
    assert "\n" not in sentence


def test_sentence_names_the_key_and_the_file() -> None:
    write("max_backlog = 12")
    assert refusal().startswith("max_backlog in lastcall.toml is 12, but must be a whole number")


@pytest.mark.parametrize(
    "url",
    [
        "redys://me:hunter2@cache:6379/0",
        "gnats://me:hunter2@bus",
        "redis+guard://a,b/shop?sentinel_password=hunter2&db=1",
    ],
)
def test_broker_that_is_not_supported_is_refused_without_its_password(url: str) -> None:
    sentence = refusal(broker_url=url)

    assert "redis+cluster://…, each also with rediss, nats://… or tls://…, or empty" in sentence
    assert "hunter2" not in sentence


def test_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTCALL_TOKEN_SECRET", "hunter2")

    assert "hunter2" not in repr(load_settings())
    assert "hunter2" not in as_table(rows(Settings)) + as_json(rows(Settings))
    assert refusal(api_key=123456) == (
        "the argument api_key is not shown, but must be text of at least 1 character"
    )
    write('api_key = ""')
    assert refusal().startswith("api_key in lastcall.toml is not shown, but must be text")


def test_origins_come_by_commas_or_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = ("https://a.example", "http://b.example:8080")
    write(f"allowed_origins = {json.dumps(origins)}")
    assert load_settings().allowed_origins == origins

    monkeypatch.setenv("LASTCALL_ALLOWED_ORIGINS", "https://A.example , http://b.example:8080")
    assert load_settings().allowed_origins == origins
    assert Settings().allowed_origins == origins
    assert load_settings(allowed_origins="*").allowed_origins == ("*",)


def test_namespaces_are_tables_in_the_file_and_json_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("[channels]\npresence = true\n[namespaces.chat]\nhistory_size = 5\nhistory_ttl = '1h'")
    settings = load_settings()

    assert settings.channels == ChannelOptions(presence=True)
    assert settings.namespaces == {"chat": ChannelOptions(history_size=5, history_ttl=3600)}

    monkeypatch.setenv("LASTCALL_CHANNELS", '{"join_leave": true}')
    monkeypatch.setenv("LASTCALL_NAMESPACES", '{"news": {"join_window": "5ms"}}')
    for settings in (load_settings(), Settings()):
        assert settings.channels == ChannelOptions(join_leave=True)
        assert settings.namespaces == {"news": ChannelOptions(join_window=0.005)}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            '{"chat": {"histry_size": 5}}',
            (
                "chat.histry_size in LASTCALL_NAMESPACES is not an option of channels; "
                "did you mean history_size?"
            ),
        ),
        (
            '{"chat": {"history_size": -1}}',
            "chat.history_size in LASTCALL_NAMESPACES is -1, but must be a whole number, 0 or more",
        ),
        (
            '{"chat": {"history_size": true}}',
            (
                "chat.history_size in LASTCALL_NAMESPACES is True, but must be a whole number, "
                "0 or more"
            ),
        ),
        (
            '{"chat": {"force_recovery": true}}',
            "chat in LASTCALL_NAMESPACES: force_recovery needs a history_size of 1 or more",
        ),
        (
            '{"presence": 5}',
            (
                "presence in LASTCALL_NAMESPACES is 5, but must be a table of channel options, "
                "such as history_size; in the environment as JSON"
            ),
        ),
        (
            '{"c": {}}',
            (
                "LASTCALL_NAMESPACES has the name 'c', but a name must be two or more letters, "
                "digits, - and _"
            ),
        ),
        (
            "{",
            (
                "LASTCALL_NAMESPACES is '{', but must be tables of channel options by name (two or "
                "more letters, digits, - and _); in the environment as JSON"
            ),
        ),
    ],
)
def test_sentence_about_a_namespace_names_the_place_in_it(
    value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTCALL_NAMESPACES", value)
    assert refusal() == sentence


def test_sentence_about_an_option_in_the_file_names_it_as_the_file_does() -> None:
    write("[namespaces.chat]\nhistory_ttl = 'soon'")
    assert refusal().startswith("namespaces.chat.history_ttl in lastcall.toml is 'soon', but must")

    write("[namespaces.chat]\njoin_window = 3")
    assert refusal().startswith("namespaces.chat.join_window in lastcall.toml is 3, but must be 0")

    write("[channels]\nchannel_regex = '('")
    assert refusal() == (
        "channels.channel_regex in lastcall.toml is '(', but must be a regular expression"
    )
    write("[channels]\nforce_push_join_leave = true")
    assert refusal() == "channels in lastcall.toml: force_push_join_leave needs join_leave"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"history_size": 1, "history_ttl": 0}, "history_size needs a history_ttl of more than 0"),
        ({"allow_recovery": True}, "allow_recovery needs a history_size of 1 or more"),
        ({"force_positioning": True}, "force_positioning needs a history_size of 1 or more"),
        ({"allow_positioning": True}, "allow_positioning needs a history_size of 1 or more"),
        (
            {"allow_subscribe_for_anonymous": True},
            "allow_subscribe_for_anonymous needs allow_subscribe_for_client",
        ),
        (
            {"allow_history_for_anonymous": True},
            (
                "allow_history_for_anonymous needs allow_history_for_client or "
                "allow_history_for_subscriber"
            ),
        ),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    options: dict[str, object], rule: str
) -> None:
    assert refusal(channels=options) == f"the argument channels: {rule}"


def test_settings_that_do_not_fit_together_are_refused() -> None:
    assert refusal(ping_interval=5) == "pong_timeout must be less than ping_interval"
    assert refusal(user_personal_channel_namespace="user") == (
        "user_personal_channel_namespace is 'user', but there is no such namespace"
    )
    assert refusal(max_channels=1000) == "max_commands must be more than max_channels"
    assert refusal(shutdown_notice_channel="server:all") == (
        "the namespace of shutdown_notice_channel is 'server', but there is no such namespace"
    )
    assert load_settings(shutdown_notice_channel="notices").shutdown_notice_channel == "notices"


def test_home_directory_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings(run_dir="~/run").run_dir == tmp_path / "run"


def test_run_directory_is_found_without_the_rest_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By commands that speak to a server: the variable wins, and nothing else has to be right."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert configured_run_dir() is None

    write("run_dir = '~/run'\nshutdwn_timeout = 3")
    assert configured_run_dir() == tmp_path / "run"
    monkeypatch.setenv("LASTCALL_RUN_DIR", "~/other")
    assert configured_run_dir() == tmp_path / "other" == load_settings_without_file().run_dir
    monkeypatch.setenv("LASTCALL_RUN_DIR", "")
    write("run_dir = ")
    assert configured_run_dir() is None


def load_settings_without_file() -> Settings:
    write("")
    return load_settings()


def test_unknown_key_in_the_file_is_an_error() -> None:
    for key in ("shutdwn_timeout", "LASTCALL_SHUTDOWN_TIMEOUT"):
        write(f"{key} = 3")
        assert refusal().startswith(
            f"{key} in lastcall.toml is not a setting; did you mean shutdown_timeout?"
        )
    write("[lastcall]\nshutdown_timeout = 3")
    assert refusal().startswith("lastcall in lastcall.toml is not a setting")


def test_unknown_argument_is_an_error() -> None:
    assert refusal(heartbeet="x") == (
        "the argument heartbeet is not a setting; did you mean heartbeat?"
    )


def test_unknown_variable_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Other tools may use the prefix, so nothing stops."""
    monkeypatch.setenv("LASTCALL_SHUTDWN_TIMEOUT", "3")
    monkeypatch.delenv("LASTCALL_MASTER", raising=False)
    with caplog.at_level(logging.WARNING, "lastcall"):
        load_settings()

    (record,) = caplog.records
    assert record.message == (
        "LASTCALL_SHUTDWN_TIMEOUT is set, but there is no such setting; "
        "did you mean LASTCALL_SHUTDOWN_TIMEOUT?"
    )


def test_workers_of_our_master_do_not_repeat_the_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LASTCALL_SHUTDWN_TIMEOUT", "3")
    monkeypatch.setenv("LASTCALL_MASTER", "1-1")
    load_settings()

    assert not caplog.records


def test_file_that_is_missing_broken_or_unreadable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("shutdown_timeout = = 3")
    assert refusal().startswith("lastcall.toml is not a TOML file: ")

    Path("lastcall.toml").write_bytes(b"heartbeat = '\xff'")
    assert refusal().startswith("lastcall.toml is not a TOML file: ")

    monkeypatch.setenv("LASTCALL_CONFIG", "gone.toml")
    assert refusal() == "LASTCALL_CONFIG is 'gone.toml', but there is no such file"

    monkeypatch.setenv("LASTCALL_CONFIG", str(tmp_path))
    assert refusal() == f"{tmp_path} cannot be read: Is a directory"


def test_subclass_of_an_application_gets_sentences_too() -> None:
    class Own(Settings):
        greeting: str

        @model_validator(mode="after")
        def _polite(self) -> Self:
            if self.greeting == "hey":
                raise ValueError("not polite")
            return self

    assert refusal(Own) == "LASTCALL_GREETING: Field required"
    assert refusal(Own, greeting="hey") == "Value error, not polite"
    assert load_settings(Own, greeting="hello").greeting == "hello"


def test_wrong_setting_ends_the_process_with_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings_or_exit(ServerSettings, handover="on")

    assert ended.value.code == 3
    assert capsys.readouterr().err == (
        "lastcall: the argument handover is 'on', but must be auto or off\n"
    )
    assert settings_or_exit(Settings, handover="off").handover == "off"


def test_every_setting_says_what_is_allowed_and_what_it_does() -> None:
    for kind in (Settings, ServerSettings, ChannelOptions):
        for name, field in kind.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name
            assert allowed(field), name


def test_rows_say_where_each_value_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    write("max_backlog = 2048\nrun_dir = '/run/chat'\nallowed_origins = ['https://a', 'https://b']")
    monkeypatch.setenv("LASTCALL_SHUTDOWN_TIMEOUT", "30min")
    monkeypatch.setenv("LASTCALL_API_KEY", "hunter2")

    lines = as_table(rows(ServerSettings)).splitlines()
    shown = {line.split("  ", 1)[0]: line.split("  ", 1)[1].split() for line in lines}

    assert shown["LASTCALL_SHUTDOWN_TIMEOUT"] == ["1800", "LASTCALL_SHUTDOWN_TIMEOUT"]
    assert shown["LASTCALL_MAX_BACKLOG"][-3:] == ["max_backlog", "in", "lastcall.toml"]
    assert shown["LASTCALL_API_KEY"][0] == "set"
    assert shown["LASTCALL_TOKEN_SECRET"] == ["unset", "default"]
    assert shown["LASTCALL_ANNOUNCEMENTS"] == ["true", "default"]
    # What most people look for comes first.
    names = ("SHUTDOWN_TIMEOUT", "API_KEY", "MAX_BACKLOG", "PROXY_CONNECT_URL")
    places = [[*shown].index(f"LASTCALL_{name}") for name in names]
    assert places[0] == 1  # behind the header
    assert places == sorted(places)
    by_name = {row["setting"]: row for row in json.loads(as_json(rows(ServerSettings)))}
    assert by_name["LASTCALL_ALLOWED_ORIGINS"]["value"] == ["https://a", "https://b"]
    assert by_name["LASTCALL_RUN_DIR"]["value"] == "/run/chat"
    assert by_name["LASTCALL_STATE_DIR"] == {
        "setting": "LASTCALL_STATE_DIR",
        "value": None,
        "origin": "default",
    }


def test_rows_show_what_differs_in_each_namespace() -> None:
    write("[channels]\npresence = true\n[namespaces.chat]\nhistory_size = 5\n[namespaces.news]")
    table = as_table(rows(Settings))
    shown = [line.split() for line in table.splitlines()]
    below = shown.index(["LASTCALL_NAMESPACES", "as", "below", "namespaces", "in", "lastcall.toml"])

    assert shown[below + 1 : below + 4] == [
        ["chat", "as", "below"],
        ["history_size", "5"],
        ["news", "empty"],
    ]
    assert ["presence", "true"] in shown
    by_name = {row["setting"]: row for row in json.loads(as_json(rows(Settings)))}
    assert by_name["LASTCALL_NAMESPACES"]["value"] == {"chat": {"history_size": 5}, "news": {}}
    assert by_name["LASTCALL_CHANNELS"]["value"] == {"presence": True}


def test_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == reference(), (
        "run: python -m lastcall.settings_reference > docs/reference/settings.md"
    )
