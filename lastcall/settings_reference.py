"""The settings as people read them: `lastcall check-settings` and the reference page.

`python -m lastcall.settings_reference > docs/reference/settings.md` writes the page anew.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic.fields import FieldInfo

from lastcall.channel_options import ChannelOptions
from lastcall.limit_settings import LimitSettings
from lastcall.proxy_settings import ProxySettings
from lastcall.setting_values import allowed, is_secret
from lastcall.settings import PREFIX, ServerSettings, Settings
from lastcall.settings_source import given, load_settings, without_password

_PAGE = """\
# Settings

<!-- Generated: python -m lastcall.settings_reference > docs/reference/settings.md -->

Each setting is an argument of `load_settings`, an environment variable or a key in
`lastcall.toml`; the first of these that gives it wins, then the default. The file is looked for in
the working directory, or where `LASTCALL_CONFIG` says; its keys are the names without the
prefix, in small letters:

```toml
shutdown_timeout = "30min"
allowed_origins = ["https://chat.example.com", "https://example.com"]

[namespaces.chat]
history_size = 100
```

An empty variable counts as unset. Durations are numbers of seconds, or text such as `500ms`,
`90s`, `30min`, `1h30m` or `1d`. In the environment a table is JSON. A wrong value, and an unknown
key in the file, stop the start with one sentence and exit status 3; an unknown variable that begins
with `LASTCALL_` is a warning. `lastcall check-settings` shows what is in force and where it came
from.

*Server* is the server of `lastcall serve` and `create_app`, *library* is `Lastcall()` in an
application.

| Setting | Server | Library | Allowed | What it does |
|---|---|---|---|---|
"""

_OPTIONS = """
## Options of channels

The keys of `[channels]`, for the channels without a namespace, and of each `[namespaces.NAME]`.
[Channels](../channels.md) tells what they mean together.

| Option | Default | Allowed | What it does |
|---|---|---|---|
"""

BACKEND, LIMITS = ProxySettings.model_fields, LimitSettings.model_fields

Value = str | float | bool | list[str] | dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of a running system."""

    setting: str
    value: Value
    origin: str


def rows(kind: type[Settings]) -> list[Row]:
    """Every setting with the value in force and where it came from; secrets as set or unset.

    Raises:
        SettingsError: a value is wrong.
    """
    settings = load_settings(kind)
    origins = {name: value.place for name, value in given(kind, {}).items()}
    return [
        Row(
            PREFIX + name.upper(),
            _shown(getattr(settings, name), field),
            origins.get(name, "default"),
        )
        for name, field in _fields(kind)
    ]


def as_table(lines: Iterable[Row]) -> str:
    """Show rows for people: three columns, as wide as needed."""
    cells = [("SETTING", "VALUE", "FROM")]
    cells += [cell for line in lines for cell in _cells(line)]
    first, second = (max(len(cell[column]) for cell in cells) for column in (0, 1))
    return "".join(f"{a:{first}}  {b:{second}}  {c}".rstrip() + "\n" for a, b, c in cells)


def as_json(lines: Iterable[Row]) -> str:
    """Show rows for programs: a JSON array of objects."""
    return json.dumps([asdict(line) for line in lines], indent=2) + "\n"


def reference() -> str:
    """The page `docs/reference/settings.md`."""
    return (
        _PAGE
        + "".join(
            f"| `{PREFIX}{name.upper()}` "
            f"| {_default(field)} | {_default(Settings.model_fields[name])} "
            f"| {_cell(allowed(field))} | {_cell(field.description or '')} |\n"
            for name, field in _fields(ServerSettings)
        )
        + _OPTIONS
        + "".join(
            f"| `{name}` | {_default(field)} | {_cell(allowed(field))} "
            f"| {_cell(field.description or '')} |\n"
            for name, field in ChannelOptions.model_fields.items()
        )
    )


def _fields(kind: type[Settings]) -> list[tuple[str, FieldInfo]]:
    """The limits come later, and the backend last: most people leave them as they are."""
    return sorted(
        kind.model_fields.items(), key=lambda each: (each[0] in BACKEND, each[0] in LIMITS)
    )


def _cells(line: Row) -> Iterator[tuple[str, str, str]]:
    """One line for a value, one more for each namespace and option of a table."""
    if not isinstance(line.value, dict):
        yield line.setting, _text(line.value) or "empty", line.origin
        return
    yield line.setting, "as below" if line.value else "empty", line.origin
    yield from _below(line.value, "  ")


def _below(table: dict[str, Any], indent: str) -> Iterator[tuple[str, str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield indent + name, "as below" if value else "empty", ""
            yield from _below(value, indent + "  ")
        else:
            yield indent + name, _text(value), ""


def _shown(value: object, field: FieldInfo) -> Value:
    if is_secret(field):
        return "unset" if value is None else "set"
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, ChannelOptions):
        return value.set_options()
    if isinstance(value, Mapping):
        return {name: _shown(options, field) for name, options in value.items()}
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return str(without_password(str(value)))


def _text(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    return ", ".join(value) if isinstance(value, list | dict) else str(value)


def _default(field: FieldInfo) -> str:
    text = _text(_shown(field.get_default(call_default_factory=True), field))
    return f"`{text}`" if text not in {"", "unset"} else "unset" if text else "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
