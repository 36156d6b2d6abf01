"""Where the settings of this process come from, and the sentence when one is wrong."""

import difflib
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, overload

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lastcall.channel_options import NAME_WORDS, ChannelOptions
from lastcall.errors import SettingsError
from lastcall.exit_status import CANNOT_START
from lastcall.host import FAMILY_VARIABLE, MASTER_VARIABLE, UPGRADE_VARIABLE
from lastcall.setting_values import BrokenRule, allowed, from_json, is_secret
from lastcall.settings import PREFIX, Settings
from lastcall.settings_file import CONFIG, read_settings_file

logger = logging.getLogger("lastcall")

NOT_SETTINGS = frozenset({CONFIG, FAMILY_VARIABLE, MASTER_VARIABLE, UPGRADE_VARIABLE})
"""Variables with our prefix that are no settings."""

Fields = Mapping[str, FieldInfo]


@dataclass(frozen=True, slots=True)
class Given:
    """A setting's value before it is checked, and where it was given."""

    value: object
    place: str
    """How to find it again: `LASTCALL_HEARTBEAT`, `heartbeat in lastcall.toml`."""

    def inside(self, path: Sequence[str]) -> "Given":
        """What this table has at *path*: its keys, from the outermost."""
        keys = ".".join(path)
        name, is_file, file = self.place.partition(" in ")
        # In a file they follow the table's name, as TOML writes them.
        place = f"{name}.{keys} in {file}" if is_file else f"{keys} in {name}"
        value = from_json(self.value)
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return Given(value, place)


@overload
def load_settings(**overrides: object) -> Settings: ...
@overload
def load_settings[S: Settings](kind: type[S], /, **overrides: object) -> S: ...
def load_settings(kind: type[Settings] = Settings, /, **overrides: object) -> Settings:
    """Read the settings once: arguments, `LASTCALL_…`, `lastcall.toml`, defaults, in this order.

    The file is the one that `LASTCALL_CONFIG` names, or `lastcall.toml` in the working directory
    if there is one.

    Raises:
        SettingsError: one sentence that names the setting, its value and what is allowed.
    """
    values = given(kind, overrides)
    if MASTER_VARIABLE not in os.environ:  # our master has said it once for all its workers
        warn_of_unknown_variables(kind)
    checked: dict[str, Any] = {name: value.value for name, value in values.items()}
    try:
        return kind(**checked)
    except ValidationError as error:
        raise SettingsError(_sentence(kind, error, values)) from None


def settings_or_exit[S: Settings](kind: type[S], /, **overrides: object) -> S:
    """Read the settings like `load_settings`, or end the process.

    Raises:
        SystemExit: with status 3 after one sentence on stderr.
    """
    try:
        return load_settings(kind, **overrides)
    except SettingsError as error:
        cannot_start(error)


def _sentence(kind: type[Settings], error: ValidationError, values: dict[str, Given]) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    rule = first.get("ctx", {}).get("error")
    if not first["loc"]:  # a rule about several settings; an application may have its own
        return str(rule) if isinstance(rule, BrokenRule) else first["msg"]
    name, *path = (str(part) for part in first["loc"])
    if name not in values:  # a setting without a default, in an application's own subclass
        return f"{PREFIX}{name.upper()}: {first['msg']}"
    value = values[name]
    if isinstance(rule, BrokenRule):
        return f"{value.inside(path).place if path else value.place}: {rule}"
    if path and name in _OPTION_DEPTH:
        return _wrong_option(kind, value, path, _OPTION_DEPTH[name])
    return wrong_value(kind.model_fields[name], value)


_OPTION_DEPTH = {"channels": 1, "namespaces": 2}
"""How many keys lead from the setting to one option of a channel."""


def _wrong_option(kind: type[Settings], table: Given, path: list[str], depth: int) -> str:
    *_, key = path
    if key == "[key]":
        return f"{table.place} has the name {path[0]!r}, but a name must be {NAME_WORDS}"
    options, value = ChannelOptions.model_fields, table.inside(path)
    if len(path) < depth:
        return wrong_value(kind.model_fields["channels"], value)
    if key not in options:
        return f"{value.place} is not an option of channels{_nearest(key, options)}"
    return wrong_value(options[key], value)


def cannot_start(reason: object) -> NoReturn:
    """Say why on stderr and end with status 3."""
    sys.stderr.write(f"lastcall: {reason}\n")
    raise SystemExit(CANNOT_START)


def given(kind: type[Settings], arguments: Mapping[str, object]) -> dict[str, Given]:
    """Collect what was given; an argument wins over the environment, which wins over the file.

    Raises:
        SettingsError: the file cannot be read, or it or an argument names an unknown setting.
    """
    fields = kind.model_fields
    return (
        _from_file(fields)
        | _from_environment(fields)
        | {name: _argument(fields, name, value) for name, value in arguments.items()}
    )


def warn_of_unknown_variables(kind: type[Settings]) -> None:
    """Log every variable with our prefix that names no setting; other tools may use it too."""
    known = {PREFIX + name.upper() for name in kind.model_fields} | NOT_SETTINGS
    for variable in sorted(os.environ):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            nearest = _nearest(variable.upper(), known)
            logger.warning("%s is set, but there is no such setting%s", variable, nearest)


def wrong_value(field: FieldInfo, value: Given) -> str:
    """Say in one sentence what is wrong; secrets are not shown."""
    shown = "not shown" if is_secret(field) else repr(without_password(value.value))
    return f"{value.place} is {shown}, but must be {allowed(field)}"


def without_password(value: object) -> object:
    """Hide who logs in, and with what, in an address such as `redis://user:password@host`."""
    if not isinstance(value, str) or "//" not in value:
        return value
    return re.sub(r"(?<=//)[^/\s]*@|(?<=password=)[^&#\s]*", _hidden, value)


def _hidden(found: re.Match[str]) -> str:
    return "***@" if found[0].endswith("@") else "***"


def _from_file(fields: Fields) -> dict[str, Given]:
    found = {}
    path, table = read_settings_file()
    for key, value in table.items():
        if key not in fields:
            asked = key.lower().removeprefix(PREFIX.lower())
            raise SettingsError(
                f"{key} in {path} is not a setting{_nearest(asked, fields)} "
                "(`lastcall check-settings` lists them all)"
            )
        found[key] = Given(value, f"{key} in {path}")
    return found


def _from_environment(fields: Fields) -> dict[str, Given]:
    # An empty variable counts as unset: that is what `${NAME:-}` in a compose file gives.
    return {
        name: Given(value, variable)
        for variable, value in os.environ.items()
        if variable.upper().startswith(PREFIX)
        and (name := variable[len(PREFIX) :].lower()) in fields
        and value
    }


def _argument(fields: Fields, name: str, value: object) -> Given:
    if name not in fields:
        raise SettingsError(f"the argument {name} is not a setting{_nearest(name, fields)}")
    return Given(value, f"the argument {name}")


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
