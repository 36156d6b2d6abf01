"""The settings as people read them: `lastcall check-settings` and the reference page.

`python -m lastcall.settings_reference > docs/reference/settings.md` writes the page anew.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pydantic.fields import FieldInfo

from lastcall.settings import PREFIX, ServerSettings, Settings, allowed, is_secret
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
```

An empty variable counts as unset. Durations are numbers of seconds, or text such as `500ms`,
`90s`, `30min`, `1h30m` or `1d`. A wrong value, and an unknown key in the file, stop the start with
one sentence and exit status 3; an unknown variable that begins with `LASTCALL_` is a warning.
`lastcall check-settings` shows what is in force and where it came from.

*Server* is the server of `lastcall serve` and `create_app`, *library* is `Lastcall()` in an
application.

| Setting | Server | Library | Allowed | What it does |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of a running system."""

    setting: str
    value: str | float | bool | list[str] | None
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
        for name, field in kind.model_fields.items()
    ]


def as_table(lines: Iterable[Row]) -> str:
    """Show rows for people: three columns, as wide as needed."""
    cells = [("SETTING", "VALUE", "FROM")]
    cells += [(line.setting, _text(line.value) or "empty", line.origin) for line in lines]
    first, second = (max(len(cell[column]) for cell in cells) for column in (0, 1))
    return "".join(f"{a:{first}}  {b:{second}}  {c}\n" for a, b, c in cells)


def as_json(lines: Iterable[Row]) -> str:
    """Show rows for programs: a JSON array of objects."""
    return json.dumps([asdict(line) for line in lines], indent=2) + "\n"


def reference() -> str:
    """The page `docs/reference/settings.md`."""
    return _PAGE + "".join(
        f"| `{PREFIX}{name.upper()}` "
        f"| {_default(field)} | {_default(Settings.model_fields[name])} "
        f"| {_cell(allowed(field))} | {_cell(field.description or '')} |\n"
        for name, field in ServerSettings.model_fields.items()
    )


def _shown(value: object, field: FieldInfo) -> str | float | bool | list[str] | None:
    if is_secret(field):
        return "unset" if value is None else "set"
    if value is None or isinstance(value, int | float):
        return value
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
    return ", ".join(value) if isinstance(value, list) else str(value)


def _default(field: FieldInfo) -> str:
    text = _text(_shown(field.default, field))
    return f"`{text}`" if text not in {"", "unset"} else "unset" if text else "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
