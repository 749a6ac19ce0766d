"""What one more source, config key and command take: a module and a line each; see CONTRIBUTING for the rest."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import exporter
from exporter.config.directories import CONFIG_DIRECTORY, RECIPES_DIRECTORY

PACKAGE = Path(exporter.__file__).parent

SOURCE = '''
"""A model of dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.sources._registry import source

if TYPE_CHECKING:
    import keras


@source("scale")
def stack(depth: int = 2, scale: str = "") -> keras.Model:
    """Build a stack of dense layers."""
    import keras

    return keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(3) for _ in range(depth))])
'''
SOURCE_YAML = "# Dense layers, one above the other.\n_target_: exporter.sources.stack\ndepth: 2\n"
COMMAND = '''
"""Counts the bytes of a file."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the file")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    print(f"{Path(arguments.path).stat().st_size} bytes")
    return 0
'''

Run = Callable[..., subprocess.CompletedProcess[str]]


def add_line(file: Path, after: str, line: str) -> None:
    """Adds one line to a file, behind one that stands there once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(after) == 1
    file.write_text(text.replace(after, after + line), encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a copy of the package with one more of each; TensorFlow is not needed for what is asked here."""
    folder = tmp_path_factory.mktemp("one-more")
    package = folder / "exporter"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CONFIG_DIRECTORY, folder / "conf", dirs_exist_ok=True)
    shutil.copytree(RECIPES_DIRECTORY, folder / "recipes", dirs_exist_ok=True)

    (package / "sources" / "_stacks.py").write_text(SOURCE)
    sources_line = "from exporter.sources._stored import file as file\n"
    add_line(package / "sources" / "__init__.py", sources_line, "from exporter.sources._stacks import stack as stack\n")
    (folder / "conf" / "model" / "stack.yaml").write_text(SOURCE_YAML)

    (package / "cli" / "commands" / "counting.py").write_text(COMMAND)
    add_line(
        package / "cli" / "commands" / "__init__.py",
        '    "recipes": "recipes.listing",\n',
        '    "count": "counting",\n',
    )

    schema_line = (
        "    strict: bool = False  # true: what the format cannot hold is an error; false: it is listed as left out\n"
    )
    add_line(package / "config" / "schema.py", schema_line, '    owner: str = ""  # who is asked about it\n')
    config_line = (
        "strict: false            # true: what the format cannot hold is an error; false: it is listed as left out\n"
    )
    add_line(folder / "conf" / "config.yaml", config_line, 'owner: ""                # who is asked about it\n')

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_source_is_chosen_by_its_name_and_checked_before_the_run(run: Run) -> None:
    done = run("-m", "exporter", "model=stack", "model.depth=5", "--cfg", "job")
    assert (done.returncode, done.stderr) == (0, "")
    assert "_target_: exporter.sources.stack\n  depth: 5\n" in done.stdout
    assert "filepath: exports/stack\n" in run("-m", "exporter", "model=stack", "--cfg", "job", "--resolve").stdout

    done = run("-m", "exporter", "model=stack", "model.depth=deep")
    assert (done.returncode, "model.depth: received deep; expected an integer" in done.stderr) == (2, True)
    done = run("-m", "exporter", "model=stack", "+model.scale=/there/is/none")
    assert (done.returncode, "model.scale: " in done.stderr) == (2, True)
    assert "model=stack" in run("-m", "exporter", "help", "keys").stdout


def test_a_key_is_known_checked_and_described(run: Run) -> None:
    assert "owner: somebody\n" in run("-m", "exporter", "owner=somebody", "--cfg", "job").stdout
    done = run("-m", "exporter", "owner=[1]")
    assert (done.returncode, "owner: received [1]" in done.stderr) == (2, True)
    done = run("-m", "exporter", "ownr=somebody")
    assert "strict, owner, measure" in done.stderr
    assert "did you mean owner=somebody?" in done.stderr
    program = "from exporter.artifacts import json_schemas as s; print(s.build_recipe_schema()['properties']['owner'])"
    assert "who is asked about it" in run("-c", program).stdout


def test_a_command_is_found_and_described(run: Run) -> None:
    assert run("-m", "exporter", "count", "conf/model/stack.yaml").stdout == f"{len(SOURCE_YAML)} bytes\n"
    assert "Counts the bytes of a file." in run("-m", "exporter", "count", "--help").stdout
    assert re.search(r"exporter count +Counts the bytes of a file\.", run("-m", "exporter", "help", "commands").stdout)
