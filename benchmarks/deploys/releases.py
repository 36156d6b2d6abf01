"""Two releases that differ in version and Python, side by side, and a link to the one that counts.

What a deploy puts on a host. Packages that both need are not installed again: each release sees
those of the environment that `scripts/install` keeps for its Python.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT

SOURCE = ("lastcall", "pyproject.toml", "README.md", "LICENSE")
APPLICATION = ROOT / "benchmarks" / "deploys" / "rooms.py"
_VERSION = re.compile(r'__version__ = "(.+)"')


class MissingError(Exception):
    """What `scripts/install` says is not to be had here."""


@dataclass(frozen=True, slots=True)
class Release:
    """A directory with the application, and an environment with Lastcall."""

    path: Path
    python: str
    version: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.version} on Python {self.python}"


@dataclass(frozen=True, slots=True)
class Releases:
    """An old and a new one. Use `build_releases`."""

    old: Release
    new: Release
    current: Path
    """The link by which the server was started."""

    def deploy(self, release: Release) -> None:
        """Let the link lead to *release*, in one step."""
        beside = self.current.with_suffix(".next")
        beside.symlink_to(release.path)
        beside.rename(self.current)

    @property
    def program(self) -> Path:
        """`lastcall`, of the release that the link leads to by then."""
        return self.current / ".venv" / "bin" / "lastcall"

    @property
    def command(self) -> list[str]:
        """What starts the server at `current`; the application is still to follow."""
        clean = ["env", "-u", "PYTHONPATH", f"PWD={self.current}"]
        return [*clean, str(self.program), "serve", "--app-dir", str(self.current)]


def build_releases(directory: Path) -> Releases:
    """Make them in *directory*: the checkout's version on Python 3.12, and a later one on 3.13.

    Raises:
        MissingError: one of the two Pythons, or what belongs into its environment.
    """
    first, next_one = _installed("test", "3.12"), _installed("wheel", "3.13")
    found = _VERSION.search((ROOT / "lastcall" / "__init__.py").read_text())
    if found is None:
        raise ValueError("lastcall/__init__.py has no version")
    version, later = found[1], f"{found[1]}.post1"
    old = _build(directory / version, "3.12", version, first)
    new = _build(directory / later, "3.13", later, next_one)
    built = Releases(old, new, directory / "current")
    built.deploy(built.old)
    return built


def _installed(kind: str, python: str) -> Path:
    script = ROOT / "scripts" / "install"
    ended = subprocess.run([script, kind, python], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise MissingError(ended.stderr.strip().splitlines()[-1])
    return Path(ended.stdout.strip())


def _build(path: Path, python: str, version: str, dependencies: Path) -> Release:
    # At the same place in the release as here, so that it has the same name.
    application = path / APPLICATION.relative_to(ROOT)
    application.parent.mkdir(parents=True)
    shutil.copy(APPLICATION, application)
    venv, tool = path / ".venv", dependencies / "bin" / "python"
    _run(tool, "-m", "venv", "--without-pip", venv)
    packages = Path("lib", f"python{python}", "site-packages")
    (venv / packages / "dependencies.pth").write_text(f"{dependencies / packages}\n")
    wheels = path / "wheel"
    _run(tool, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", wheels, _source(path, version))
    (wheel,) = wheels.glob("*.whl")
    # Not instead of one that is among the dependencies: before it.
    pip = ("-m", "pip", "--python", venv / "bin" / "python", "install", "-qq")
    _run(tool, *pip, "--no-deps", "--no-index", "--ignore-installed", wheel)
    return Release(path, python, version)


def _source(path: Path, version: str) -> Path:
    copy = path / "source"
    copy.mkdir()
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name)
        else:
            shutil.copy(ROOT / name, copy)
    module = copy / "lastcall" / "__init__.py"
    module.write_text(_VERSION.sub(f'__version__ = "{version}"', module.read_text()))
    return copy


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
