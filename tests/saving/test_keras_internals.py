"""What we use of Keras's private code is there, and a model that it builds is the one that Keras builds."""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import keras
import numpy as np
import pytest

import exporter
from exporter.errors import ArtifactError
from exporter.saving.rebuilding import deferral
from exporter.saving.rebuilding.deferral import defer_initialization
from exporter.saving.safety.memory import limit_variables


def make_nested() -> keras.Model:
    inner = keras.Sequential([keras.layers.Dense(3), keras.layers.BatchNormalization()], name="inner")
    return keras.Sequential([keras.Input((4,)), inner, keras.layers.Dropout(0.5), keras.layers.Dense(2)], name="outer")


def make_without_input() -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    model(np.zeros((2, 4), np.float32))
    return model


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_nested, id="sequential inside of sequential"),
        pytest.param(make_without_input, id="built by a call"),
    ],
)
def test_a_sequential_model_is_built_as_by_keras(make: Callable[[], keras.Model]) -> None:
    model = make()
    config = keras.saving.serialize_keras_object(model)
    stock = keras.saving.deserialize_keras_object(config)
    with defer_initialization():
        ours = keras.saving.deserialize_keras_object(config)
    assert ours.built == stock.built == model.built
    assert [v.shape for v in ours.variables] == [v.shape for v in stock.variables]
    assert keras.saving.serialize_keras_object(ours) == keras.saving.serialize_keras_object(stock)
    ours.set_weights(model.get_weights())
    batch = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(ours(batch), model(batch))


def test_each_layer_is_called_once() -> None:
    """Keras calls the first of n layers n times: 400 of them take 20 seconds."""
    model = keras.Sequential([keras.Input((2,)), *(keras.layers.Dense(2) for _ in range(5))])
    with defer_initialization():
        rebuilt = keras.Sequential.from_config(model.get_config())
    assert [len(layer._inbound_nodes) for layer in rebuilt.layers] == [1] * 5
    assert len(keras.Sequential.from_config(model.get_config()).layers[0]._inbound_nodes) > 1


def test_random_values_are_not_drawn_and_others_are_kept() -> None:
    with defer_initialization():
        layer = keras.layers.Dense(2, bias_initializer="ones")
        layer.build((None, 3))
    np.testing.assert_array_equal(layer.kernel, np.zeros((3, 2)))
    np.testing.assert_array_equal(layer.bias, np.ones(2))


@pytest.mark.parametrize(
    ("make", "value"),
    [pytest.param(keras.initializers.Zeros, 0, id="zeros"), pytest.param(keras.initializers.Ones, 1, id="ones")],
)
def test_variables_of_shared_values_change_by_themselves(make: type[keras.Initializer], value: int) -> None:
    with defer_initialization():
        first, second = (keras.Variable(make(), shape=(3,), dtype="float16") for _ in range(2))
    assert second.value.dtype == "float16"
    first.assign_add([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(second, np.full(3, value))
    np.testing.assert_array_equal(first, np.array([1, 2, 3]) + value)


def test_keras_is_as_before_when_it_is_closed() -> None:
    before = list(deferral.find_originals().values())
    with defer_initialization():
        with suppress(KeyError), defer_initialization():
            raise KeyError
        assert vars(keras.Sequential)["from_config"] is not before[1]
    assert list(deferral.find_originals().values()) == before
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert np.any(layer.kernel)


def test_another_thread_builds_as_ever_meanwhile() -> None:
    built: list[keras.layers.Layer] = []

    def build() -> None:
        layer = keras.layers.Dense(2)
        layer.build((None, 3))
        built.append(layer)

    with defer_initialization():
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
        build()
    assert [bool(np.any(layer.kernel)) for layer in built] == [True, False]


@pytest.mark.parametrize("limit_first", [True, False], ids=["limit outside", "limit inside"])
def test_a_variable_is_counted_once_against_the_limit(limit_first: bool) -> None:
    blocks = [defer_initialization(), limit_variables(0)]
    with ExitStack() as stack:
        for block in reversed(blocks) if limit_first else blocks:
            stack.enter_context(block)
        keras.Variable(keras.initializers.RandomNormal(), shape=(3 << 20,))
        with pytest.raises(ArtifactError, match="goes far beyond what the file holds"):
            keras.Variable(keras.initializers.Zeros(), shape=(2 << 20,))
    keras.Variable(keras.initializers.Zeros(), shape=(2 << 20,))


def test_keras_has_what_is_used_of_it() -> None:
    """When this fails, a new Keras loads slowly: look where it moved what `deferral.py` replaces."""
    assert list(deferral.find_originals()) == ["_initialize_with_initializer", "from_config"]
    assert callable(keras.Sequential._maybe_rebuild)


def test_a_model_deeper_than_the_limit_of_recursion_is_loaded(tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    inputs = hidden = keras.Input((1,))
    for _ in range(1300):
        hidden = keras.layers.Identity()(hidden)
    sys.setrecursionlimit(5000)
    try:
        model = keras.Model(inputs, hidden)
    finally:
        sys.setrecursionlimit(limit)
    path = tmp_path / "deep.keras"
    exporter.save_model(model, path)
    assert len(exporter.load_model(path).layers) == 1301
    assert sys.getrecursionlimit() == limit
