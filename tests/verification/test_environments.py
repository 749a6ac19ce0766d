"""An artifact is proven in other environments, by what is installed there: real releases of other years."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Status
from exporter.errors import ProofError, UsageError
from exporter.saving.contents import OmissionKind
from exporter.saving.formats import FORMATS
from exporter.verification.environments.interpreters import find_environment
from exporter.verification.environments.visiting import Question, visit

from .environments import add_code, make_environment

pytestmark = pytest.mark.xdist_group("environments")

SCALE = """
import keras


@keras.saving.register_keras_serializable("scales")
class Scale(keras.layers.Layer):
    def call(self, inputs):
        return inputs * {factor}
"""


@pytest.fixture(scope="module")
def kept(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.cache.mkdir("environments")


@pytest.fixture(scope="module")
def older(kept: Path) -> Path:
    return make_environment(kept, "older")


@pytest.fixture(scope="module")
def newer(kept: Path) -> Path:
    return make_environment(kept, "newer")


@pytest.fixture(scope="module")
def model() -> Any:
    """Trained, with normalization and dropout, and inputs that it takes by name."""
    keras.utils.set_random_seed(5)
    inputs = {"image": keras.Input((8, 8, 1), name="image"), "flag": keras.Input((2,), dtype="int32", name="flag")}
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, activation="gelu")(inputs["image"]))
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    x = keras.layers.Concatenate()([x, keras.layers.Embedding(4, 3)(inputs["flag"])[:, 0]])
    made = keras.Model(inputs, {"class": keras.layers.Dense(3, activation="softmax", name="class")(x)})
    made.compile("adam", {"class": "sparse_categorical_crossentropy"})
    data = {"image": np.ones((8, 8, 8, 1), "float32"), "flag": np.ones((8, 2), "int32")}
    made.fit(data, {"class": np.arange(8) % 3}, verbose=0)
    return made


def list_checks(receipt: Receipt, environment: Path) -> dict[str, str]:
    """Gives the figures of an environment's checks, without its path."""
    return {
        check.name.replace(str(environment), "it"): check.figure
        for check in receipt.checks
        if str(environment) in check.name
    }


def test_a_saved_model_is_proven_by_tensorflow_alone_and_by_stock_keras(
    model: keras.Model, older: Path, newer: Path, tmp_path: Path
) -> None:
    receipt = exporter.export(model, tmp_path / "made", verify={"environments": [str(older), str(newer)]})

    assert receipt.status is Status.PROVEN
    for environment in (older, newer):
        found = list_checks(receipt, environment)
        assert list(found) == [
            "load in it with stock Keras",
            "weights in it with stock Keras",
            "optimizer in it with stock Keras",
            "predictions in it with stock Keras",
            "load in it",
            "outputs of serving_default in it",
        ]
        assert found["weights in it with stock Keras"] == f"{len(model.weights)} bit-equal"
        assert found["optimizer in it with stock Keras"] == f"{len(model.optimizer.variables)} bit-equal"
        assert found["outputs of serving_default in it"].endswith(" x rounding")
    versions = [check.detail for check in receipt.checks if check.name.startswith("load in ")]
    python = ".".join(map(str, sys.version_info[:3]))
    assert versions == [
        f"keras 3.5.0, tensorflow 2.16.2, Python {python}",
        f"tensorflow 2.16.2, Python {python}",
        f"keras 3.9.2, tensorflow 2.19.1, Python {python}",
        f"tensorflow 2.19.1, Python {python}",
    ]
    # Where it is proven shapes no byte, and no other machine is asked for these directories.
    assert b"environments" not in b"".join(file.read_bytes() for file in (tmp_path / "made").glob("exporter*"))
    again = exporter.export(model, tmp_path / "made")
    assert [file.sha256 for file in receipt.files] == [file.sha256 for file in again.files]


@pytest.mark.parametrize("save_format", ["h5", "keras"])
def test_a_file_is_proven_by_stock_keras(save_format: str, model: keras.Model, older: Path, tmp_path: Path) -> None:
    path = tmp_path / f"made.{save_format}"
    receipt = exporter.export(model, path, verify={"environments": [str(older)]})

    found = list_checks(receipt, older)
    assert found["weights in it"] == f"{len(model.weights)} bit-equal"
    assert found["predictions in it"].endswith(" x rounding")
    lost = [each for each in receipt.left_out if each.kind is OmissionKind.ELSEWHERE]
    # Stock Keras restores no optimizer of a Functional model from HDF5, whatever its release is.
    assert [each.what for each in lost] == ([f"optimizer in {older}"] if save_format == "h5" else [])
    assert ("optimizer in it" in found) is (save_format == "keras")


@pytest.mark.parametrize("save_format", ["litert", "onnx", "openvino"])
def test_a_converted_file_is_proven_by_its_runtime_there(
    save_format: str, model: keras.Model, newer: Path, tmp_path: Path
) -> None:
    verify = {"environments": [str(newer)]}
    receipt = exporter.export(model, tmp_path / "made", save_format=save_format, verify=verify)

    found = list_checks(receipt, newer)
    assert list(found) == ["load in it", "outputs of serving_default in it"]
    [versions] = [check.detail for check in receipt.checks if check.name == f"load in {newer}"]
    runtime = {"litert": "tensorflow 2.19.1", "onnx": "onnxruntime 1.20.1", "openvino": "openvino 2025.0.0"}
    assert versions.startswith(runtime[save_format])


@pytest.mark.parametrize("save_format", ["tf", "onnx"])
def test_verify_asks_an_environment_what_an_artifact_is(
    save_format: str, model: keras.Model, newer: Path, tmp_path: Path
) -> None:
    receipt = exporter.export(model, tmp_path / "made", save_format=save_format)
    command = [sys.executable, "-m", "exporter", "verify", receipt.filepath, "--in", str(newer), "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"] if str(newer) in each["name"]}
    assert all(each["passed"] for each in checks.values())
    assert checks[f"outputs of serving_default in {newer}"]["figure"].endswith(" x rounding")


def test_own_code_that_computes_otherwise_there_is_found(
    newer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scales.py").write_text(SCALE.format(factor=2))
    monkeypatch.syspath_prepend(tmp_path)
    import scales  # type: ignore[import-not-found]

    model = keras.Sequential([keras.Input((3,)), scales.Scale(name="scale")])
    same = add_code(newer, tmp_path / "same", {"scales": SCALE.format(factor=2)})
    other = add_code(newer, tmp_path / "other", {"scales": SCALE.format(factor=3)})
    asked = [str(each) for each in (same, other, newer)]

    with pytest.raises(ProofError) as caught:
        exporter.export(model, tmp_path / "made.keras", verify={"environments": asked})

    first, *lines = str(caught.value).splitlines()
    assert first == (
        "The artifact is the same model here, and not in every environment of `verify.environments`: 2 of 7 checks "
        "failed, and nothing was published."
    )
    assert lines[0].startswith(f"  predictions in {other}: ")
    assert "x rounding; at most 8 x rounding is allowed; largest difference" in lines[0]
    assert lines[1].startswith(f"  load in {newer}: cannot be opened; ")
    assert lines[1].endswith("; it lacks the model's own code: scales")
    assert lines[2:] == [
        "Install there what is lacking, set `compatibility` to the release of Keras that it has, or take it out of "
        "`verify.environments`."
    ]
    assert not (tmp_path / "made.keras").exists()
    exporter.export(model, tmp_path / "made.keras", verify={"environments": asked[:1]})


def test_what_an_older_keras_lacks_is_found_by_trying(older: Path, newer: Path, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.RMSNormalization()])
    with pytest.raises(ProofError) as caught:
        exporter.export(model, tmp_path / "made.keras", verify={"environments": [str(older)]})
    assert f"  load in {older}: cannot be opened; TypeError: Could not locate class 'RMSNormalization'" in str(
        caught.value
    )
    exporter.export(model, tmp_path / "made.keras", verify={"environments": [str(newer)]})


def test_the_oldest_tensorflow_that_is_named_is_the_oldest(newer: Path, model: keras.Model, tmp_path: Path) -> None:
    receipt = exporter.export(model, tmp_path / "made")
    assert (receipt.oldest_keras, receipt.oldest_tensorflow) == ("3.5.0", "2.8")
    assert inspect_artifact(tmp_path / "made").oldest_tensorflow == "2.8"

    class Pictures(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="picture")])
        def decode(self, picture: Any) -> Any:
            return {"pixels": tf.raw_ops.DecodeWebP(contents=picture, channels=3)}

    module = Pictures()
    tf.saved_model.save(module, str(tmp_path / "pictures"), signatures={"serving_default": module.decode})
    assert inspect_artifact(tmp_path / "pictures").oldest_tensorflow == "2.20"
    question = Question(endpoint="serving_default", names=["picture"], batches=[[np.array(b"")]])
    came = visit(find_environment(str(newer), FORMATS["tf"]), "tensorflow", tmp_path / "pictures", [question])
    assert not came.opened
    assert "DecodeWebP" in came.error


def test_what_has_another_answer_each_time_is_left_out(newer: Path, tmp_path: Path) -> None:
    class Noise(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs + tf.random.normal((1,))

    model = keras.Sequential([keras.Input((3,)), Noise(name="noise")])
    receipt = exporter.export(model, tmp_path / "made", verify={"environments": [str(newer)]})
    [why] = [each.why for each in receipt.left_out if each.what.endswith("serving_default in other environments")]
    assert why == "the model's own noise is another one each time, which leaves nothing to compare with"


def test_what_is_no_environment_is_said_before_anything_starts(newer: Path, tmp_path: Path) -> None:
    empty, broken, bare = (tmp_path / name for name in ("empty", "broken", "a bare one"))
    empty.mkdir()
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "python").write_text("#!/bin/sh\necho it is out of order >&2\nexit 3\n")
    (broken / "bin" / "python").chmod(0o755)
    subprocess.run([sys.executable, "-m", "venv", bare], check=True)
    asked = [str(each) for each in (tmp_path / "no where", empty, broken, bare)]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    with pytest.raises(UsageError) as caught:
        exporter.export(model, tmp_path / "made.onnx", verify={"environments": asked})

    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        (
            "verify.environments[0]",
            f"'{asked[0]}' is no directory; expected that of an environment, such as "
            f"`python -m venv '{asked[0]}'` makes",
        ),
        (
            "verify.environments[1]",
            f"'{asked[1]}' has no bin/python; expected the directory of an environment, such as `python -m venv` makes",
        ),
        ("verify.environments[2]", f"the Python of '{asked[2]}' does not run: it is out of order"),
        (
            "verify.environments[3]",
            f"'{asked[3]}' has no onnxruntime, which opens save_format='onnx'; "
            f"install it there: '{asked[3]}/bin/python' -m pip install onnxruntime",
        ),
    ]
    remedy = caught.value.faults[3].message.partition("install it there: ")[2]
    subprocess.run(remedy, shell=True, check=True, capture_output=True)
    exporter.export(model, tmp_path / "made.onnx", verify={"environments": asked[3:]})


def test_without_a_proof_there_is_nothing_to_compare(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(UsageError) as caught:
        exporter.export(model, tmp_path / "made.h5", verify={"mode": "none", "environments": ["env"]})
    assert [fault.message for fault in caught.value.faults] == [
        "received env, and verify='none' compares nothing; set verify='full'"
    ]
