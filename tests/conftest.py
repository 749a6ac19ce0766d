"""What the tests share: the installed command in a process of its own."""

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from exporter.text import hiding

# What is imported stays, so nothing is collected until all of it is there; `pytest_collection_finish` goes on.
gc.disable()

# A machine that is busy is no fault of what is tested.
settings.register_profile("exporter", deadline=None)
settings.load_profile("exporter")

# For this process and for those that tests start; see there.
_HIDDEN = str(Path(__file__).parent / "hidden")
sys.path.insert(0, _HIDDEN)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_HIDDEN, os.environ.get("PYTHONPATH"))))

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

# Far longer than any test takes, on the slowest machine.
_SECONDS = 1800

Command = Callable[..., subprocess.CompletedProcess[str]]


_TESTS = Path(__file__).parent
# What the tests of the system tier have in their path.
_SYSTEM = re.compile(
    r"(interoperability|peers|benchmarks|accelerator)/|test_(launchers|survival|end_to_end|packaging|readme|readme_stores|"
    r"google_store|stores|remote_layouts|results_store|report|runtimes)\.py"
)


def pytest_configure(config: pytest.Config) -> None:
    """Sets the options of plugins, where they are installed: the tests below `unit` need none."""
    if hasattr(config.option, "loadscopereorder"):  # the workers of pytest-xdist take the tests in the order of below
        config.option.loadscopereorder = False
    if getattr(config.option, "timeout", 0) is None:  # of pytest-timeout: what waits for ever fails, and is named
        config.option.timeout = _SECONDS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test the mark of its tier, and lets what fails in seconds fail first."""
    for item in items:
        item.add_marker(_find_tier(item))
    items.sort(key=_find_place)


def _find_tier(item: pytest.Item) -> str:
    path = item.path.relative_to(_TESTS).as_posix()
    return "unit" if path.startswith("unit/") else "system" if _SYSTEM.search(path) else "integration"


def _find_place(item: pytest.Item) -> int:
    """Unit tests are the first. Groups follow: one that took its minutes last would leave the other workers idle."""
    if item.get_closest_marker("unit"):
        return 0
    if item.get_closest_marker("xdist_group"):
        return 1
    return 2 if item.get_closest_marker("integration") else 3


def pytest_collection_finish() -> None:
    """Collects garbage from now on, less often than Python does: TensorFlow traces a graph in many small objects."""
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


@pytest.fixture(autouse=True)
def nothing_hidden() -> None:
    """What one test took from the environment is hidden in its texts, and not in those of the next test."""
    hiding._hidden.clear()


@pytest.fixture(scope="session")
def blocked_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which warnings are errors, and importing TensorFlow, Keras or h5py is one too."""
    folder = tmp_path_factory.mktemp("blocker") / "site-packages"  # what is raised there is no fault of a user's
    folder.mkdir()
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
            timeout=1500,
        )

    return run
