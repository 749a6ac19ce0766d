"""A model of a `tf.distribute.MirroredStrategy` is saved, comes back in a scope and outside of one, and trains on."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from .strategy_worker import CASES, EXPORTED, FORMATS, REVIVED

_TESTS = Path(__file__).parents[1]

every_format = pytest.mark.parametrize(
    ("name", "save_format"),
    [(name, save_format) for name in CASES for save_format in FORMATS[name]],
    ids=lambda value: value,
)

pytestmark = pytest.mark.xdist_group("strategies")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "strategies"
    with FileLock(f"{root}.lock"):
        if not root.exists():
            root.mkdir()
            for role in ("make", "resume", "revive"):
                _run(role, root)
    return root


def _run(role: str, folder: Path) -> None:
    code = "from saving.strategy_worker import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, role, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    (folder / f"{role}.txt").write_text(done.stderr[-3000:])


def _read(folder: Path, name: str, role: str) -> dict[str, Any]:
    path = folder / name / f"{role}.pickle"
    outcome = pickle.loads(path.read_bytes()) if path.exists() else (folder / f"{role}.txt").read_text()
    if isinstance(outcome, str):
        pytest.fail(outcome)
    read: dict[str, Any] = outcome
    return read


def _find_differences(expected: Any, received: Any) -> list[str]:
    if isinstance(expected, np.ndarray):
        return [] if expected.tobytes() == received.tobytes() else ["differs"]
    if isinstance(expected, dict) and isinstance(received, dict):
        lost = [f"{key}: only in one" for key in expected.keys() ^ received.keys()]
        both = [key for key in expected if key in received]
        return lost + [f"{key}: {each}" for key in both for each in _find_differences(expected[key], received[key])]
    return [] if expected == received else [f"{expected!r} was {received!r}"]


@every_format
def test_goes_on_in_a_scope_as_if_never_interrupted(folder: Path, name: str, save_format: str) -> None:
    made, resumed = _read(folder, name, "make"), _read(folder, name, "resume")[save_format]
    assert _find_differences(made["saved"], resumed["saved"]) == []
    assert _find_differences(made["continued"], resumed["continued"]) == []


@every_format
def test_comes_back_outside_of_a_scope(folder: Path, name: str, save_format: str) -> None:
    made, resumed = _read(folder, name, "make")["saved"], _read(folder, name, "resume")[save_format]["outside"]
    assert _find_differences(made["state"], resumed["state"]) == []
    assert _find_differences(made["called"], resumed["called"]) == []
    if name not in ("batch_statistics", "mixed_precision"):  # there each replica predicts with statistics of its own
        assert _find_differences(made["predicted"], resumed["predicted"]) == []


def test_replicas_keep_statistics_of_their_own(folder: Path) -> None:
    saved = _read(folder, "batch_statistics", "make")["saved"]
    own = {path: value for path, value in saved["replicas"].items() if path not in saved["state"]}
    assert list(own) == [
        f"replicas/{number}/layers/batch_normalization/vars/{index}" for index in (2, 3) for number in (0, 1)
    ]
    assert not np.array_equal(*(own[f"replicas/{number}/layers/batch_normalization/vars/2"] for number in (0, 1)))


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_not_changed(folder: Path, name: str) -> None:
    made = _read(folder, name, "make")
    assert _find_differences(made["saved"], made["untouched"]) == []


@pytest.mark.parametrize(
    ("name", "save_format"), [(name, each) for name, formats in EXPORTED.items() for each in formats]
)
def test_is_proven(folder: Path, name: str, save_format: str) -> None:
    assert _read(folder, name, "make")[save_format] == "proven"


@pytest.mark.parametrize("name", REVIVED)
def test_a_save_inside_of_the_scope_writes_the_same(folder: Path, name: str) -> None:
    _read(folder, name, "make")
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (folder / name / "model", folder / name / "within")
    ]
    assert _find_differences(*contents) == []


@pytest.mark.parametrize("name", REVIVED)
def test_goes_on_without_its_code_as_with_it(folder: Path, name: str) -> None:
    # Traced with distributed variables, a step would change the one variable of the artifact once for each replica.
    revived, resumed = _read(folder, name, "revive"), _read(folder, name, "resume")
    assert _find_differences(resumed["tf"]["outside"], revived["outside"]) == []
    assert _find_differences(resumed["continued outside"], revived["continued outside"]) == []


def test_a_saved_step_is_for_one_replica(folder: Path) -> None:
    revived = _read(folder, "own_step", "revive")
    assert revived["error"] == (
        "The saved train_step is for one replica, and this strategy has 2. Load the model outside of the strategy's "
        "scope, or with its code."
    )


def test_a_revived_layer_trains_in_a_scope(folder: Path) -> None:
    made, revived = _read(folder, "custom_layer", "make"), _read(folder, "custom_layer", "revive")
    assert _find_differences(made["continued"], revived["continued"]) == []
