"""A model that predicts by code of its own does so without that code, or says that it cannot."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from exporter import load_model, save_model
from exporter.errors import ArgumentError
from exporter.saving.contents import Omission
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest

_BATCH = np.random.default_rng(3).normal(size=(7, 4)).astype("float32")


class Scorer(keras.Model):
    """Gives numbers when it is called, and names when it predicts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score = keras.layers.Dense(3)
        self.threshold = self.add_weight(name="threshold", shape=(), initializer="ones", trainable=False)

    def call(self, inputs: Any) -> Any:
        return self.score(inputs)

    def predict_step(self, data: Any) -> Any:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        scores = self(inputs, training=False)
        return {"sure": scores > self.threshold, "best": tf.argmax(scores, axis=-1)}


class Counter(Scorer):
    """Counts its predictions."""

    def predict_step(self, data: Any) -> Any:
        self.threshold.assign_add(1.0)
        return self(data) + self.threshold


class Graph(keras.Model):
    """Is made of a graph of Keras's own layers."""

    def predict_step(self, data: Any) -> Any:
        return keras.ops.softmax(self(data, training=False))


class Eager(Scorer):
    """Predicts by Python."""

    def predict_step(self, data: Any) -> Any:
        return tf.constant(np.sort(self(data).numpy()))


class Around(Scorer):
    """Does something around its steps."""

    def predict(self, x: Any, **kwargs: Any) -> Any:
        return {name: value[:2] for name, value in super().predict(x, **kwargs).items()}


def _make(kind: Any, compiled: bool = False) -> keras.Model:
    if kind is Graph:
        inputs = keras.Input((4,))
        model = Graph(inputs, keras.layers.Dense(3)(inputs))
    else:
        model = kind()
        model(_BATCH[:1])
    if compiled:
        model.compile("adam", "mse", jit_compile=False)
        model.fit(_BATCH, np.ones((7, 3)), verbose=0)
    return model


def _check_same(expected: Any, received: Any) -> None:
    assert keras.tree.map_structure(lambda leaf: None, expected) == keras.tree.map_structure(
        lambda leaf: None, received
    )
    for one, other in zip(keras.tree.flatten(expected), keras.tree.flatten(received), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("compiled", [False, True], ids=["uncompiled", "compiled"])
@pytest.mark.parametrize("kind", [Scorer, Counter, Graph], ids=lambda kind: kind.__name__)
def test_predicts_as_the_original_without_its_code(kind: Any, compiled: bool, tmp_path: Path) -> None:
    model = _make(kind, compiled)
    save_model(model, tmp_path / "model")
    revived = load_model(tmp_path / "model")
    save_model(revived, tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert (type(revived).__module__, type(again).__module__) == ("exporter.saving.revival",) * 2
    for size in (2, 7):  # a model that counts goes on from what it counted
        expected = model.predict(_BATCH, batch_size=size, verbose=0)
        _check_same(expected, revived.predict(_BATCH, batch_size=size, verbose=0))
        _check_same(expected, again.predict(_BATCH, batch_size=size, verbose=0))


def test_predicts_with_its_code_where_that_is_at_hand(tmp_path: Path) -> None:
    save_model(_make(Scorer), tmp_path / "model")
    loaded = load_model(tmp_path / "model", custom_objects={"Scorer": Scorer})
    assert type(loaded) is Scorer
    assert "predict_step" not in vars(loaded)


def test_says_that_it_holds_the_step(tmp_path: Path) -> None:
    contents = plan_save(SaveRequest(_make(Scorer), tmp_path / "model")).write(tmp_path / "model")
    assert [each.detail for each in contents.held if each.what == "functions"] == [
        "inference, prediction step: it lives on without the code of Scorer"
    ]


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        (
            Eager,
            "predict_step",
            "it cannot be traced: AttributeError: 'SymbolicTensor' object has no attribute 'numpy'",
        ),
        (Around, "predict", "it is Python code around the steps"),
    ],
    ids=["python", "predict"],
)
def test_what_cannot_be_saved_is_left_out_and_refused(kind: Any, name: str, why: str, tmp_path: Path) -> None:
    model = _make(kind)
    contents = plan_save(SaveRequest(model, tmp_path / "model")).write(tmp_path / "model")
    found = [each for each in contents.left_out if each.what == name]
    assert found == [Omission(name, f"{why}. Without the code of {kind.__name__} a loaded model refuses it")]

    revived = load_model(tmp_path / "model")
    with pytest.raises(ArgumentError) as caught:
        revived.predict(_BATCH, verbose=0)
    assert str(caught.value) == (
        f"The model's own `{name}` was not saved, since {why}. Call the model itself, or load it with the code of "
        f"{kind.__name__}."
    )
    np.testing.assert_array_equal(revived(_BATCH), model(_BATCH))  # both remedies
    again = load_model(tmp_path / "model", custom_objects={kind.__name__: kind})
    again.run_eagerly = True
    model.run_eagerly = True
    _check_same(model.predict(_BATCH, verbose=0), again.predict(_BATCH, verbose=0))


def test_an_artifact_of_before_has_no_step_of_prediction(tmp_path: Path) -> None:
    from exporter.saving.functions.records import Functions

    text = '{"units": [], "steps": {}, "missing": [], "methods": [], "compile_config": null}'
    assert Functions.from_json(text) == Functions((), {}, (), (), None)
