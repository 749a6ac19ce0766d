"""The proof finds batches that a model takes, also where only the model's errors say what that is."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter.errors import ModelError, UsageError
from exporter.models.predictions import Drawing, Predictor
from exporter.saving.graph.inputs import describe_inputs
from exporter.verification.drawings import find_drawing


@keras.saving.register_keras_serializable("test_drawings")
class Positions(keras.layers.Layer):
    """Has a weight for each of so many positions, as the position embeddings of language models do."""

    def __init__(self, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(self.most, shape[-1]), name="table")

    def call(self, inputs: Any) -> Any:
        return inputs + tf.slice(self.table, [0, 0], [tf.shape(inputs)[1], -1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "most": self.most}


@keras.saving.register_keras_serializable("test_drawings")
class Picky(keras.layers.Layer):
    """Takes numbers up to a limit only."""

    def __init__(self, limit: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit

    def call(self, inputs: Any) -> Any:
        tf.debugging.assert_less_equal(tf.abs(inputs), tf.cast(self.limit, inputs.dtype), message="too large for me")
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limit": self.limit}


class Picked(keras.layers.Layer):
    """Takes one item of a sequence for each position, as a masked language model does."""

    def call(self, inputs: Any) -> Any:
        return tf.gather(inputs[0], inputs[1], batch_dims=1)


def make_positions(most: int) -> Any:
    return keras.Sequential([keras.Input((None, 2)), Positions(most)])


def make_picky(limit: float) -> Any:
    return keras.Sequential([keras.Input((3,), name="keras_tensor"), Picky(limit)])


def make_picked() -> Any:
    inputs = [keras.Input((None, 2)), keras.Input((4,), dtype="int32")]
    return keras.Model(inputs, Picked()(inputs))


def make_strided() -> Any:
    return keras.Sequential([keras.Input((None, 1)), keras.layers.Conv1D(2, 40, strides=8)])


def make_fixed_side() -> Any:
    return keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 50)])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: make_positions(8), Drawing(), id="takes the usual"),
        pytest.param(lambda: make_positions(3), Drawing(2, 8, 2), id="short sequences only"),
        pytest.param(make_strided, Drawing(64, 224, 32), id="long sequences only"),
        pytest.param(make_fixed_side, Drawing(1, 64, 1), id="large images only"),
        pytest.param(lambda: make_picky(1.0), Drawing(narrow=True), id="small numbers only"),
        pytest.param(make_picked, Drawing(16, 128, 24), id="indices of the sequence"),
        pytest.param(lambda: make_picky(-1.0), Drawing(), id="nothing"),
    ],
)
def test_a_batch_that_the_model_takes_is_found(make: Any, expected: Drawing) -> None:
    model = make()
    inputs = describe_inputs(model)
    assert find_drawing(model, inputs, Predictor(model, inputs), 3, 0) == expected


@pytest.mark.parametrize("save_format", ["tf", "keras"])
def test_a_model_of_short_sequences_is_proven(save_format: str, tmp_path: Path) -> None:
    receipt = exporter.export(make_positions(3), tmp_path / "model", save_format=save_format)

    assert [check.figure for check in receipt.checks if check.name == "predictions"] == ["bit-equal"]


@pytest.mark.parametrize("mode", ["full", "reload"])
def test_says_what_to_do_where_the_model_takes_nothing(mode: str, tmp_path: Path) -> None:
    model = make_picky(0.001)
    with pytest.raises(ModelError) as caught:
        exporter.export(model, tmp_path / "model", verify={"mode": mode})

    first, takes, remedy = str(caught.value).splitlines()
    assert first.startswith("The model takes no batch that was drawn to verify it, and nothing was published. Inv")
    assert "too large for me" in first
    assert takes == "It says that it takes: keras_tensor float32 (?, 3)."
    assert remedy == (
        "Name an .npz file with an array for each of these, which the model takes, in `verify.data`, or publish "
        "without a proof: verify='none'."
    )
    assert not list(tmp_path.iterdir())

    np.savez(tmp_path / "batch.npz", keras_tensor=np.zeros((2, 3), np.float32))
    exporter.export(model, tmp_path / "model", verify={"mode": mode, "data": str(tmp_path / "batch.npz")})
    exporter.export(model, tmp_path / "unproven", verify={"mode": "none"})


def test_says_that_the_model_does_not_take_the_arrays_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, keras_tensor=np.ones((2, 3), np.float32))
    with pytest.raises(UsageError) as caught:
        exporter.export(make_picky(0.001), tmp_path / "model", verify={"data": str(path)})

    assert str(caught.value).startswith(f"verify.data: the model does not take the arrays of '{path}': InvalidArg")
