"""What users import: `lastcall` itself names it all, and nothing by accident."""

import importlib.resources
import inspect
from types import ModuleType

import pytest

import lastcall

NAMES: list[str] = getattr(lastcall, "__all__", [])


def test_public_names_are_sorted_and_complete() -> None:
    public = {
        name
        for name, value in vars(lastcall).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }

    assert sorted(NAMES) == NAMES
    assert set(NAMES) - {"__version__"} == public


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_ours_and_says_what_it_promises(name: str) -> None:
    value = getattr(lastcall, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__.partition(".")[0] == "lastcall"
        assert inspect.getdoc(value)


def test_type_checkers_of_users_read_our_types() -> None:
    assert importlib.resources.files("lastcall").joinpath("py.typed").is_file()
