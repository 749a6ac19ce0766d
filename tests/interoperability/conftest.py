"""The processes of the consumers: each runs once, when the first test asks for it."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from .worker import Report

_TESTS = Path(__file__).parents[1]
_SECONDS = 1500

Run = Callable[..., str]
ReadReport = Callable[[str], "Report"]


@pytest.fixture(scope="session")
def run_module(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a module of this folder in a process of its own and returns what it printed."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(module: str, *arguments: object) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_TESTS), *sys.path]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # A process on a GPU adds up in another order than one without.
            "CUDA_VISIBLE_DEVICES": "",
            # Elsewhere OpenVINO starts processes which tell its makers that it is used.
            "CI": "true",
        }
        command = [sys.executable, "-m", f"interoperability.{module}", *map(str, arguments)]
        done = subprocess.run(
            command, env=environment, cwd=elsewhere, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def make_once(name: str, run_module: Run, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Lets a module write a folder that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / f"interoperability-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(f".{worker_id}")
            unfinished.mkdir()
            run_module(name, unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def artifacts(run_module: Run, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder with all artifacts, and what their models compute."""
    return make_once("makers", run_module, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def read_report(artifacts: Path, run_module: Run) -> ReadReport:
    """Lets a consumer open all artifacts, if it did not yet, and returns what came of it."""

    def read(consumer: str) -> "Report":
        place = artifacts / f"{consumer}.pickle"
        if not place.exists():
            run_module("worker", consumer, artifacts)
        report: Report = pickle.loads(place.read_bytes())
        return report

    return read
