"""A SavedModel comes back in a process that has none of its code: it predicts, evaluates and trains on, bit for bit."""

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from .revival_models import CASES
from .revival_worker import EXPECTED, RECEIVED

# Every process of the test run shares what one of them made.
_TESTS = Path(__file__).parents[1]

every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs both processes side by side: the second takes each case as soon as the first has made it."""
    root = (
        tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.mktemp("all")
    )
    made = root / "revival"
    with FileLock(root / "revival.lock"):
        if not made.exists():
            made.mkdir()
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(_TESTS), str(_TESTS.parent), os.environ["PYTHONPATH"]]),
            }
            commands = [
                [sys.executable, "-m", f"saving.{module}", str(made), *CASES]
                for module in ("revival_models", "revival_worker")
            ]
            processes = [
                subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands
            ]
            errors = [process.communicate(timeout=1500)[1] for process in reversed(processes)]
            (made / "errors.txt").write_text("\n".join(errors))
    return made


@pytest.fixture
def expected(folder: Path, name: str) -> dict[str, Any]:
    return _read(folder / name / EXPECTED, folder)


@pytest.fixture
def received(folder: Path, name: str, expected: dict[str, Any]) -> dict[str, Any]:
    return _read(folder / name / RECEIVED, folder)


def _read(path: Path, folder: Path) -> dict[str, Any]:
    if not path.exists():
        pytest.fail(f"{path} was not written:\n{(folder / 'errors.txt').read_text()[-3000:]}")
    outcome: dict[str, Any] = pickle.loads(path.read_bytes())
    if "error" in outcome:
        pytest.fail(outcome["error"])
    return outcome


def compare(expected: Any, received: Any, place: str = "") -> list[str]:
    """Names the places in which two nested structures differ; arrays are compared bit for bit."""
    if isinstance(expected, Mapping) and isinstance(received, Mapping):
        found = [f"{place}/{key} is missing" for key in expected if key not in received]
        found += [f"{place}/{key} is new" for key in received if key not in expected]
        for key in expected:
            if key in received:
                found += compare(expected[key], received[key], f"{place}/{key}")
        return found
    if isinstance(expected, np.ndarray) and isinstance(received, np.ndarray):
        if (expected.dtype, expected.shape) != (received.dtype, received.shape):
            return [f"{place} was {expected.dtype}{expected.shape} and is {received.dtype}{received.shape}"]
        return [] if expected.tobytes() == received.tobytes() else [f"{place} differs"]
    return [] if expected == received else [f"{place} was {expected!r} and is {received!r}"]


def _without_optimizer(outcome: dict[str, Any]) -> dict[str, Any]:
    state = {path: value for path, value in outcome["state"].items() if not path.startswith("optimizer/")}
    return {**outcome, "state": state}


@every_case
def test_goes_on_as_if_never_interrupted(expected: dict[str, Any], received: dict[str, Any]) -> None:
    outcome = _without_optimizer(expected["outcome"]) if expected["lost"] else expected["outcome"]
    assert compare(outcome, received["first"]) == []
    if "history" in outcome:
        assert list(outcome["history"]) == list(received["first"]["history"])
        assert list(outcome["evaluation"]) == list(received["first"]["evaluation"])


@every_case
def test_goes_on_when_saved_again(expected: dict[str, Any], received: dict[str, Any]) -> None:
    outcome = _without_optimizer(expected["outcome"]) if expected["lost"] else expected["outcome"]
    thorough = ("evaluation", "evaluation in order")
    outcome = {key: value for key, value in outcome.items() if key not in thorough}
    outcome["predictions"] = {k: v for k, v in outcome["predictions"].items() if not k.startswith("predict/")}
    assert compare(outcome, received["second"]) == []


@every_case
def test_predicts_when_saved_again_without_optimizer(expected: dict[str, Any], received: dict[str, Any]) -> None:
    predictions = expected["outcome"]["predictions"]
    outcome = {key: value for key, value in predictions.items() if not key.startswith("predict/")}
    assert compare({"compiled": False, **outcome}, received["small"]) == []
    assert received["warnings small"] == []


@every_case
def test_says_what_cannot_be_rebuilt(name: str, received: dict[str, Any]) -> None:
    assert received["warnings"] == list(CASES[name].warned)
    # A model that was loaded without being compiled is saved as it is.
    assert received["warnings again"] == (list(CASES[name].warned) if received["compiled"] else [])


@every_case
def test_revives_only_what_is_missing(name: str, received: dict[str, Any]) -> None:
    case = CASES[name]
    layers = received["layers"]
    assert {layer: layers.get(layer) for layer, _ in case.real} == {k: (v, "keras") for k, v in case.real}
    assert {layer: layers.get(layer) for layer, _ in case.revived} == {k: (v, "revived") for k, v in case.revived}
    if case.classname is not None:
        assert received["class"] == case.classname


@every_case
def test_is_served_by_tensorflow(expected: dict[str, Any], received: dict[str, Any]) -> None:
    answers = [value for key, value in expected["outcome"]["predictions"].items() if key.startswith("call/")]
    served = sorted(value.tobytes() for value in received["served"].values())
    assert served == sorted(value.tobytes() for value in answers)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.recompiled])
def test_trains_with_a_new_loss(expected: dict[str, Any], received: dict[str, Any]) -> None:
    # Gradients through several functions may be added up in another order, so the last bit is free.
    outcome, recompiled = expected["recompilation"], received["recompiled"]
    assert outcome["continued"].keys() == recompiled["continued"].keys()
    np.testing.assert_allclose(recompiled["loss"], outcome["loss"], rtol=1e-6)
    for path, value in outcome["continued"].items():
        np.testing.assert_allclose(recompiled["continued"][path], value, rtol=1e-5, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.recompiled])
def test_takes_other_data_if_its_loss_is_known(name: str, received: dict[str, Any]) -> None:
    text = (
        "The saved train_step takes tensors of the shapes (None, 4), (None, 2), like the data that the model was "
        "trained with. Received: (4, 4), (4, 2), (4,). Give data of the same structure, or compile the model anew."
    )
    assert received["weighted"] == (text if CASES[name].warned else "")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.code])
def test_takes_the_code_that_is_at_hand(name: str, expected: dict[str, Any]) -> None:
    found = expected["with code"]
    assert found["warnings"] == []
    wanted = {
        "layer_in_sequential": ["Scale"],
        "model_with_dict_output": ["Scorer", "Scale"],
        "layer_that_was_adapted_and_quantized": ["Folded"],
        "model_that_was_adapted_and_quantized": ["Folding", "Folded"],
        "loss_class_and_layer": [],  # the loss has its code, the layer has not
    }
    assert found["real"] == wanted[name]
    assert compare(expected["outcome"]["continued"], found["outcome"]["continued"]) == []
    assert compare(expected["outcome"]["history"], found["outcome"]["history"]) == []


def test_the_process_has_none_of_the_code(folder: Path) -> None:
    assert (folder / "modules.txt").read_text() == ""


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.recompiled and case.revived])
def test_layers_can_be_frozen(received: dict[str, Any]) -> None:
    assert received["freezing"] == {"frozen": True, "others": False}


@pytest.mark.parametrize("name", ["model_with_dict_output"])
def test_summary_shows_the_layers_inside(received: dict[str, Any]) -> None:
    lines = received["summary"].splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:4:2]] for line in lines if line.startswith("│")]
    assert rows == [
        ["hidden (Dense)", "15"],
        ["norm (BatchNormalization)", "12"],
        ["drop (Dropout)", "0"],
        ["score (Dense)", "8"],
        ["feature (Scale)", "4"],
    ]
    assert [line.strip() for line in lines if "arams:" in line] == [
        "Total params: 105 (424.00 B)",
        "Trainable params: 32 (128.00 B)",
        "Non-trainable params: 7 (28.00 B)",
        "Optimizer params: 66 (268.00 B)",
    ]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("model_with_dict_input", ["right", "left"]), ("model_with_list_input", ["inputs_0", "inputs_1"])],
    ids=["dict", "list"],
)
def test_knows_its_inputs(received: dict[str, Any], inputs: list[str]) -> None:
    assert received["inputs"] == inputs
