"""State that no attribute of a model leads to: refused by name, or held by the functions of a SavedModel."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter.errors import ModelError
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest
from exporter.saving.state.collecting import collect_state

GAIN = tf.Variable(3.0, name="gain")
PRICES = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)
PRICES.insert(tf.constant([0, 1], tf.int64), [0.5, 0.25])
NUMBERS = iter(tf.data.Dataset.from_tensors(1.0).repeat())

ROWS = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)


class Shaped(keras.layers.Layer):
    """Gives what it takes the shape of."""

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, inputs.dtype)


@keras.saving.register_keras_serializable("captures")
class GlobalVariable(Shaped):
    def call(self, inputs: Any) -> Any:
        return inputs * GAIN


@keras.saving.register_keras_serializable("captures")
class GlobalTable(Shaped):
    def call(self, inputs: Any) -> Any:
        return inputs * tf.ensure_shape(PRICES.lookup(tf.cast(inputs > 0, tf.int64)), inputs.shape)


@keras.saving.register_keras_serializable("captures")
class GlobalIterator(Shaped):
    def call(self, inputs: Any) -> Any:
        return inputs * next(NUMBERS)


@keras.saving.register_keras_serializable("captures")
class OwnVariable(Shaped):
    """Follows the remedy of the error."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gain = tf.Variable(3.0)

    def call(self, inputs: Any) -> Any:
        return inputs * self.gain


def make_model(layer: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)], name="small")


def describe_refusal(names: str) -> str:
    return (
        "The model 'small' uses variables or tables that are not attributes of the model or of its layers, so that "
        f"they cannot be restored: {names}. Keep each as an attribute of the layer or the model that uses it; or save "
        "the model with save_format='tf', where its functions hold what they use."
    )


HELD_BY_FUNCTIONS = [
    pytest.param(GlobalVariable, "the variable 'gain' (float32, shape ())", id="variable"),
    pytest.param(GlobalTable, "a lookup table (MutableHashTable)", id="table"),
]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(("kind", "names"), HELD_BY_FUNCTIONS)
def test_a_file_refuses_what_nothing_leads_to(kind: Any, names: str, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        exporter.save_model(make_model(kind()), tmp_path / f"model{suffix}")
    assert str(caught.value) == describe_refusal(names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "names"), HELD_BY_FUNCTIONS)
def test_the_functions_of_a_saved_model_hold_it(kind: Any, names: str, tmp_path: Path) -> None:
    model = make_model(kind())
    contents = plan_save(SaveRequest(model, tmp_path / "model")).write(tmp_path / "model")
    why = (
        f"the model uses {names}, which is no attribute of the model or of a layer. The artifact holds the model as "
        "TensorFlow functions instead. Keep it as an attribute of the layer that uses it, to have the configuration "
        "saved"
    )
    assert [(each.what, each.why) for each in contents.left_out] == [("Keras configuration", why)]
    expected = model(ROWS)
    loaded = exporter.load_model(tmp_path / "model")
    gain, former = GAIN.numpy(), PRICES.export()
    try:  # the loaded model does not share what the class of the layer uses
        GAIN.assign(100.0)
        PRICES.insert(tf.constant([0, 1], tf.int64), [100.0, 100.0])
        np.testing.assert_array_equal(loaded(ROWS), expected)
    finally:
        GAIN.assign(gain)
        PRICES.insert(*former)
    assert "captured/0" in collect_state(loaded) or kind is GlobalTable


def test_the_remedy_works(tmp_path: Path) -> None:
    model = make_model(OwnVariable())
    model.layers[0].gain.assign(5.0)
    for name in ("model", "model.keras", "model.h5"):
        loaded = exporter.load_model(exporter.save_model(model, tmp_path / name))
        assert isinstance(loaded.layers[0], OwnVariable)
        np.testing.assert_array_equal(loaded(ROWS), model(ROWS))


@pytest.mark.parametrize("name", ["model", "model.keras", "model.h5"])
def test_what_is_neither_a_variable_nor_a_table_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        exporter.save_model(make_model(GlobalIterator()), tmp_path / name)
    assert str(caught.value) == (
        "The model 'small' uses state that cannot be saved: a resource of TensorFlow that is neither a variable nor a "
        "table, such as an iterator. Give the model what it gets from there as an input, or keep it in a variable."
    )
    assert list(tmp_path.iterdir()) == []


def test_what_only_a_training_step_uses_is_found(tmp_path: Path) -> None:
    class Stepping(keras.Model):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.last = keras.layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.last(inputs)

        def train_step(self, data: Any) -> Any:
            GAIN.assign_add(0.0)
            return super().train_step(data)

    model = Stepping(name="small")
    model.compile("sgd", "mse")
    model.fit(ROWS, np.zeros((3, 2), np.float32), verbose=0)
    with pytest.raises(ModelError) as caught:
        exporter.save_model(model, tmp_path / "model.keras")
    assert str(caught.value) == describe_refusal("the variable 'gain' (float32, shape ())")
