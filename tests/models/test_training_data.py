"""What a model is trained on in a proof fits its losses, its outputs and the data that it knows."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from exporter.errors import UsageError
from exporter.models.predictions import Predictor, draw_batch
from exporter.models.training.batches import TrainingBatch, make_batch, read_targets
from exporter.models.training.step_data import UndrawableError
from exporter.saving.graph.inputs import build_structure, describe_inputs


def make_for(model: Any, given: Any = None, origin: Path | None = None) -> TrainingBatch:
    inputs = describe_inputs(model)
    batch = draw_batch(model, inputs, 20, seed=0)
    return make_batch(model, inputs, batch, Predictor(model, inputs).answer(batch), 0, given, origin)


def build(model: Any, made: TrainingBatch) -> list[Any]:
    """Returns the parts of the batch in their structures, after the model was trained on them."""
    parts = [build_structure(structure, made.arrays) for structure in made.specs.structure]
    assert np.isfinite(model.train_on_batch(*parts, return_dict=True)["loss"])
    return parts


def make_model(loss: Any, activation: str = "softmax", units: int = 5, **compilation: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation)])
    model.compile("sgd", loss, **compilation)
    return model


class Own(keras.losses.MeanSquaredError):
    """Known by what it is made of."""


def guess(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    ("loss", "activation", "units", "dtype", "shape", "values"),
    [
        pytest.param("sparse_categorical_crossentropy", "softmax", 5, "int32", (20,), {0, 1, 2, 3, 4}, id="classes"),
        pytest.param("crossentropy", "softmax", 5, "int32", (20,), {0, 1, 2, 3, 4}, id="alias"),
        pytest.param("crossentropy", "sigmoid", 1, "float32", (20, 1), {0, 1}, id="alias for one output"),
        pytest.param("categorical_crossentropy", "softmax", 5, "float32", (20, 5), {0, 1}, id="one-hot"),
        pytest.param(keras.losses.BinaryFocalCrossentropy(), "sigmoid", 5, "float32", (20, 5), {0, 1}, id="flags"),
        pytest.param("hinge", "tanh", 5, "float32", (20, 5), {-1, 1}, id="signs"),
        pytest.param("poisson", "softplus", 5, "float32", (20, 5), "positive", id="counts"),
        pytest.param(keras.losses.kl_divergence, "softmax", 5, "float32", (20, 5), "positive", id="function"),
        pytest.param("mse", "linear", 5, "float32", (20, 5), "any", id="numbers"),
        pytest.param(Own(), "linear", 5, "float32", (20, 5), "any", id="subclass"),
        pytest.param(guess, "linear", 5, "float32", (20, 5), "positive", id="own function"),
    ],
)
def test_targets_fit_the_loss(
    loss: Any, activation: str, units: int, dtype: str, shape: tuple[int, ...], values: Any
) -> None:
    model = make_model(loss, activation, units)
    _, targets = build(model, make_for(model))
    assert (targets.dtype.name, targets.shape) == (dtype, shape)
    if isinstance(values, set):
        assert set(targets.ravel().tolist()) == values
    else:
        assert (targets.min() > 0) == (values == "positive")


def test_one_hot_targets_have_one_class_each() -> None:
    model = make_model("categorical_crossentropy")
    _, targets = build(model, make_for(model))
    assert targets.sum(axis=-1).tolist() == [1.0] * 20


def test_labels_of_a_sequence_leave_room_for_blanks() -> None:
    model = keras.Sequential([keras.Input((8, 3)), keras.layers.Dense(6)])
    model.compile("sgd", keras.losses.CTC())
    _, targets = build(model, make_for(model))
    assert (targets.dtype.name, targets.shape, targets.min(), targets.max()) == ("int32", (20, 4), 1, 5)


def make_branched_model(losses: Any, outputs: Any = dict) -> Any:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,), name="features")
    heads = {
        "price": keras.layers.Dense(1, name="price")(inputs),
        "kind": keras.layers.Dense(3, activation="softmax", name="kind")(inputs),
    }
    model = keras.Model(inputs, heads if outputs is dict else list(heads.values()))
    model.compile("sgd", losses)
    return model


LOSSES = {"price": "mse", "kind": "sparse_categorical_crossentropy"}


@pytest.mark.parametrize(
    ("losses", "outputs"),
    [
        pytest.param(LOSSES, dict, id="both dicts"),
        pytest.param(LOSSES, list, id="losses by the outputs' names"),
        pytest.param(list(LOSSES.values()), list, id="both lists"),
    ],
)
def test_every_output_has_its_target(losses: Any, outputs: Any) -> None:
    model = make_branched_model(losses, outputs)
    _, targets = build(model, make_for(model))
    price, kind = (targets["price"], targets["kind"]) if outputs is dict else targets
    assert (price.dtype.name, price.shape) == ("float32", (20, 1))
    assert (kind.dtype.name, kind.shape, kind.max()) == ("int32", (20,), 2)


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")
def test_an_output_without_a_loss_has_a_target_that_is_not_read() -> None:
    model = make_branched_model({"kind": "sparse_categorical_crossentropy", "price": None})
    _, targets = build(model, make_for(model))
    assert targets["kind"].max() == 2


def test_a_model_without_a_loss_has_no_targets() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.ActivityRegularization(0.1)])
    model.compile("sgd")
    [inputs] = build(model, make_for(model))
    assert inputs.shape == (20, 4)


def test_data_that_was_seen_decides() -> None:
    model = make_model("sparse_categorical_crossentropy")
    model.fit(np.ones((6, 4)), np.zeros((6, 1), np.int64), sample_weight=np.ones(6), verbose=0)
    inputs, targets, weights = build(model, make_for(model))
    assert (inputs.dtype.name, inputs.shape) == ("float32", (20, 4))
    assert (targets.dtype.name, targets.shape, set(targets.ravel().tolist())) == ("int64", (20, 1), {0, 1, 2, 3, 4})
    assert (weights.shape, bool(weights.min() > 0)) == ((20,), True)


def test_data_of_another_kind_is_drawn_anew() -> None:
    model = make_model("mse", "linear")
    model.fit(np.ones((6, 4), np.uint8), np.zeros((6, 5)), verbose=0)
    inputs, _ = build(model, make_for(model))
    assert (inputs.dtype.name, inputs.shape, bool(inputs.max() > 0)) == ("uint8", (20, 4), True)


def test_ragged_data_cannot_be_drawn() -> None:
    model = make_model("mse", "linear")
    ragged = tf.RaggedTensor.from_row_lengths(np.zeros(6, np.float32), [1, 2, 3])
    data = tf.data.Dataset.from_tensors((np.ones((3, 4), np.float32), ragged))
    model.train_step = lambda data: {"loss": keras.ops.sum(model(data[0]))}
    model.fit(data, shuffle=False, verbose=0)
    with pytest.raises(UndrawableError, match=r"^it was trained with data of the kind RaggedTensorSpec$"):
        make_for(model)


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")
def test_a_file_may_name_the_targets_of_each_output(tmp_path: Path) -> None:
    model = make_branched_model({"kind": "sparse_categorical_crossentropy", "price": None})
    given = {"y/kind": np.full(20, 2, np.int64)}
    _, targets = build(model, make_for(model, given, tmp_path / "data.npz"))
    assert targets["kind"].tolist() == [2] * 20
    assert targets["price"].shape == (20, 1)


def test_a_file_may_weigh_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, y=np.zeros((20, 5)), sample_weight=np.arange(20.0), other=np.ones(3))
    model = make_model("mse", "linear")
    _, targets, weights = build(model, make_for(model, read_targets(path, 20), path))
    assert (targets.dtype.name, targets.shape) == ("float32", (20, 5))
    assert weights.tolist() == list(range(20))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            {"y": np.zeros(20)}, "'{path}' has the array 'y'. Expected: y/kind, y/price.", id="one for two outputs"
        ),
        pytest.param(
            {"y/kind": np.zeros(20, np.int32)},
            "'{path}' has no array 'y/price'. Received: y/kind. Expected: y/kind int32 (?), y/price float32 (?).",
            id="one of two",
        ),
        pytest.param(
            {"y/kind": np.zeros(20), "y/prize": np.zeros(20)},
            "'{path}' has the array 'y/prize'. Expected: y/kind, y/price.",
            id="another name",
        ),
    ],
)
def test_targets_that_do_not_fit_the_outputs_are_refused(given: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with pytest.raises(UsageError) as caught:
        make_for(make_branched_model(LOSSES), given, path)
    assert [fault.message for fault in caught.value.faults] == [message.format(path=path)]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        pytest.param(
            np.zeros((20, 4)), "the array 'y' of '{path}' is float64 (20, 4). Expected: float32 (?, 5).", id="shape"
        ),
        pytest.param(
            np.full((20, 5), "a"), "the array 'y' of '{path}' is <U1 (20, 5). Expected: float32 (?, 5).", id="dtype"
        ),
    ],
)
def test_targets_that_do_not_fit_the_data_that_was_seen_are_refused(targets: Any, message: str, tmp_path: Path) -> None:
    model = make_model("mse", "linear")
    model.fit(np.ones((6, 4), np.float32), np.zeros((6, 5), np.float32), verbose=0)
    path = tmp_path / "data.npz"
    with pytest.raises(UsageError) as caught:
        make_for(model, {"y": targets}, path)
    assert [fault.message for fault in caught.value.faults] == [message.format(path=path)]


def test_targets_for_a_model_that_was_trained_without_are_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.ActivityRegularization(0.1)])
    model.compile("sgd")
    model.fit(np.ones((6, 4), np.float32), verbose=0)
    path = tmp_path / "data.npz"
    with pytest.raises(UsageError) as caught:
        make_for(model, {"y": np.zeros(20)}, path)
    assert [fault.message for fault in caught.value.faults] == [
        f"'{path}' has the array 'y', and the model was trained without targets. Leave it out."
    ]
