"""The working directory as whoever started us calls it."""

import os
from pathlib import Path


def working_directory() -> Path:
    """Where we run, by the name that the shell gave it (`PWD`).

    A release is often reached through a link that moves on to the next one: then the name stays,
    and what it stands for is what is installed now.
    """
    actual, named = Path.cwd(), Path(os.environ.get("PWD", ""))
    try:
        return named if named.is_absolute() and named.samefile(actual) else actual
    except OSError:
        return actual
