"""What the tests of sweeps share: a tiny model whose build can go wrong, and the command in its directory."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# A job that dies kills the process that exports it, as the system does when memory runs out; a width of 777 kills the
# one that a launcher has started. A file mends both.
MODELS = """
import os
import pathlib
import signal

import keras


def build(kind: str = "fine", width: int = 4) -> keras.Model:
    if kind == "fails":
        raise ValueError("this model cannot be built\\nthe second line")
    if (kind == "dies" or width == 666) and not pathlib.Path("mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if width == 777 and not pathlib.Path("mended").exists():
        os.kill(os.getppid(), signal.SIGKILL)
    print("building", kind)
    pathlib.Path("built").open("a").write(kind + "\\n")
    inputs = keras.Input((4,), name="features")
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(width, activation="tanh")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="scores")(hidden), name="tiny")
    model.compile("adam", "mean_squared_error")
    return model
"""
TINY = ("model=custom", "model._target_=tiny_models.build", "measure.runs=5", "measure.warm_up=1")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs `exporter` with the given arguments in a directory, where it finds the tiny model."""

    def run_command(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (directory / "tiny_models.py").write_text(MODELS)
        return subprocess.run(
            [sys.executable, "-m", "exporter", *arguments],
            cwd=directory,
            env={**os.environ, "COLUMNS": "160", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )

    return run_command


def find_program(name: str, package: str) -> str:
    """Finds a program of the system's; a test that needs one is only skipped where nobody promised that it is there."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None and not os.environ.get("CI"):
        pytest.skip(f"needs {name}: apt-get install {package}")
    assert path is not None, f"{name} is missing: apt-get install {package}"
    return path


def read_table(directory: Path) -> dict[str, Any]:
    """Reads `sweep.json` of the newest sweep that was started in a directory."""
    newest = max(directory.glob(".exporter/sweeps/*/*/sweep.json"))
    table: dict[str, Any] = json.loads(newest.read_text(encoding="utf-8"))
    return table
