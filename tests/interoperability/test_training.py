"""Training goes on bit for bit in a runtime that has the artifact alone, as if `fit` had never been interrupted."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from .cases import Array
from .conftest import Run, make_once
from .training_ways import WAYS

# What TensorFlow appends to the name of a variable in a checkpoint.
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
pytestmark = pytest.mark.xdist_group("interoperability-training")


@pytest.fixture(scope="session")
def trained(run_module: Run, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder with the trained model, and with what `fit` makes of it."""
    return make_once("training", run_module, tmp_path_factory, worker_id)


@pytest.fixture(scope="session", params=["c", "tensorflow"])
def runtime(trained: Path, run_module: Run, request: pytest.FixtureRequest) -> str:
    """The name of a runtime that has gone on."""
    name: str = request.param
    # Neither a warning, nor the name of a package that it is to do without.
    assert run_module("training_worker", name, trained) == "\n"
    return name


def read_state(trained: Path, way: str, runtime: str) -> dict[str, Array]:
    if runtime == "tensorflow":
        with np.load(trained / way / f"{runtime}.npz") as arrays:
            return dict(arrays)
    reader = tf.train.load_checkpoint(str(trained / way / runtime))
    return {key.removesuffix(SUFFIX): reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}


@pytest.mark.parametrize("way", WAYS)
def test_every_variable_is_what_fit_makes_of_it(way: str, trained: Path, runtime: str) -> None:
    with np.load(trained / way / "expected.npz") as arrays:
        expected = {key.removeprefix("state/"): arrays[key] for key in arrays if key.startswith("state/")}
    received = read_state(trained, way, runtime)
    # The checkpoint has the variables of the metrics too.
    assert set(expected) <= set(received)
    different = [path for path, value in expected.items() if value.tobytes() != received[path].tobytes()]
    assert different == []


@pytest.mark.parametrize("way", WAYS)
def test_the_endpoints_say_what_fit_and_evaluate_say(way: str, trained: Path, runtime: str) -> None:
    with np.load(trained / way / "expected.npz") as arrays:
        expected = {key: float(arrays[key]) for key in arrays if key.startswith(("train/", "evaluate/"))}
    assert sorted(expected) == ["evaluate/accuracy", "evaluate/loss", "train/accuracy", "train/loss"]
    assert json.loads((trained / way / f"{runtime}.json").read_text()) == expected


@pytest.mark.parametrize("way", WAYS)
def test_it_predicts_what_the_trained_model_predicts(way: str, trained: Path, runtime: str) -> None:
    with np.load(trained / way / "expected.npz") as arrays:
        np.testing.assert_array_equal(np.load(trained / way / f"{runtime}.npy"), arrays["predictions"])


@pytest.mark.parametrize("way", WAYS)
def test_the_training_changes_the_model(way: str, trained: Path, runtime: str) -> None:
    before = tf.train.load_checkpoint(str(trained / way / "model" / "variables" / "variables"))
    after = {path: value for path, value in read_state(trained, way, runtime).items() if "captured" not in path}
    same = [path for path, value in after.items() if np.array_equal(value, before.get_tensor(path + SUFFIX))]
    assert same == ["optimizer/vars/1"]  # the learning rate
