"""What the operator gave for a setting, and where; and the sentence when it is wrong."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from lastcall.errors import SettingsError

PREFIX = "LASTCALL_"
CONFIG = "LASTCALL_CONFIG"
DEFAULT_FILE = "lastcall.toml"
NOT_SETTINGS = frozenset({CONFIG, "LASTCALL_MASTER"})
"""Variables with our prefix that are no settings: where the file is, and who the master is."""

Fields = Mapping[str, FieldInfo]
Source = Literal["argument", "environment", "file", "default"]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a setting may be, in words that complete "it must be"."""

    words: str


@dataclass(frozen=True, slots=True)
class Given:
    """A setting's value before it is checked, and where it was given."""

    value: object
    source: Source
    place: str
    """How to find it again: `LASTCALL_HEARTBEAT`, `heartbeat in lastcall.toml`."""


def given(model: type[BaseModel], arguments: Mapping[str, object]) -> dict[str, Given]:
    """Collect what was given; an argument wins over the environment, which wins over the file.

    Raises:
        SettingsError: the file cannot be read, or it or an argument names an unknown setting.
    """
    fields = model.model_fields
    return (
        _from_file(fields)
        | _from_environment(fields)
        | {name: _argument(fields, name, value) for name, value in arguments.items()}
    )


def unknown_variables(model: type[BaseModel]) -> list[str]:
    """A sentence for every variable with our prefix that names no setting.

    Sentences and no error: other tools may use the prefix too.
    """
    known = {PREFIX + name.upper() for name in model.model_fields} | NOT_SETTINGS
    return [
        f"{variable} is set, but there is no such setting{_nearest(variable.upper(), known)}"
        for variable in sorted(os.environ)
        if variable.upper().startswith(PREFIX) and variable.upper() not in known
    ]


def wrong_value(field: FieldInfo, value: Given) -> str:
    """Say in one sentence what is wrong; secrets are not shown."""
    shown = "not shown" if is_secret(field) else repr(without_password(value.value))
    return f"{value.place} is {shown}, but must be {allowed(field)}"


def allowed(field: FieldInfo) -> str:
    """What the setting may be, in words that complete "it must be"."""
    for metadata in field.metadata:
        if isinstance(metadata, Allowed):
            return metadata.words
    if get_origin(field.annotation) is Literal:
        return " or ".join(get_args(field.annotation))
    if field.annotation is bool:
        return "true or false"
    kinds = get_args(field.annotation) or (field.annotation,)
    return ("a whole number" if int in kinds else "a number") + _bound(field)


def is_secret(field: FieldInfo) -> bool:
    """Whether the value must never be shown."""
    return SecretStr in (get_args(field.annotation) or (field.annotation,))


def without_password(value: object) -> object:
    """Hide who logs in, and with what, in an address such as `redis://user:password@host`."""
    return re.sub(r"(?<=//)[^/\s]*@", "***@", value) if isinstance(value, str) else value


def _from_file(fields: Fields) -> dict[str, Given]:
    found = {}
    path, table = _read_file()
    for key, value in table.items():
        if key not in fields:
            asked = key.lower().removeprefix(PREFIX.lower())
            raise SettingsError(
                f"{key} in {path} is not a setting{_nearest(asked, fields)} "
                "(`lastcall check-settings` lists them all)"
            )
        found[key] = Given(value, "file", f"{key} in {path}")
    return found


def _read_file() -> tuple[str, dict[str, Any]]:
    named = os.environ.get(CONFIG)
    path = named or DEFAULT_FILE
    try:
        return path, tomllib.loads(Path(path).expanduser().read_text("utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError(f"{CONFIG} is {path!r}, but there is no such file") from None
        return path, {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not a TOML file: {error}") from error


def _from_environment(fields: Fields) -> dict[str, Given]:
    # An empty variable counts as unset: that is what `${NAME:-}` in a compose file gives.
    return {
        name: Given(value, "environment", variable)
        for variable, value in os.environ.items()
        if variable.upper().startswith(PREFIX)
        and (name := variable[len(PREFIX) :].lower()) in fields
        and value
    }


def _argument(fields: Fields, name: str, value: object) -> Given:
    if name not in fields:
        raise SettingsError(f"the argument {name} is not a setting{_nearest(name, fields)}")
    return Given(value, "argument", f"the argument {name}")


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _bound(field: FieldInfo) -> str:
    for metadata in field.metadata:
        if isinstance(metadata, Ge):
            return f", {metadata.ge} or more"
        if isinstance(metadata, Gt):
            return f", more than {metadata.gt}"
    return ""
