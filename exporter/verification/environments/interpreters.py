"""The Python of another environment: where it is, and whether it can open an artifact."""

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import ArgumentError
from exporter.saving.formats.format import Format
from exporter.text.printable import escape
from exporter.text.showing import find_first_line
from exporter.verification.environments.visitor import OPENED_BY

# Where a virtual environment and conda have it, on POSIX systems and on Windows.
_PLACES = ("bin/python", "Scripts/python.exe", "python.exe")
_PROBE = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name) is not None]))
"""
_SECONDS = 60  # to start Python and look at a few folders, on a slow disk


@dataclass(frozen=True, slots=True)
class Environment:
    """Another environment.

    Attributes:
        shown: Its directory as it was given.
        python: The Python in it.
        readers: With what an artifact is opened there; see `visitor.OPENED_BY`.
    """

    shown: str
    python: Path
    readers: tuple[str, ...]


def find_environment(directory: str, save_format: Format) -> Environment:
    """Finds the Python of an environment, and asks it what is installed. Nothing is imported there.

    Args:
        directory: Of a virtual environment, or one of conda; `~` stands for the home directory.
        save_format: Of the artifact that it shall open.

    Returns:
        The environment.

    Raises:
        ArgumentError: There is none, or it cannot open the format; with the remedy.
    """
    root = Path(directory).expanduser()
    shown = escape(directory)
    if not root.is_dir():
        raise ArgumentError(
            f"{shown!r} is no directory; expected that of an environment, such as "
            f"`python -m venv {shlex.quote(shown)}` makes"
        )
    python = next((root / place for place in _PLACES if (root / place).exists()), None)
    if python is None:
        raise ArgumentError(
            f"{shown!r} has no {_PLACES[0]}; expected the directory of an environment, such as `python -m venv` makes"
        )
    python = python.absolute()  # its links are what makes it a Python of this environment
    openers = dict.fromkeys((*sorted(save_format.readers), save_format.name))
    wanted = [reader for reader in openers if reader in OPENED_BY]
    if not wanted:
        raise ArgumentError(
            f"nothing but exporter opens save_format={save_format.name}, so there is nothing to ask there"
        )
    packages = sorted({package for reader in wanted for package in OPENED_BY[reader]})
    installed = _ask(python, packages, shown)
    readers = tuple(reader for reader in wanted if any(package in installed for package in OPENED_BY[reader]))
    if not readers:
        missing = OPENED_BY[wanted[0]][0].replace("_", "-")
        raise ArgumentError(
            f"{shown!r} has no {missing}, which opens save_format={save_format.name}; "
            f"install it there: {escape(shlex.quote(str(python)))} -m pip install {missing}"
        )
    return Environment(shown, python, readers)


def clean_variables() -> dict[str, str]:
    """Returns the environment variables for another Python: without what leads it to packages of this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_FORCE_GPU_ALLOW_GROWTH": "true", "KERAS_BACKEND": "tensorflow"}
    return {**kept, **quiet}


def _ask(python: Path, packages: list[str], shown: str) -> list[str]:
    command = [str(python), "-s", "-c", _PROBE, *packages]
    try:
        done = subprocess.run(
            command, env=clean_variables(), capture_output=True, text=True, timeout=_SECONDS, check=True, cwd="/"
        )
        found: list[str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None)
        why = said.strip().splitlines()[-1] if isinstance(said, str) and said.strip() else find_first_line(error)
        raise ArgumentError(f"the Python of {shown!r} does not run: {escape(why)}") from error
    return found
