"""Artifacts of every format and writer, made once; and a process that cannot import TensorFlow or Keras."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_BLOCKER = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "tf_keras", "hydra", "omegaconf"):
            raise RuntimeError(f"{name} was imported")


sys.meta_path.insert(0, Blocker())
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def light_command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs `exporter` in a process that can import neither TensorFlow nor Keras nor Hydra; warnings are errors."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "sitecustomize.py").write_text(_BLOCKER)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "exporter", *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )

    return run


def make_scale() -> Any:
    """Makes a layer that Keras does not have."""
    import keras

    class Scale(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")

        def call(self, values: Any) -> Any:
            return values * self.w

    return keras.saving.register_keras_serializable("tests")(Scale)()


def make_model(*further: Any) -> Any:
    """Makes a small model with everything: slots, a seed generator, weights that are not trained."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,), name="pixels"),
            keras.layers.Dense(4, activation="relu", name="hidden"),
            keras.layers.Dropout(0.5, name="drop"),
            *further,
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="scores"),
        ],
        name="tiny",
    )
    model.compile("adam", "mse", metrics=["mae"])
    model.train_on_batch(np.ones((4, 8), np.float32), np.ones((4, 2), np.float32))
    return model


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The artifacts by name."""
    import tensorflow as tf
    import tf_keras

    import exporter

    folder = tmp_path_factory.mktemp("artifacts")
    paths = {
        name: folder / name
        for name in (
            *("ours", "ours.h5", "ours.keras", "custom", "sharded"),
            *("keras.h5", "keras.keras", "keras.weights.h5", "keras_export", "module"),
            *("keras_2", "keras_2.h5"),
        )
    }
    model = make_model()
    for name in ("ours", "ours.h5", "ours.keras"):
        exporter.save_model(model, paths[name])
    options = tf.saved_model.SaveOptions(
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(64), extra_tags=["gpu"]
    )
    exporter.save_model(model, paths["sharded"], options=options)
    model.save(paths["keras.keras"])
    model.save_weights(paths["keras.weights.h5"])
    model.export(paths["keras_export"], verbose=False)
    with warnings.catch_warnings(action="ignore"):  # Keras calls its own format a legacy
        model.save(paths["keras.h5"])
    exporter.save_model(make_model(make_scale()), paths["custom"])

    module = tf.Module()
    module.v = tf.Variable([1.0, 2.0])
    module.read = tf.function(lambda name: tf.io.read_file(name), input_signature=[tf.TensorSpec([], tf.string)])
    tf.saved_model.save(module, str(paths["module"]), signatures={"read": module.read})

    older = tf_keras.Sequential([tf_keras.layers.InputLayer((8,)), tf_keras.layers.Dense(2, name="scores")])
    older.compile("adam", "mse")
    older.train_on_batch(np.ones((4, 8)), np.ones((4, 2)))
    with warnings.catch_warnings(action="ignore"):
        older.save(paths["keras_2.h5"])
        older.save(paths["keras_2"], save_format="tf")
    return paths
