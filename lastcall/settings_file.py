"""`lastcall.toml`, and what commands need to know of the settings that speak to a server.

They know nothing else of them: what checks the settings takes a tenth of a second of a core to
import, and they run in the middle of a deploy.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from lastcall.errors import SettingsError

CONFIG = "LASTCALL_CONFIG"
DEFAULT_FILE = "lastcall.toml"
RUN_DIR = "LASTCALL_RUN_DIR"


def configured_run_dir() -> Path | None:
    """The run directory by environment and file, whatever else there may be wrong with them."""
    given = [value for name, value in os.environ.items() if name.upper() == RUN_DIR and value]
    if not given:
        try:
            given = [
                str(value) for key, value in read_settings_file()[1].items() if key == "run_dir"
            ]
        except SettingsError:
            return None
    return Path(given[0]).expanduser() if given else None


def read_settings_file() -> tuple[str, dict[str, Any]]:
    """How the file is called, and what is in it: nothing where there is none, and none was named.

    Raises:
        SettingsError: it cannot be read.
    """
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
