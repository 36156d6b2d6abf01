"""What the pages say of the checkout is so: links lead somewhere, named files exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lastcall
from lastcall.settings import ServerSettings

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
}
GLOSSARY = ROOT / "docs" / "glossary.md"

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
NAMED_FILE = re.compile(
    r"`(?P<path>(?:lastcall|tests|scripts|benchmarks|conformance|examples|docs)/[\w./-]+)`"
)

every_page = pytest.mark.parametrize("name", PAGES)


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> Iterator[str]:
    """What can be linked to: the headings, spelled as GitHub does."""
    for heading in re.findall(r"^#+ +(.+)$", prose(page), flags=re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        yield plain.replace(" ", "-")


@every_page
def test_relative_links_lead_somewhere(name: str) -> None:
    page = PAGES[name]
    broken = []
    for match in LINK.finditer(prose(page)):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(match["target"])

    assert not broken


@every_page
def test_files_named_in_the_text_exist(name: str) -> None:
    if name == "CHANGELOG.md":
        return  # It tells of files that are gone by now.
    named = {match["path"] for match in NAMED_FILE.finditer(prose(PAGES[name]))}

    # The package may be an installed one, away from the rest.
    places = (ROOT, Path(lastcall.__file__).parent.parent)
    assert not {path for path in named if not any((place / path).exists() for place in places)}


def test_glossary_has_each_word_once_in_order() -> None:
    words = re.findall(r"^\*\*(.+?)\*\*", GLOSSARY.read_text(), flags=re.MULTILINE)

    assert words == sorted(set(words), key=str.lower)


def test_changelog_speaks_of_what_is_not_yet_released_first() -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)

    assert sections[0] == "[Unreleased]"
    for section in sections[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section)


OWN_VARIABLES = {"LASTCALL_CONFIG", "LASTCALL_MASTER"}
"""What the environment may hold beside the settings."""


@every_page
def test_settings_named_in_the_text_exist(name: str) -> None:
    if name == "CHANGELOG.md":
        return  # Like files.
    named = set(re.findall(r"\bLASTCALL_[A-Z_]*[A-Z]\b", PAGES[name].read_text()))
    known = {f"LASTCALL_{field.upper()}" for field in ServerSettings.model_fields}

    assert named <= known | OWN_VARIABLES


def test_quick_starts_show_what_the_examples_do() -> None:
    """Each line of their Python is in an example: as it is, but for the decorators' docstrings."""
    examples = "\n".join(path.read_text() for path in (ROOT / "examples").glob("*.py"))
    page = PAGES["docs/quick-starts.md"].read_text()
    lines = [
        line.strip()
        for block in re.findall(r"^```python$(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]

    assert len(lines) > 20
    assert [line for line in lines if line not in examples] == []
