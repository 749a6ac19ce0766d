"""A model that no graph can hold is refused for a SavedModel in words, and saved in another format."""

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

import exporter
from exporter.errors import ModelError
from exporter.text.failures import find_own_place


@keras.saving.register_keras_serializable("test_tracing")
class Counting(keras.layers.Layer):
    """Takes the length of a sequence as a number of Python."""

    def call(self, inputs: Any) -> Any:
        return sum(inputs[:, number] for number in range(tf.shape(inputs)[1]))

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], shape[2])


def test_says_that_a_model_cannot_be_traced(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, 2)), Counting()], name="model")
    with pytest.raises(ModelError) as caught:
        exporter.save_model(model, tmp_path / "model")

    place = find_own_place(caught.value.__cause__ or caught.value)
    assert place.endswith("test_tracing.py:20 in call")
    assert str(caught.value) == (
        "'model' cannot be traced as a TensorFlow function of its inputs, which a SavedModel holds: TypeError: "
        f"'SymbolicTensor' object cannot be interpreted as an integer ({place}). Save it with save_format='keras', or "
        "let its `call` take inputs of any size."
    )
    assert not list(tmp_path.iterdir())

    exporter.save_model(model, tmp_path / "model.keras")
    loaded = exporter.load_model(tmp_path / "model.keras")
    inputs = tf.random.normal((2, 3, 2))
    assert (loaded(inputs).numpy() == model(inputs).numpy()).all()
