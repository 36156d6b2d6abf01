"""The page for users names every close code with its reason, and no other."""

import re
from pathlib import Path

from lastcall.errors import Disconnect

PAGE = Path(__file__).parent.parent / "docs" / "shutdown.md"


def test_the_page_lists_the_codes_and_reasons_of_the_code() -> None:
    rows = re.findall(r"^\| (\d{4}) \| ([^|]+) \|", PAGE.read_text(), flags=re.MULTILINE)
    kinds = Disconnect.__subclasses__()

    assert sorted(rows) == sorted((str(kind.code), kind.reason) for kind in kinds)
