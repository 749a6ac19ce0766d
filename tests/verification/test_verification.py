"""The proof: what passes, what fails with which figure, and a process that dies."""

import importlib
import inspect
import io
import json
import os
import random
import signal
import sys
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
from saving.resume_worker import compare, watch

import exporter
from exporter.artifacts.records import Check, CheckKind, Loading
from exporter.config import VerifyConfig, VerifyMode
from exporter.errors import ExportError, ProofError, UsageError
from exporter.exporting.proving import ModelProver
from exporter.exporting.session import ExportSession
from exporter.processes.fresh_process import FreshProcess
from exporter.saving.contents import Omission, OmissionKind
from exporter.saving.layout.checksums import Checksums, checksum_dataset, checksum_values
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest
from exporter.verification.comparing.facts import find_differences
from exporter.verification.inputs import prepare_inputs
from exporter.verification.verification import VerificationResult, verify, warm_up


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
    model.run_eagerly = True  # for one step, a graph would take longer
    model.fit(np.ones((8, 4), np.float32), np.zeros((8, 2), np.float32), verbose=0)
    model.run_eagerly = False
    model.make_train_function(force=True)
    return model


@contextmanager
def started() -> Iterator[FreshProcess]:
    with FreshProcess("exporter.verification") as process:
        yield process


# By what can be imported: as in a sweep, one process proves an artifact after the other.
SESSIONS: dict[tuple[str, ...], ExportSession] = {}


@pytest.fixture(scope="module", autouse=True)
def sessions_closed() -> Iterator[None]:
    yield
    for session in SESSIONS.values():
        session.close()


def write_and_verify(
    model: Any,
    staged: Path,
    *,
    tamper: Any = lambda staged: None,
    settings: VerifyConfig | None = None,
    include_optimizer: bool = True,
    signatures: Any = None,
) -> VerificationResult:
    settings = settings or VerifyConfig()
    plan = plan_save(SaveRequest(model, staged, include_optimizer=include_optimizer, signatures=signatures))
    process = SESSIONS.setdefault(tuple(sys.path), ExportSession()).open_process(ModelProver.start)
    warm_up(process)
    inputs = prepare_inputs(model, settings, 0, signatures)
    plan.write(staged)
    tamper(staged)
    return verify(process, model, staged, inputs, mode=settings.mode, include_optimizer=include_optimizer)


def amend_checksums(text: bytes, file: h5py.File) -> bytes:
    """Returns the checksums for what the file holds now, as if a fault of the writer had come before them."""
    checksums = Checksums.from_json(text, "the test")
    for name in checksums.tensors:
        checksums.tensors[name] = checksum_dataset(file[name], checksum_values(file[name][()]))
    return checksums.to_json()


def amend_hdf5(file: h5py.File) -> None:
    """Does it in an HDF5 file of ours."""
    amended = amend_checksums(file["exporter/checksums"][()].tobytes(), file)
    del file["exporter/checksums"]
    file["exporter/checksums"] = np.frombuffer(amended, np.uint8)


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
        amend_hdf5(file)
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
        metadata = json.loads(members["metadata.json"])
        checksums = metadata["exporter"]["checksums"].encode()
        metadata["exporter"]["checksums"] = amend_checksums(checksums, file).decode()
        members["metadata.json"] = json.dumps(metadata).encode()
    members["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(staged, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


STATE_CHECKS = (
    Check("load", True, "Sequential", "exporter.load_model in a fresh process"),
    Check("predictions", True, "bit-equal", "batch sizes 1, 2, 3, seeded inputs, eager"),
    Check("weights", True, "bit-equal", "8 tensors"),
    Check("optimizer", True, "bit-equal", "14 tensors"),
    Check("random state", True, "bit-equal", "1 tensor"),
    Check("trainable flags", True, "equal", "4 layers"),
    Check("dtype policies", True, "equal", "4 layers"),
    Check("compile", True, "equal", "optimizer, loss, metrics and settings"),
    Check("predict", True, "bit-equal", "model.predict, batch of 3, eager"),
    Check("evaluate", True, "bit-equal", "model.test_on_batch, batch of 3, eager"),
    Check("training step", True, "bit-equal", "1 eager step, batch of 3, 23 tensors"),
)
STOCK_CHECK = Check("stock Keras", True, "bit-equal", "keras.models.load_model")


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_an_honest_file_passes_every_check(name: str, tmp_path: Path) -> None:
    result = write_and_verify(make_model(), tmp_path / name)
    assert result == VerificationResult(checks=(*STATE_CHECKS, STOCK_CHECK), left_out=())


def test_an_honest_saved_model_passes_every_check(tmp_path: Path) -> None:
    result = write_and_verify(make_model(), tmp_path / "model")
    signatures = Check("signatures", True, "equal", "names, shapes, dtypes of 1 endpoint")
    served = Check("serving_default", True, "bit-equal", "endpoint, tf.saved_model.load")
    assert result == VerificationResult(checks=(*STATE_CHECKS, signatures, served, STOCK_CHECK), left_out=())


def test_every_outcome_tells_its_kind(tmp_path: Path) -> None:
    model = make_model()
    result = write_and_verify(model, tmp_path / "model", signatures={"weights": make_doubling(model)})
    kinds: dict[CheckKind, list[str]] = {}
    for check in result.checks:
        kinds.setdefault(check.kind, []).append(check.name)
    assert kinds == {
        CheckKind.FACTS: ["load", "trainable flags", "dtype policies", "compile", "signatures"],
        CheckKind.OUTPUTS: ["predictions", "predict", "evaluate", "weights", "stock Keras"],
        CheckKind.STATE: ["weights", "optimizer", "random state"],
        CheckKind.TRAINING: ["training step"],
    }


def make_doubling(model: Any) -> Any:
    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="features")])
    def double(features: Any) -> Any:
        return {"double": 2.0 * model(features, training=False)}

    return double


def test_an_endpoint_of_the_users_own_is_called_and_compared(tmp_path: Path) -> None:
    model = make_model()

    @tf.function(input_signature=[tf.TensorSpec((2, 4), tf.float32, name="pair")])
    def judge(pair: Any) -> Any:
        return {"best": tf.argmax(model(pair, training=False), axis=-1), "double": 2.0 * pair}

    result = write_and_verify(model, tmp_path / "model", signatures={"judge": judge})
    assert result.checks[-3:] == (
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
        write_and_verify(model, tmp_path / "model", signatures={"scale": scale}, tamper=change)
    assert "\n  scale: largest difference " in str(caught.value)


def test_without_the_optimizer_none_is_expected(tmp_path: Path) -> None:
    result = write_and_verify(make_model(), tmp_path / "model.keras", include_optimizer=False)
    names = [check.name for check in result.checks]
    assert "optimizer" not in names
    assert "compile" not in names
    assert Check("training step", True, "none to take", "include_optimizer is false") in result.checks


def test_one_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    with pytest.raises(ProofError) as caught:
        write_and_verify(make_model(), tmp_path / "model.h5", tamper=flip_a_bit_of_a_weight)
    message = str(caught.value)
    assert message.startswith("The artifact that was written is not the same model: ")
    assert "\n  weights: of 8 tensors, 1 changed, largest difference " in message
    assert "; layers/dense_1/vars/0\n" in message
    assert caught.value.exit_code == 4


def test_says_where_code_must_be_defined_that_another_process_needs(tmp_path: Path) -> None:
    class Doubling(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    model = keras.Sequential([keras.Input((3,)), Doubling()])
    with pytest.raises(ProofError) as caught:
        write_and_verify(model, tmp_path / "model.keras")
    lines = str(caught.value).splitlines()
    assert lines[1].endswith(
        f"Another process cannot import {__name__}.{Doubling.__qualname__}: it is defined inside of a function. Define "
        "it at the top level of a module."
    )
    assert lines[2] == "`verify=none` publishes without a proof."


class Prefixed(keras.Model):
    """Names its layers by its own name, and not at all where it was given none, as KerasHub's DINOv2 does."""

    def __init__(self, name: str | None = None, **options: Any) -> None:
        prefix = "" if name is None else f"{name}_"
        inputs = keras.Input((3,), name="inputs")
        hidden = keras.layers.Dense(2, name=f"{prefix}hidden")(inputs)
        super().__init__(inputs, [hidden, keras.layers.Dense(2, name=f"{prefix}scores")(hidden)], name=name, **options)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(**config)


@pytest.mark.parametrize("name", ["model", "model.keras", "model.h5"])
def test_another_name_of_a_layer_is_no_other_output(name: str, tmp_path: Path) -> None:
    checks = {check.name: check.figure for check in write_and_verify(Prefixed(), tmp_path / name).checks}
    assert checks["predictions"] == "bit-equal"


class Exponent(keras.losses.Loss):
    """Has an argument that its configuration does not tell."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean((y_true - y_pred) ** self.power)


def test_says_which_omission_may_be_why_the_model_is_not_the_same(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", Exponent(4))
    with pytest.raises(ProofError) as caught:
        exporter.export(model, tmp_path / "model.keras")
    lines = str(caught.value).splitlines()
    assert lines[-2].startswith("  not held: loss Exponent: it cannot be made again: ")
    assert "Give its class a `get_config` that returns the arguments of its constructor" in lines[-2]
    assert lines[-1] == "`verify='none'` publishes without a proof."


def test_a_changed_slot_of_the_optimizer_is_found(tmp_path: Path) -> None:
    with pytest.raises(ProofError) as caught:
        write_and_verify(make_model(), tmp_path / "model.keras", tamper=change_the_optimizer)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "The artifact that was written is not the same model: 2 of 12 checks failed, and nothing was published."
    )
    assert lines[1].startswith("  optimizer: of 14 tensors, 2 changed, largest difference 0.25; optimizer/vars/")
    assert lines[2].startswith("  training step: of 23 tensors, 3 changed, largest difference ")
    assert lines[3] == "Please report it with the model; `verify=none` publishes without a proof."


def test_a_random_state_that_is_not_the_models_is_found(tmp_path: Path) -> None:
    def reset(staged: Path) -> None:
        with h5py.File(staged, "r+") as file:
            seed = file["exporter/variables/layers/dropout/seed_generators/0"]
            seed[()] = np.array([1, 0], seed.dtype)
            amend_hdf5(file)

    with pytest.raises(ProofError) as caught:
        write_and_verify(make_model(), tmp_path / "model.h5", tamper=reset)
    failed = [line.partition(":")[0] for line in str(caught.value).splitlines()[1:-1]]
    assert failed == ["  random state", "  training step"]


LOSSES = """
import os

import keras
import tensorflow as tf


class Forgetful(keras.losses.Loss):
    def __init__(self, factor=1.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, y_true, y_pred):
        return keras.ops.mean(self.factor * keras.ops.abs(y_true - y_pred), axis=-1)


class Remembering(Forgetful):
    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Indoors(keras.layers.Layer):
    def __init__(self, home=0, **options):
        super().__init__(**options)
        self.home = home or os.getpid()

    def get_config(self):
        return {**super().get_config(), "home": self.home}

    def call(self, inputs):
        if tf.executing_eagerly() and os.getpid() != self.home:
            raise RuntimeError("it runs eagerly only in the process that made it")
        return 2.0 * inputs


def refuse(y_true, y_pred):
    raise TypeError(f"three are needed, not {y_true.shape[-1]}")


def spoil(y_true, y_pred):
    return keras.ops.sqrt(-keras.ops.square(y_true - y_pred))
"""


@pytest.fixture(scope="module")
def losses_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: what can be imported decides whether two share the fresh process."""
    folder = tmp_path_factory.mktemp("losses")
    (folder / "own_losses.py").write_text(LOSSES)
    return folder


REFUSING = next(number for number, line in enumerate(LOSSES.splitlines(), 1) if "three are needed" in line)


@pytest.fixture
def own_losses(losses_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that the fresh process can import as well."""
    monkeypatch.syspath_prepend(losses_folder)
    yield importlib.import_module("own_losses")
    del sys.modules["own_losses"]


def compiled(loss: Any, *layers: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,), name="features"), keras.layers.Dense(2), *layers])
    model.compile("sgd", loss)
    return model


def find_step(result: VerificationResult) -> Check:
    [step] = [check for check in result.checks if check.name == "training step"]
    return step


def test_a_loss_that_forgets_its_factor_is_found_by_what_it_is_asked(own_losses: Any, tmp_path: Path) -> None:
    with pytest.raises(ProofError) as caught:
        write_and_verify(compiled(own_losses.Forgetful(3.0)), tmp_path / "model.keras")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("The artifact that was written is not the same model: 2 of 11 checks failed, ")
    assert lines[1].startswith("  evaluate: largest difference ")
    assert lines[2].startswith("  training step: of 4 tensors, 2 changed, largest difference ")
    assert lines[2].endswith("; layers/dense/vars/0, layers/dense/vars/1")


def test_a_loss_of_the_users_own_is_trained_with(own_losses: Any, tmp_path: Path) -> None:
    result = write_and_verify(compiled(own_losses.Remembering(3.0)), tmp_path / "model.keras")
    assert find_step(result) == Check("training step", True, "bit-equal", "1 eager step, batch of 3, 4 tensors")


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        pytest.param(
            "refuse",
            "the model takes none on a batch that was drawn for it: TypeError: three are needed, not 2",
            id="refused",
        ),
        pytest.param(
            "spoil",
            "after one step on this batch these weights contain NaN: sequential/dense/kernel, sequential/dense/bias",
            id="no numbers",
        ),
    ],
)
def test_a_step_that_cannot_be_taken_is_said(loss: str, why: str, own_losses: Any, tmp_path: Path) -> None:
    keras.utils.clear_session()
    result = write_and_verify(compiled(getattr(own_losses, loss)), tmp_path / "model.keras")
    place = f" ({own_losses.__file__}:{REFUSING} in refuse)" if loss == "refuse" else ""
    assert result.left_out == (
        Omission(
            "proof of a training step", f"{why}{place}; name a batch with its targets in `verify.data`", intended=True
        ),
    )
    assert [entry.kind for entry in result.left_out] == [OmissionKind.COMPARISON]
    assert "training step" not in [check.name for check in result.checks]


class Unsteady(keras.layers.Layer):
    """Draws random numbers in training that no state and no seed decides."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + np.random.default_rng().normal() if training else inputs


def test_a_step_that_no_state_decides_is_not_a_failure(tmp_path: Path) -> None:
    result = write_and_verify(compiled("mean_squared_error", Unsteady()), tmp_path / "model.keras")
    [left_out] = [entry for entry in result.left_out if entry.what == "proof of a training step"]
    assert left_out.why.startswith(
        "the same step from the same state differs from itself in 2 of 4 tensors and leaves nothing to compare with; "
        "the artifact's differs by up to "
    )


class Noise(keras.layers.Layer):
    """Draws random numbers of a generator of the process, in training or always."""

    def __init__(self, source: str, always: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.source = source
        self.always = always

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "source": self.source, "always": self.always}

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + self.draw(keras.ops.shape(inputs)) if training or self.always else inputs

    def draw(self, shape: Any) -> Any:
        match self.source:
            case "keras":
                return keras.random.normal(shape)
            case "tensorflow":
                return tf.random.normal(shape)
            case "generator":
                return tf.random.get_global_generator().normal(shape)
            case "numpy":
                return np.random.normal()
            case _:
                return np.random.default_rng().normal()


@pytest.fixture
def noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The layer in a module that the fresh process can import."""
    lines = inspect.getsource(Noise)
    head = "from typing import Any\nimport keras, numpy as np, tensorflow as tf\n"
    (tmp_path / "noisy_module.py").write_text(head + lines)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("noisy_module").Noise
    del sys.modules["noisy_module"]


def read_generators() -> list[Any]:
    """What the process's own generators will draw next depends on this."""
    numpy_state: Any = np.random.get_state()
    return [random.getstate(), numpy_state[1].tolist(), tf.random.get_global_generator().state.numpy().tolist()]


@pytest.mark.parametrize("source", ["keras", "tensorflow", "generator", "numpy"])
def test_random_answers_are_compared_with_the_generators_seeded(source: str, noise: Any, tmp_path: Path) -> None:
    model = compiled("mean_squared_error", noise(source))
    before = read_generators()

    result = write_and_verify(model, tmp_path / "model.keras")

    checks = {check.name: check for check in result.checks}
    assert checks["predictions"] == Check(
        "predictions", True, "bit-equal", "batch sizes 1, 2, 3, seeded inputs, eager, generators seeded"
    )
    assert checks["predict"].detail == "model.predict, batch of 3, eager, generators seeded"
    assert checks["training step"].detail == "1 eager step, batch of 3, 4 tensors, generators seeded"
    assert result.left_out == ()
    assert read_generators() == before


def test_random_answers_are_compared_where_operations_are_deterministic(
    noise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, where TensorFlow refuses random operations without a seed."""
    monkeypatch.setattr("exporter.verification.verification.has_accelerator", lambda: True)
    model = compiled("mean_squared_error", noise("tensorflow"))
    tf.random.set_seed(None)
    result = write_and_verify(model, tmp_path / "model.keras")
    checks = {check.name: check for check in result.checks}
    assert checks["predictions"].detail == "batch sizes 1, 2, 3, seeded inputs, eager, generators seeded"
    assert result.left_out == ()


def test_what_runs_in_graphs_only_where_it_is_loaded_is_compared_in_graphs(own_losses: Any, tmp_path: Path) -> None:
    result = write_and_verify(compiled("mean_squared_error", own_losses.Indoors()), tmp_path / "model.keras")
    details = {check.name: check.detail for check in result.checks}
    assert details["predictions"] == "batch sizes 1, 2, 3, seeded inputs, graph"
    assert details["evaluate"] == "model.test_on_batch, batch of 3, graph"
    assert details["training step"] == "1 graph step, batch of 3, 4 tensors"


def make_half_random(noise: Any, source: str) -> Any:
    """Has one output that is drawn, and one that is not."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,), name="features")
    hidden = keras.layers.Dense(2, name="dense_1")(inputs)
    return keras.Model(inputs, {"drawn": noise(source)(hidden), "sure": keras.layers.Dense(2, name="last")(hidden)})


def test_what_no_seed_decides_is_left_out_of_the_comparison(noise: Any, tmp_path: Path) -> None:
    result = write_and_verify(make_half_random(noise, "system"), tmp_path / "model.keras")
    checks = {check.name: check for check in result.checks}
    assert checks["predictions"] == Check(
        "predictions", True, "bit-equal", "batch sizes 1, 2, 3, seeded inputs, eager; without what is random: drawn"
    )
    assert checks["predict"].detail == "model.predict, batch of 3, eager; without what is random: drawn"


@pytest.mark.parametrize("source", ["system", "keras"])
def test_a_loss_is_found_beside_an_output_that_is_random(source: str, noise: Any, tmp_path: Path) -> None:
    def flip(staged: Path) -> None:
        with h5py.File(staged, "r+") as file:
            kernel = file["model_weights/last/last/kernel"]
            kernel[()] = kernel[()] + np.float32(0.5)
            amend_hdf5(file)

    with pytest.raises(ProofError) as caught:
        write_and_verify(make_half_random(noise, source), tmp_path / "model.h5", tamper=flip)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines[1:-1]] == ["  predictions", "  weights", "  predict"]


def test_answers_of_which_none_is_decided_are_not_a_failure(noise: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), noise("system")])
    result = write_and_verify(model, tmp_path / "model.keras")
    left_out = [entry for entry in result.left_out if entry.what == "proof of predictions"]
    assert left_out[0].why.startswith(
        "called twice from the same state, it answers differently, which leaves nothing to compare with; "
        "the artifact's: largest difference "
    )


class Nowhere(keras.Model):
    """A model whose code the fresh process cannot import; it has a layer of its own kind, and dropout."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = keras.Sequential([keras.layers.Dense(3, dtype="mixed_bfloat16"), keras.layers.Dropout(0.5)])
        self.scores = keras.layers.Dense(2)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.scores(self.inner(inputs, training=training))


def test_a_model_without_its_code_is_compared_where_it_has_parts(tmp_path: Path) -> None:
    Nowhere.__module__ = "__main__"
    model = Nowhere()
    model.compile("adam", "mean_squared_error")
    model.fit(np.ones((8, 4), np.float32), np.zeros((8, 2), np.float32), verbose=0)
    result = write_and_verify(model, tmp_path / "model")
    checks = {check.name: check for check in result.checks}
    assert checks["trainable flags"].detail == "4 layers, 4 of them revived without their code"
    assert checks["dtype policies"].detail == "4 layers, 4 of them revived without their code"
    assert checks["training step"] == Check("training step", True, "bit-equal", "1 graph step, batch of 3, 15 tensors")


def test_a_truncated_artifact_is_found(tmp_path: Path) -> None:
    def truncate(staged: Path) -> None:
        staged.write_bytes(staged.read_bytes()[:1000])

    with pytest.raises(ProofError, match=r"1 of 1 checks failed.*\n  load: the artifact cannot be loaded; "):
        write_and_verify(make_model(), tmp_path / "model.h5", tamper=truncate)


def test_reload_compares_nothing(tmp_path: Path) -> None:
    settings = VerifyConfig(mode=VerifyMode.RELOAD, batch_sizes=[2])
    result = write_and_verify(make_model(), tmp_path / "model.h5", tamper=flip_a_bit_of_a_weight, settings=settings)
    assert result.checks == (
        Check("load", True, "Sequential", "exporter.load_model in a fresh process"),
        Check("predictions", True, "predicted, not compared", "batch size 2, seeded inputs"),
    )


def make_stateful_model() -> Any:
    model = keras.Sequential([keras.Input((7, 5), batch_size=3), keras.layers.LSTM(3, stateful=True, dropout=0.5)])
    model.compile("adam", "mean_squared_error", metrics=["mean_absolute_error"])
    model.predict_on_batch(np.ones((3, 7, 5), np.float32))
    model.layers[0].reset_states()
    return model


def make_untrained_model() -> Any:
    model = compiled("mean_squared_error", keras.layers.ActivityRegularization(0.1), keras.layers.Dropout(0.5))
    model(np.ones((2, 4), np.float32))
    return model


def make_scaled_model() -> Any:
    """Has an optimizer inside its optimizer."""
    model = compiled("mean_squared_error")
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mean_squared_error")
    return model


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_model, id="trained"),
        pytest.param(make_scaled_model, id="optimizer inside an optimizer"),
        pytest.param(make_untrained_model, id="optimizer and losses not built yet"),
        pytest.param(make_stateful_model, id="states and masks of a recurrent layer"),
    ],
)
def test_the_proof_changes_nothing(make: Any, tmp_path: Path) -> None:
    model = make()
    before = watch(model)
    metrics = [np.array(variable) for variable in model.metrics_variables]
    functions = model.train_function, model.test_function, model.predict_function
    states = [np.array(state) for layer in model.layers for state in getattr(layer, "states", None) or ()]

    result = write_and_verify(model, tmp_path / "model.keras")

    assert find_step(result).figure == "bit-equal"
    assert compare(before, watch(model)) == []
    assert model.optimizer.built is (make is make_model)
    assert all(np.array_equal(old, new) for old, new in zip(metrics, model.metrics_variables, strict=True))
    assert (model.train_function, model.test_function, model.predict_function) == functions
    assert all(
        np.array_equal(old, new)
        for old, new in zip(
            states, [s for layer in model.layers for s in getattr(layer, "states", None) or ()], strict=True
        )
    )


def test_the_targets_of_a_file_are_used(own_losses: Any, tmp_path: Path) -> None:
    data = tmp_path / "batch.npz"
    np.savez(data, features=np.ones((5, 4)), y=np.zeros((5, 2)), sample_weight=np.ones(5))
    result = write_and_verify(make_model(), tmp_path / "model.h5", settings=VerifyConfig(data=str(data)))
    assert find_step(result) == Check("training step", True, "bit-equal", "1 eager step, batch of 5, 23 tensors")


def test_targets_that_the_loss_refuses_are_a_fault_of_the_file(own_losses: Any, tmp_path: Path) -> None:
    data = tmp_path / "batch.npz"
    model = compiled(own_losses.refuse)
    np.savez(data, features=np.ones((5, 4)), y=np.zeros((5, 2)))
    with pytest.raises(UsageError) as caught:
        write_and_verify(model, tmp_path / "model.keras", settings=VerifyConfig(data=str(data)))
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        (
            "verify.data",
            f"the model cannot be trained on the arrays of '{data}': TypeError: three are needed, not 2 "
            f"({own_losses.__file__}:{REFUSING} in refuse)",
        )
    ]


def test_the_batches_of_a_file_are_used(tmp_path: Path) -> None:
    data = tmp_path / "batch.npz"
    np.savez(data, features=np.ones((5, 4)))
    result = write_and_verify(make_model(), tmp_path / "model.h5", settings=VerifyConfig(data=str(data)))
    assert result.checks[1] == Check("predictions", True, "bit-equal", f"5 samples of {data}, eager")


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
        pytest.param(
            {"features": np.ones((5, 4)), "y": np.ones((4, 2))},
            "the array 'y' of '{path}' has 4 samples. Expected: 5, like the inputs.",
            id="targets of another number",
        ),
        pytest.param(
            {"features": np.ones((5, 4)), "sample_weight": np.ones(5)},
            "'{path}' has the array 'sample_weight' without 'y'. Add the targets that it weighs.",
            id="weights without targets",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = tmp_path / "batch.npz"
    np.savez(data, **arrays)
    with pytest.raises(UsageError) as caught:
        prepare_inputs(make_model(), VerifyConfig(data=str(data)), seed=0)
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        ("verify.data", message.format(path=data))
    ]


def find_child(process: FreshProcess) -> int:
    """The one that answers for the process."""
    [child] = Path(f"/proc/{process.id}/task/{process.id}/children").read_text().split()
    return int(child)


def test_a_process_that_dies_is_an_error_with_its_last_words() -> None:
    with started() as process:
        process.begin()
        process.ask("start", timeout=1500, threads=[0, 0])
        os.kill(find_child(process), signal.SIGKILL)
        with pytest.raises(ExportError, match="The proof's process was ended by signal 9 at `open`; nothing was"):
            process.ask("open", timeout=1500)


def test_nothing_is_left_of_a_process_that_was_killed() -> None:
    with started() as process:
        process.begin()
        process.ask("start", timeout=1500, threads=[0, 0])
        child = find_child(process)
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or ") Z " in state.read_text()  # nobody may be there to take note of its end


def test_a_process_that_does_not_answer_is_an_error() -> None:
    with started() as process:
        process.begin()
        with pytest.raises(ExportError) as caught:
            process.ask("start", timeout=0.01, threads=[0, 0])
    assert str(caught.value) == (
        "The proof's process did not answer `start` within 0 seconds; nothing was published. "
        "Give the proof more time or memory, or export with verify=none."
    )


def test_the_process_ends_when_its_input_closes() -> None:
    with FreshProcess("exporter.verification") as process:
        process._requests.close()
        assert process._process.wait(timeout=1500) == 0


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
    noisy_layers = importlib.import_module("noisy_layers")

    model = keras.Sequential([keras.Input((3,)), noisy_layers.Noisy()])
    result = write_and_verify(model, tmp_path / "model.keras")

    assert result.loading == Loading(imports=("noisy_layers",), custom_objects={"Noisy": "noisy_layers.Noisy"})
    assert [check.name for check in result.checks] == [
        "load",
        "predictions",
        "trainable flags",
        "dtype policies",
        "predict",
        "training step",
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


class Sampling(keras.layers.Layer):
    """Draws at inference too, as a variational autoencoder does."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs: Any) -> Any:
        return inputs + keras.random.normal((1,), seed=self.generator)


def test_what_draws_at_inference_is_proven(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), Sampling(name="noise")])
    receipt = exporter.export(model, tmp_path / "noise")
    [check] = [check for check in receipt.checks if check.name == "serving_default"]
    assert check.passed
    assert check.figure == "bit-equal"


@pytest.mark.parametrize(
    ("seed", "unsteady"),
    [
        pytest.param(None, {"predictions", "predict", "serving_default"}, id="no-seed"),
        # What is traced under a seed keeps it: the model's own functions answer alike in each process.
        pytest.param(1, {"serving_default"}, id="the-user's-seed"),
    ],
)
def test_what_draws_without_a_generator_is_left_out_also_where_its_code_is_missing(
    seed: int | None, unsteady: set[str], tmp_path: Path
) -> None:
    tf.random.set_seed(seed)

    class Hidden(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs + tf.random.normal((1,))

    model = keras.Sequential([keras.Input((3,)), Hidden(name="noise")])
    receipt = exporter.export(model, tmp_path / "noise")
    unproven = {each.what: each.why for each in receipt.left_out if each.kind is OmissionKind.COMPARISON}
    assert unproven.keys() == {f"proof of {each}" for each in unsteady}
    why = "called twice from the same state, it answers differently, which leaves nothing to compare with"
    assert all(each.startswith(why) for each in unproven.values())
