"""The proof: what passes, what fails with which figure, and a process that dies."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from exporter._facts import find_differences
from exporter._fresh_process import FreshProcess
from exporter.config import VerifyConfig, VerifyMode
from exporter.errors import ExportError, ProofError, UsageError
from exporter.receipts import Check
from exporter.saving.api import plan_save
from exporter.verification import Proof, list_custom_objects, prepare_trial, prove, warm_up


def make_model() -> Any:
    """Has dropout and batch statistics, and was trained for one step."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,), name="features"),
            keras.layers.Dense(8, activation="gelu", name="hidden"),
            keras.layers.BatchNormalization(name="normalization"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.layers.Dense(2, name="scores"),
        ],
        name="small",
    )
    model.compile("adam", "mean_squared_error")
    model.fit(np.ones((8, 4), np.float32), np.zeros((8, 2), np.float32), verbose=0)
    return model


@contextmanager
def started() -> Iterator[FreshProcess]:
    with FreshProcess("exporter._prover") as process:
        warm_up(process)
        yield process


def write_and_prove(
    model: Any,
    staged: Path,
    *,
    tamper: Any = lambda staged: None,
    settings: VerifyConfig | None = None,
    include_optimizer: bool = True,
    signatures: Any = None,
) -> Proof:
    settings = settings or VerifyConfig()
    plan = plan_save(model, staged, include_optimizer=include_optimizer, signatures=signatures)
    with started() as process:
        trial = prepare_trial(model, settings, seed=0)
        plan.write(staged)
        tamper(staged)
        return prove(
            process,
            model,
            staged,
            trial,
            mode=settings.mode,
            include_optimizer=include_optimizer,
            signatures=signatures,
        )


def flip_a_bit_of_a_weight(staged: Path) -> None:
    """Changes the lowest bit of the first number of the last layer's kernel, and nothing else."""
    found = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape == (8, 2) and "optimizer" not in name:
            found.append(name)

    with h5py.File(staged, "r+") as file:
        file.visititems(visit)
        for name in found:
            values = file[name][()]
            values.view(np.uint32)[0, 0] ^= 1
            file[name][()] = values
    assert found


def change_the_optimizer(staged: Path) -> None:
    """Adds 0.25 to every float of the optimizer's state in a Keras archive."""
    with zipfile.ZipFile(staged) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        for dataset in file["optimizer/vars"].values():
            if dataset.dtype.kind == "f" and dataset.shape == (8, 2):
                dataset[()] = dataset[()] + np.float32(0.25)
    members["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(staged, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


STATE_CHECKS = (
    Check("load", True, "Sequential", "exporter.load_model in a fresh process"),
    Check("predictions", True, "bit-equal", "batch sizes 1, 2, 3, seeded inputs"),
    Check("weights", True, "bit-equal", "8 tensors"),
    Check("optimizer", True, "bit-equal", "14 tensors"),
    Check("random state", True, "bit-equal", "1 tensor"),
    Check("trainable flags", True, "equal", "4 layers"),
    Check("dtype policies", True, "equal", "4 layers"),
    Check("compile", True, "equal", "optimizer, loss, metrics and settings"),
)
STOCK_CHECK = Check("stock Keras", True, "bit-equal", "keras.models.load_model")


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_an_honest_file_passes_every_check(name: str, tmp_path: Path) -> None:
    proof = write_and_prove(make_model(), tmp_path / name)
    assert proof == Proof(checks=(*STATE_CHECKS, STOCK_CHECK), left_out=())


def test_an_honest_saved_model_passes_every_check(tmp_path: Path) -> None:
    proof = write_and_prove(make_model(), tmp_path / "model")
    signatures = Check("signatures", True, "equal", "names, shapes, dtypes of 1 endpoint")
    served = Check("serving_default", True, "bit-equal", "endpoint, tf.saved_model.load")
    assert proof == Proof(checks=(*STATE_CHECKS, signatures, served, STOCK_CHECK), left_out=())


def test_an_endpoint_of_the_users_own_is_called_and_compared(tmp_path: Path) -> None:
    model = make_model()

    @tf.function(input_signature=[tf.TensorSpec((2, 4), tf.float32, name="pair")])
    def judge(pair: Any) -> Any:
        return {"best": tf.argmax(model(pair, training=False), axis=-1), "double": 2.0 * pair}

    proof = write_and_prove(model, tmp_path / "model", signatures={"judge": judge})
    assert proof.checks[-3:] == (
        Check("signatures", True, "equal", "names, shapes, dtypes of 1 endpoint"),
        Check("judge", True, "bit-equal", "endpoint, tf.saved_model.load"),
        STOCK_CHECK,
    )


def test_an_endpoint_that_answers_otherwise_is_found(tmp_path: Path) -> None:
    model = make_model()
    factor = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="features")])
    def scale(features: Any) -> Any:
        return {"scaled": features * factor}

    def change(staged: Path) -> None:
        factor.assign(1.5)

    with pytest.raises(ProofError) as caught:
        write_and_prove(model, tmp_path / "model", signatures={"scale": scale}, tamper=change)
    assert "\n  scale: largest difference " in str(caught.value)


def test_without_the_optimizer_none_is_expected(tmp_path: Path) -> None:
    proof = write_and_prove(make_model(), tmp_path / "model.keras", include_optimizer=False)
    names = [check.name for check in proof.checks]
    assert "optimizer" not in names
    assert "compile" not in names


def test_one_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    with pytest.raises(ProofError) as caught:
        write_and_prove(make_model(), tmp_path / "model.h5", tamper=flip_a_bit_of_a_weight)
    message = str(caught.value)
    assert message.startswith("The artifact that was written is not the same model: ")
    assert "\n  weights: of 8 tensors, 1 changed, largest difference " in message
    assert "; layers/dense_1/vars/0\n" in message
    assert caught.value.exit_code == 4


def test_a_changed_slot_of_the_optimizer_is_found(tmp_path: Path) -> None:
    with pytest.raises(ProofError) as caught:
        write_and_prove(make_model(), tmp_path / "model.keras", tamper=change_the_optimizer)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "The artifact that was written is not the same model: 1 of 9 checks failed, and nothing was published."
    )
    assert lines[1].startswith("  optimizer: of 14 tensors, 2 changed, largest difference 0.25; optimizer/vars/")
    assert lines[2] == "Please report it with the model; `verify=none` publishes without a proof."


def test_a_truncated_artifact_is_found(tmp_path: Path) -> None:
    def truncate(staged: Path) -> None:
        staged.write_bytes(staged.read_bytes()[:1000])

    with pytest.raises(ProofError, match=r"1 of 1 checks failed.*\n  load: the artifact cannot be loaded; "):
        write_and_prove(make_model(), tmp_path / "model.h5", tamper=truncate)


def test_reload_compares_nothing(tmp_path: Path) -> None:
    settings = VerifyConfig(mode=VerifyMode.RELOAD, batch_sizes=[2])
    proof = write_and_prove(make_model(), tmp_path / "model.h5", tamper=flip_a_bit_of_a_weight, settings=settings)
    assert proof.checks == (
        Check("load", True, "Sequential", "exporter.load_model in a fresh process"),
        Check("predictions", True, "predicted, not compared", "batch size 2, seeded inputs"),
    )


def test_the_proof_changes_nothing_of_the_model(tmp_path: Path) -> None:
    model = make_model()
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before = [np.array(variable) for variable in variables]
    function = model.predict_function
    random_state = np.random.get_state()[1].copy()

    write_and_prove(model, tmp_path / "model.keras")

    assert all(np.array_equal(old, variable) for old, variable in zip(before, variables, strict=True))
    assert model.predict_function is function
    assert np.array_equal(np.random.get_state()[1], random_state)
    assert model.losses == []


def test_the_batches_of_a_file_are_used(tmp_path: Path) -> None:
    data = tmp_path / "batch.npz"
    np.savez(data, features=np.ones((5, 4)))
    proof = write_and_prove(make_model(), tmp_path / "model.h5", settings=VerifyConfig(data=str(data)))
    assert proof.checks[1] == Check("predictions", True, "bit-equal", f"5 samples of {data}")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param(
            {"pixels": np.ones((5, 4))},
            "'{path}' has no array 'features'. Received: pixels. Expected: features float32 (?, 4).",
            id="another name",
        ),
        pytest.param(
            {"features": np.ones((5, 3))},
            "the array 'features' of '{path}' is float64 (5, 3). Expected: float32 (?, 4).",
            id="another shape",
        ),
        pytest.param(
            {"features": np.array([["a", "b", "c", "d"]])},
            "the array 'features' of '{path}' is <U1 (1, 4). Expected: float32 (?, 4).",
            id="another dtype",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = tmp_path / "batch.npz"
    np.savez(data, **arrays)
    with pytest.raises(UsageError) as caught:
        prepare_trial(make_model(), VerifyConfig(data=str(data)), seed=0)
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        ("verify.data", message.format(path=data))
    ]


def test_a_process_that_dies_is_an_error_with_its_last_words() -> None:
    with started() as process:
        process.receive("start", timeout=60)
        process._process.kill()
        with pytest.raises(ExportError, match="The proof's process was ended by signal 9 at `open`; nothing was"):
            process.ask("open", timeout=60)


def test_a_process_that_does_not_answer_is_an_error() -> None:
    with started() as process, pytest.raises(ExportError) as caught:
        process.receive("start", timeout=0.01)
    assert str(caught.value) == (
        "The proof's process did not answer `start` within 0 seconds; nothing was published. "
        "Give the proof more time or memory, or export with verify=none."
    )


def test_the_process_ends_when_its_input_closes() -> None:
    with FreshProcess("exporter._prover") as process:
        process._requests.close()
        assert process._process.wait(timeout=60) == 0


def test_prints_do_not_end_up_between_the_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "noisy_layers.py"
    module.write_text(
        "import keras\n"
        "print('imported')\n"
        "class Noisy(keras.layers.Layer):\n"
        "    def call(self, inputs):\n"
        "        print('called')\n"
        "        return inputs * 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import noisy_layers

    model = keras.Sequential([keras.Input((3,)), noisy_layers.Noisy()])
    proof = write_and_prove(model, tmp_path / "model.keras")

    assert list_custom_objects(model) == [
        ("Noisy", "noisy_layers", "Noisy"),
        ("Custom>Noisy", "noisy_layers", "Noisy"),
    ] or list_custom_objects(model) == [("Noisy", "noisy_layers", "Noisy")]
    assert [check.name for check in proof.checks] == [
        "load",
        "predictions",
        "trainable flags",
        "dtype policies",
        "stock Keras",
    ]


@pytest.mark.parametrize(
    ("expected", "received", "differences"),
    [
        pytest.param({"a": {"b": 1}}, {"a": {"b": 1}}, [], id="equal"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b was 1 and is 2"], id="changed"),
        pytest.param({"a": "float32"}, {}, ["a was 'float32' and is None"], id="missing"),
        pytest.param({}, {"a": True}, ["a was None and is True"], id="added"),
        pytest.param(None, {"a": 1}, ["all of it was None and is {'a': 1}"], id="nothing was there"),
    ],
)
def test_differences_name_their_path_and_both_values(expected: Any, received: Any, differences: list[str]) -> None:
    assert find_differences(expected, received) == differences
