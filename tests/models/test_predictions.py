"""The inputs of a proof fit the model, are the same in every process, and leave the model as it was."""

from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from exporter.models.predictions import Predictor, choose_batch_sizes, draw_batch
from exporter.processes.arrays import is_same, largest_difference, read_arrays, write_arrays
from exporter.saving.graph.inputs import describe_inputs


def make_mixed_model() -> Any:
    """Takes a dict of a float image of any size, words, and indices of an embedding."""
    image = keras.Input((None, None, 3), name="image")
    words = keras.Input((2,), dtype="string", name="words")
    index = keras.Input((), dtype="int32", name="index")
    lookup = keras.layers.StringLookup(vocabulary=["red", "green"], output_mode="multi_hot")
    parts = [
        keras.layers.GlobalAveragePooling2D()(image),
        lookup(words),
        keras.layers.Embedding(4, 3)(index),
    ]
    outputs = {"score": keras.layers.Dense(1)(keras.layers.Concatenate()(parts))}
    return keras.Model({"image": image, "words": words, "index": index}, outputs)


def test_batches_fit_the_model_and_its_vocabularies() -> None:
    model = make_mixed_model()
    inputs = describe_inputs(model)
    batch = dict(zip([leaf.name for leaf in inputs.leaves], draw_batch(model, inputs, 50, seed=0), strict=True))

    assert (batch["image"].shape, batch["image"].dtype) == ((50, 32, 32, 3), np.dtype(np.float32))
    assert (batch["index"].shape, batch["index"].dtype) == ((50,), np.dtype(np.int32))
    assert set(batch["index"]) == {0, 1, 2, 3}
    assert set(batch["words"].ravel()) == {"red", "green", "unheard-of"}
    assert Predictor(model, inputs)(draw_batch(model, inputs, 50, seed=0))["score"].shape == (50, 1)


def test_the_seed_decides_the_batch() -> None:
    model = make_mixed_model()
    inputs = describe_inputs(model)
    first, again, other = (draw_batch(model, inputs, 3, seed) for seed in (1, 1, 2))
    assert all(is_same(one, two) for one, two in zip(first, again, strict=True))
    assert not all(is_same(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        pytest.param("float16", "float16", id="half"),
        pytest.param("bfloat16", "bfloat16", id="bfloat16"),
        pytest.param("uint8", "uint8", id="bytes"),
        pytest.param("bool", "bool", id="flags"),
        pytest.param("string", "object", id="strings"),
    ],
)
def test_every_dtype_is_drawn(dtype: str, kind: str) -> None:
    model = keras.Sequential([keras.Input((5,), dtype=dtype), keras.layers.Identity(dtype=dtype)])
    [array] = draw_batch(model, describe_inputs(model), 2, seed=0)
    assert (array.dtype.name, array.shape) == (kind, (2, 5))


def test_the_batch_of_a_stateful_model_is_kept() -> None:
    model = keras.Sequential([keras.Input((7, 3), batch_size=4), keras.layers.LSTM(1, stateful=True)])
    assert choose_batch_sizes(describe_inputs(model).leaves, [1, 2, 3]) == (4,)


def test_sizes_are_taken_once_and_in_order() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    assert choose_batch_sizes(describe_inputs(model).leaves, [2, 1, 2]) == (2, 1)


@keras.saving.register_keras_serializable("test_predictions")
class Restless(keras.layers.Layer):
    """Draws random numbers, counts its calls and adds a loss, also when it only predicts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(3)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs: Any) -> Any:
        self.count.assign_add(1.0)
        self.add_loss(keras.ops.sum(inputs))
        return inputs + keras.random.uniform(keras.ops.shape(inputs), seed=self.generator)


@pytest.mark.parametrize("eager", [False, True], ids=["traced", "eager"])
def test_a_prediction_leaves_a_restless_model_as_it_was(eager: bool) -> None:
    model = keras.Sequential([keras.Input((3,)), Restless()])
    inputs = describe_inputs(model)
    before = [np.array(variable) for variable in model.variables]
    predictor = Predictor(model, inputs, eager=eager)
    batch = draw_batch(model, inputs, 2, seed=0)

    [first], [second] = predictor(batch).values(), predictor(batch).values()

    assert is_same(first, second)
    assert all(np.array_equal(old, variable) for old, variable in zip(before, model.variables, strict=True))
    assert model.losses == []


def test_a_prediction_leaves_the_state_of_a_recurrent_layer_as_it_was() -> None:
    layer = keras.layers.LSTM(3, stateful=True)
    model = keras.Sequential([keras.Input((7, 5), batch_size=4), layer])
    inputs = describe_inputs(model)
    batch = draw_batch(model, inputs, 4, seed=0)
    model.predict_on_batch(batch[0])
    before = [state.numpy() for state in layer.states]
    predictor = Predictor(model, inputs)

    [first], [second] = predictor(batch).values(), predictor(batch).values()

    assert is_same(first, second)
    assert any(state.any() for state in before)
    assert all(np.array_equal(old, state.numpy()) for old, state in zip(before, layer.states, strict=True))


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.arange(6, dtype=np.int64).reshape(2, 3), id="integers"),
        pytest.param(np.array(1.5, np.float16), id="scalar"),
        pytest.param(np.zeros((0, 3), np.float32), id="empty"),
        pytest.param(np.array([1, 2.5, np.nan], ml_dtypes.bfloat16), id="bfloat16"),
        pytest.param(np.array([True, False]), id="flags"),
    ],
)
def test_arrays_come_back_from_a_file(array: Any, tmp_path: Path) -> None:
    write_arrays(tmp_path / "arrays", {"a/b": array})
    [(name, read)] = read_arrays(tmp_path / "arrays").items()
    assert name == "a/b"
    assert is_same(array, read)


def test_strings_come_back_as_bytes(tmp_path: Path) -> None:
    words = np.array([["a", "ü"], ["", "with\0zero\0"]], dtype=object)
    write_arrays(tmp_path / "arrays", {"words": words})
    assert read_arrays(tmp_path / "arrays")["words"].tolist() == [[b"a", "ü".encode()], [b"", b"with\0zero\0"]]


@pytest.mark.parametrize(
    ("first", "second", "same", "difference"),
    [
        pytest.param([1.0, np.nan], [1.0, np.nan], True, 0.0, id="equal with NaN"),
        pytest.param([1.0, np.nan], [1.0, 2.0], False, float("inf"), id="NaN in one"),
        pytest.param([1.0, np.inf], [1.5, np.inf], False, 0.5, id="infinities are equal"),
        pytest.param([0.0], [-0.0], False, 0.0, id="the sign of zero"),
    ],
)
def test_differences_are_measured(first: list[float], second: list[float], same: bool, difference: float) -> None:
    left, right = np.array(first, np.float32), np.array(second, np.float32)
    assert is_same(left, right) is same
    assert largest_difference(left, right) == difference


def test_another_dtype_is_never_the_same() -> None:
    assert not is_same(np.zeros(2, np.float32), np.zeros(2, np.float64))
    assert largest_difference(np.array([b"a"], object), np.array([b"b"], object)) is None


class Prices(keras.layers.Layer):
    """Looks up in a table, whose keys are given."""

    def __init__(self, keys: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        keys = tf.constant(keys)
        self.table = tf.lookup.experimental.MutableHashTable(keys.dtype, tf.float32, 0.0)
        self.table.insert(keys, tf.ones(keys.shape))

    def call(self, inputs: Any) -> Any:
        return tf.ensure_shape(self.table.lookup(inputs), inputs.shape)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, "float32")


@pytest.mark.parametrize(
    ("layer", "dtype", "known"),
    [
        pytest.param(lambda: Prices(["red", "green"]), "string", {"red", "green", "unheard-of"}, id="table of words"),
        pytest.param(lambda: Prices([700, 900]), "int32", {700, 900, *range(10)}, id="table of integers"),
        pytest.param(
            lambda: keras.layers.IntegerLookup(vocabulary=[70, 90]), "int64", {70, 90, *range(10)}, id="vocabulary"
        ),
        pytest.param(lambda: keras.layers.Embedding(4, 2), "int32", set(range(4)), id="embedding"),
        pytest.param(
            lambda: keras.layers.CategoryEncoding(num_tokens=3, output_mode="one_hot"),
            "int32",
            set(range(3)),
            id="one-hot",
        ),
    ],
)
def test_a_batch_reaches_what_the_layer_knows_that_takes_it(layer: Any, dtype: str, known: set[Any]) -> None:
    first, second = keras.Input((1,), dtype=dtype, name="first"), keras.Input((1,), dtype="int32", name="second")
    model = keras.Model([first, second], [layer()(first), keras.layers.Embedding(2, 1)(second)])
    drawn = draw_batch(model, describe_inputs(model), 200, seed=0)
    assert set(drawn[0].reshape(-1).tolist()) == known
    assert set(drawn[1].reshape(-1).tolist()) == {0, 1}
