"""A small model in every format, for the files that are made of it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import keras


def make_model() -> "keras.Model":
    """Makes a model with weights, an optimizer's state and a random state."""
    import keras
    import numpy as np

    layers = [
        keras.Input((4,), name="features"),
        keras.layers.Dense(3, "relu", name="hidden"),
        keras.layers.Dropout(0.5, name="dropout"),
        keras.layers.Dense(2, name="scores"),
    ]
    model = keras.Sequential(layers, name="small")
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((4, 4)), np.ones((4, 2)))
    return model


def read_members(path: Path) -> dict[str, bytes]:
    """Reads a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """Writes a `.keras` archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The artifacts that are whole, by format; `stock.h5` and `stock.keras` are Keras's own, `graph` TensorFlow's."""
    import warnings

    import tensorflow as tf

    import exporter

    folder = tmp_path_factory.mktemp("originals")
    names = ("tf", "h5", "keras", "stock.h5", "stock.keras", "graph")
    paths = {name: folder / (f"model.{name}" if name != "tf" else "model") for name in names}
    model = make_model()
    for name in ("tf", "h5", "keras"):
        exporter.save_model(model, paths[name], save_format=name)
    model.save(paths["stock.keras"])
    with warnings.catch_warnings(action="ignore"):  # Keras calls its own format a legacy
        model.save(paths["stock.h5"])  # the last: it takes the optimizer out of the model's compile configuration
    module = tf.Module()
    module.weight = tf.Variable([2.0])
    module.scale = tf.function(lambda x: x * module.weight, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(paths["graph"]), signatures=module.scale)
    return paths
