"""The house has rules about who knows whom and how big a room gets; these tests keep them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import pytest

from lastcall.__main__ import SPOKEN_TO
from lastcall.control_commands import COMMANDS
from lastcall.public_names import WHERE
from tests.import_rules import (
    BARE_ASYNCIO,
    IMPORT_APP,
    IMPURE,
    LAYERS,
    PACKAGE,
    POSIX_ONLY,
    Layer,
    layer_of,
    matches,
    modules,
)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 30
MAX_PARAMETERS = 8

NOT_USED = {
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "misc",
    "service",
    "services",
    "handler",
    "handlers",
    "context",
    "data",
    "info",
    "manager",
}
"""Words that say nothing about what a module or class is (house style: one word per thing)."""
EXCEPTIONS = {"connection_manager", "ConnectionManager"}

MODULES = dict(modules())
INITS = {
    str(path.relative_to(PACKAGE.parent)): path for path in sorted(PACKAGE.rglob("__init__.py"))
}
SOURCES = {f"lastcall.{name}": path for name, path in MODULES.items()} | INITS

every_module = pytest.mark.parametrize("name", MODULES)
every_file = pytest.mark.parametrize("path", SOURCES.values(), ids=SOURCES.keys())


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, by its full name."""

    name: str
    only_types: bool
    at_import_time: bool

    @property
    def ours(self) -> str | None:
        """Its name below `lastcall.` if it is a module of ours; the package itself is ''."""
        top, _, rest = self.name.partition(".")
        return rest if top == "lastcall" else None

    @property
    def package(self) -> str:
        """The package it comes from."""
        return self.name.partition(".")[0]


def imports(path: Path) -> Iterator[Import]:
    """What the file imports, wherever in it."""
    yield from _imports(ast.parse(path.read_text()).body, only_types=False, at_import_time=True)


def _imports(nodes: list[ast.stmt], *, only_types: bool, at_import_time: bool) -> Iterator[Import]:
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            names = [_module_of(node.module or "", alias.name) for alias in node.names]
        for name in names:
            yield Import(name, only_types, at_import_time)
        inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        inner += [
            statement
            for handler in ast.iter_child_nodes(node)
            if isinstance(handler, ast.ExceptHandler | ast.match_case)
            for statement in handler.body
        ]
        yield from _imports(
            inner,
            only_types=only_types or _is_type_checking(node),
            at_import_time=at_import_time
            and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef),
        )


def _module_of(module: str, name: str) -> str:
    """`from lastcall import hub` imports lastcall.hub, `from lastcall.hub import Hub` the same."""
    top, _, below = f"{module}.{name}".partition(".")
    return f"{module}.{name}" if top == "lastcall" and below in MODULES else module


def _is_type_checking(node: ast.stmt) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _layer(name: str) -> Layer:
    layer = layer_of(name)
    assert layer is not None, (
        f"nobody has said yet what lastcall/{name.replace('.', '/')}.py may import: "
        f"add {name!r} to one of the LAYERS in tests/import_rules.py"
    )
    return layer


@every_module
def test_module_imports_of_ours_only_its_layer_and_those_above(name: str) -> None:
    layer = _layer(name)
    for imported in imports(MODULES[name]):
        if not imported.ours or imported.ours not in MODULES:
            continue
        other = _layer(imported.ours)
        assert LAYERS.index(other) <= LAYERS.index(layer), (
            f"{name} ({layer.what}) imports {imported.ours} ({other.what}), which stands below it"
        )
        if other is layer and layer.own_folder_only:
            assert name.partition(".")[0] == imported.ours.partition(".")[0], (
                f"{name} imports {imported.ours}, the implementation of another seam"
            )


@every_module
def test_module_imports_no_package_that_its_layer_does_not_name(name: str) -> None:
    layer = _layer(name)
    allowed = layer.packages | layer.extra.get(name, frozenset())
    for imported in imports(MODULES[name]):
        if imported.ours is not None or imported.package in sys.stdlib_module_names:
            continue
        # The types of anyio stand in promises.
        if imported.only_types and imported.package == "anyio":
            continue
        assert imported.package in allowed, f"{name} ({layer.what}) imports {imported.name}"


@pytest.mark.parametrize("name", [name for name in MODULES if (it := layer_of(name)) and it.pure])
def test_pure_module_knows_no_clock_no_loop_and_no_socket(name: str) -> None:
    impure = {
        imported.name
        for imported in imports(MODULES[name])
        if not imported.only_types and (imported.name in IMPURE or imported.package in IMPURE)
    }

    assert not impure


@every_module
def test_bare_asyncio_stands_only_where_a_protocol_class_or_raw_socket_needs_it(name: str) -> None:
    if matches(name, BARE_ASYNCIO):
        return
    assert not [
        it for it in imports(MODULES[name]) if it.package == "asyncio" and not it.only_types
    ]


@every_module
def test_only_some_modules_know_what_windows_lacks_and_only_when_used(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    families = [
        it for it in ast.walk(tree) if isinstance(it, ast.Attribute) and it.attr == "AF_UNIX"
    ]
    locks = [it for it in imports(MODULES[name]) if it.package == "fcntl" and not it.only_types]

    assert matches(name, POSIX_ONLY) or not (families or locks)
    assert not any(it.at_import_time for it in locks)


@every_module
def test_nobody_imports_app_but_those_who_start_it(name: str) -> None:
    if name in IMPORT_APP:
        return
    assert "app" not in {imported.ours for imported in imports(MODULES[name])}


def test_package_imports_where_fcntl_and_unix_sockets_are_missing() -> None:
    """As on Windows. What others import is imported first: how they cope is not ours to test."""
    program = """
import asyncio, socket, sqlite3, sys
import anyio, fastapi, msgspec, pydantic_settings, typer, uvicorn, uvicorn.supervisors, websockets
sys.modules["fcntl"] = None
del socket.AF_UNIX
for name in ["lastcall", *sys.argv[1:]]:
    __import__(name)
"""
    ours = [f"lastcall.{name}" for name in MODULES if name != "__main__"]
    subprocess.run([sys.executable, "-c", program, *ours], check=True, timeout=60)


@pytest.mark.parametrize(
    ("modules", "not_needed"),
    [
        ("lastcall.cli, lastcall.supervisor", {"fastapi", "starlette", "lastcall.app"}),
        ("lastcall.control_commands", {"fastapi", "pydantic", "uvicorn", "lastcall.settings"}),
    ],
    ids=["masters", "commands that speak to a server"],
)
def test_who_runs_beside_workers_imports_only_what_it_needs(
    modules: str, not_needed: set[str]
) -> None:
    """The rest takes half a second of a core, which in a deploy is one of those who serve."""
    program = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)

    assert not not_needed & {*loaded.split()}


def test_commands_that_speak_to_a_server_are_known_before_they_are_imported() -> None:
    assert {command.__name__ for command in COMMANDS} == SPOKEN_TO


def test_what_others_import_needs_nothing_else_to_be_imported_first() -> None:
    """The package itself imports none of it any more, in an order that suits all."""
    program = """
import sys
for name in sys.argv[1:]:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == "lastcall"]:
        del sys.modules[loaded]
    __import__(name)
"""
    ours = {*WHERE.values(), "lastcall.testing", "lastcall.uvicorn_server", "lastcall.cli"}
    subprocess.run([sys.executable, "-c", program, *sorted(ours)], check=True, timeout=60)


@every_file
def test_file_is_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


@every_file
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    too_long = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (lines := _lines_without_docstring(node)) > MAX_FUNCTION_LINES:
            too_long.append(f"{node.name} (line {node.lineno}): {lines} lines")
        if (parameters := _parameters(node)) > MAX_PARAMETERS:
            too_long.append(f"{node.name} (line {node.lineno}): {parameters} parameters")

    assert not too_long


def _lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = node.args
    names = [it.arg for it in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    return len([name for name in names if name not in ("self", "cls")])


@every_file
def test_names_say_what_a_thing_is(path: Path) -> None:
    classes = [
        it.name for it in ast.walk(ast.parse(path.read_text())) if isinstance(it, ast.ClassDef)
    ]
    names = {path.stem, path.parent.name, *classes} - EXCEPTIONS
    empty = {
        name
        for name in names
        for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
        if word.lower() in NOT_USED
    }

    assert not empty, f"words that say nothing: {empty}"


@pytest.mark.parametrize("path", INITS.values(), ids=INITS.keys())
def test_init_files_hold_re_exports_and_nothing_else(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    for node in [*body]:
        if _is_type_checking(node):
            body.remove(node)
            body += [*node.body, *node.orelse]
    for node in body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        dunder = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("__")
        assert docstring or dunder or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(
            node
        )
