"""What users import: `lastcall` itself names it all, and nothing by accident."""

import ast
import importlib.resources
import inspect

import pytest

import lastcall
from lastcall.public_names import WHERE

NAMES: list[str] = getattr(lastcall, "__all__", [])


def test_public_names_are_sorted_and_complete() -> None:
    for_type_checkers = {
        alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(lastcall)))
        if isinstance(node, ast.ImportFrom)
        and node.module not in ("typing", "lastcall.public_names")
        for alias in node.names
    }

    assert sorted(NAMES) == NAMES
    assert {*NAMES} == {*WHERE} <= {*dir(lastcall)}
    assert for_type_checkers == WHERE


def test_a_name_that_is_none_of_ours_is_an_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="'lastcall' has no attribute 'Nobody'"):
        lastcall.Nobody  # type: ignore[attr-defined]  # noqa: B018  (asking is the test)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_ours_and_says_what_it_promises(name: str) -> None:
    value = getattr(lastcall, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__.partition(".")[0] == "lastcall"
        assert inspect.getdoc(value)


def test_type_checkers_of_users_read_our_types() -> None:
    assert importlib.resources.files("lastcall").joinpath("py.typed").is_file()
