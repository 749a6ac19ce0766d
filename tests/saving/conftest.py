"""The processes of the resume tests: each runs once, whatever number of tests asks for it."""

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
    from .resume_worker import Report

# Its assertions are told like those of a module of tests.
pytest.register_assert_rewrite("saving.format_tests")

# As many processes at a time as there are cores; each takes every second case.
_SHARDS = 2
_TESTS = Path(__file__).parent.parent
_SECONDS = 1500

ReadReport = Callable[..., "Report"]


def _find_cases(session: pytest.Session) -> list[str]:
    """Returns the cases that the selected tests are about: those tests that need the folder `made`."""
    items = [item for item in session.items if isinstance(item, pytest.Function) and "made" in item.fixturenames]
    found = [getattr(item, "callspec", None) for item in items]
    return list(dict.fromkeys(str(spec.params["identity"]) for spec in found if spec and "identity" in spec.params))


def _run(role: str, folder: Path, request: pytest.FixtureRequest, worker_id: str) -> None:
    """Lets fresh processes run the cases in one role, unless another pytest worker does or did."""
    cases = _find_cases(request.session)
    first = int(worker_id.removeprefix("gw")) if worker_id != "master" else 0
    for number in ((first + step) % _SHARDS for step in range(_SHARDS)):
        with FileLock(folder / f"{role}-{number}.lock"):
            _run_shard(role, folder, [case for case in cases[number::_SHARDS] if not _is_done(folder, role, case)])


def _is_done(folder: Path, role: str, case: str) -> bool:
    return (folder / case / f"{role}.done").exists()


def _run_shard(role: str, folder: Path, cases: list[str]) -> None:
    code = "from saving.resume_worker import main; main()"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_TESTS), *sys.path]),
        # A process on a GPU adds up in another order than one without.
        "CUDA_VISIBLE_DEVICES": "",
    }
    while cases:
        command = [sys.executable, "-c", code, role, str(folder), *cases]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
            end = f"ended with exit code {done.returncode}: {done.stderr[-2000:]}"
        except subprocess.TimeoutExpired:
            end = f"was still running after {_SECONDS} s"
        cases = [case for case in cases if not _is_done(folder, role, case)]
        if cases:  # the case at which the process ended is done with; the others go on without it
            (folder / cases[0]).mkdir(exist_ok=True)
            (folder / cases[0] / f"{role}.done").write_text(f"The process {end}")
            cases = cases[1:]


@pytest.fixture(scope="session")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder in which one process built, trained, saved and went on with every selected case."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "zoo"
    folder.mkdir(exist_ok=True)
    _run("make", folder, request, worker_id)
    return folder


@pytest.fixture(scope="session")
def resumed(made: Path, request: pytest.FixtureRequest, worker_id: str) -> Path:
    """The same folder, after another process loaded every artifact with our reader and went on with it."""
    _run("resume", made, request, worker_id)
    return made


@pytest.fixture(scope="session")
def resumed_with_stock(made: Path, request: pytest.FixtureRequest, worker_id: str) -> Path:
    """The same folder, after another process loaded every artifact with Keras's reader and went on with it."""
    _run("stock", made, request, worker_id)
    return made


@pytest.fixture
def read_report() -> ReadReport:
    """Reads what happened in one case, in one role, and in one format; a failure there fails the test."""

    def read(folder: Path, identity: str, role: str, save_format: str = "") -> "Report":
        place = folder / identity
        path = place / f"{role}-{save_format}.pickle" if save_format else place / f"{role}.pickle"
        if not path.exists():
            pytest.fail(f"{path.name} was not written. {(place / f'{role}.done').read_text()}")
        report: Report = pickle.loads(path.read_bytes())
        if report.error:
            pytest.fail(report.error)
        return report

    return read
