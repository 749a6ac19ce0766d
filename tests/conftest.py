"""What the tests share: the installed command in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that is busy is no fault of what is tested.
settings.register_profile("exporter", deadline=None)
settings.load_profile("exporter")

# TensorFlow reads these when a test imports it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

_BLOCKER = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "h5py"):
            raise RuntimeError(f"{name} was imported")


sys.meta_path.insert(0, Blocker())
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def blocked_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which warnings are errors, and importing TensorFlow, Keras or h5py is one too."""
    folder = tmp_path_factory.mktemp("blocker")
    (folder / "sitecustomize.py").write_text(_BLOCKER)
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONWARNINGS": "error"}


@pytest.fixture
def command(blocked_environment: dict[str, str], tmp_path: Path) -> Command:
    """Runs `exporter` with the given arguments in `tmp_path`; it cannot import TensorFlow, Keras or h5py."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "exporter", *arguments],
            cwd=tmp_path,
            env={**blocked_environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run
