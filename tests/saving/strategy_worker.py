"""One process of a test of distributed models: it has two logical devices, and a strategy over both.

`python -c "from saving.strategy_worker import main; main()" ROLE FOLDER`. The role is `make`: it trains, saves and goes
on; `resume`: it loads with the code and goes on; or `revive`: it does so without the code. What went on in a case is
pickled in the case's sub-folder, a traceback in place of a failure.
"""

import gc
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf

import exporter
from exporter.saving.state.collecting import collect, to_array
from exporter.saving.state.replicas import add_replicas

NAMES = {"h5": "model.h5", "keras": "model.keras", "tf": "model"}
_BATCH = 8
_ROWS = 48


@keras.saving.register_keras_serializable("strategies")
class Scale(keras.layers.Layer):
    """Multiplies, and counts its calls on every replica for itself."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")
        self.calls = keras.Variable(0.0, trainable=False, synchronization="on_read", aggregation="sum", name="calls")
        self.unread = keras.Variable(7.0, trainable=False, synchronization="on_read", aggregation="none", name="unread")

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1.0)
        return inputs * self.factor


@keras.saving.register_keras_serializable("strategies")
class Net(keras.Model):
    """Trains by code of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(5, activation="relu")
        self.drop = keras.layers.Dropout(0.3)
        self.score = keras.layers.Dense(2)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.score(self.drop(self.hidden(inputs), training=training))

    def train_step(self, data: Any) -> Any:
        inputs, targets = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, targets, self(inputs, training=True))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def _make_sequential(*middle: Any, optimizer: Any = "adam") -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, "relu"), *middle, keras.layers.Dense(2)])
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def _make_plain() -> keras.Model:
    return _make_sequential(keras.layers.Dropout(0.3))


def _make_normalized() -> keras.Model:
    return _make_sequential(keras.layers.BatchNormalization(), keras.layers.Dropout(0.3))


def _make_mixed() -> keras.Model:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        # Under a strategy Keras takes a step also where a gradient overflows, so the scale is small.
        scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=64.0)
        return _make_sequential(keras.layers.BatchNormalization(), keras.layers.Dropout(0.3), optimizer=scaled)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def _make_accumulating() -> keras.Model:
    return _make_sequential(
        keras.layers.Dropout(0.3), optimizer=keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
    )


def _make_averaging() -> keras.Model:
    return _make_sequential(keras.layers.Dropout(0.3), optimizer=keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True))


def _make_custom() -> keras.Model:
    return _make_sequential(Scale(), keras.layers.Dropout(0.3))


def _make_subclassed() -> keras.Model:
    model = Net()
    model(np.zeros((1, 4), "float32"))
    model.compile("adam", "mse", jit_compile=False)
    return model


CASES: dict[str, Callable[[], keras.Model]] = {
    "plain": _make_plain,
    "batch_statistics": _make_normalized,
    "mixed_precision": _make_mixed,
    "accumulating": _make_accumulating,
    "averaging": _make_averaging,
    "custom_layer": _make_custom,
    "own_step": _make_subclassed,
}
# Keras itself cannot train these under a strategy: `merge_call` called while defining a new graph.
UNTRAINED = ("accumulating", "averaging")
FORMATS = {name: ("keras", "tf") if name == "own_step" else ("h5", "keras", "tf") for name in CASES}
REVIVED = ("custom_layer", "own_step")
EXPORTED = {"batch_statistics": ("h5", "keras", "tf"), "custom_layer": ("tf",)}

_generator = np.random.default_rng(0)
_X = _generator.normal(size=(_ROWS, 4)).astype("float32")
_Y = _generator.normal(size=(_ROWS, 2)).astype("float32")


def _fit(model: keras.Model, start: int, stop: int) -> Any:
    return model.fit(_X[start:stop], _Y[start:stop], batch_size=_BATCH, shuffle=False, verbose=0).history


def _describe(model: keras.Model) -> dict[str, Any]:
    """Returns the state with that of each replica, and what the model answers on one device and on all."""
    return {
        "state": {path: np.array(to_array(variable)) for path, variable in collect(model).variables.items()},
        "replicas": {
            path: np.array(to_array(variable)) for path, variable in add_replicas(collect(model)).variables.items()
        },
        "called": model(_X, training=False).numpy(),
        "predicted": model.predict(_X, batch_size=_BATCH, verbose=0),
    }


def _go_on(name: str, model: keras.Model) -> dict[str, Any]:
    history = None if name in UNTRAINED else _fit(model, _ROWS // 2, _ROWS)
    return {"history": history, **_describe(model)}


def _make(name: str, place: Path, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = CASES[name]()
    if name not in UNTRAINED:
        _fit(model, 0, _ROWS // 2)
    made: dict[str, Any] = {"saved": _describe(model)}
    for save_format in FORMATS[name]:
        exporter.save_model(model, place / NAMES[save_format], save_format=save_format)
    if name in REVIVED:
        with strategy.scope():
            exporter.save_model(model, place / "within", save_format="tf")
    for save_format in EXPORTED.get(name, ()):
        target = place / f"exported_{NAMES[save_format]}"
        made[save_format] = exporter.export(model, target, save_format=save_format).status
    made["untouched"] = _describe(model)
    return {**made, "continued": _go_on(name, model)}


def _resume(name: str, place: Path, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    for save_format in FORMATS[name]:
        path = place / NAMES[save_format]
        keras.utils.set_random_seed(99)
        with strategy.scope():
            model = exporter.load_model(path)
        outcome[save_format] = {"saved": _describe(model), "continued": _go_on(name, model)}
        alone = exporter.load_model(path)
        outcome[save_format]["outside"] = _describe(alone)
        if name in REVIVED and save_format == "tf":
            outcome["continued outside"] = _go_on(name, alone)
    return outcome


def _revive(name: str, place: Path, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    keras.saving.get_custom_objects().clear()
    alone = exporter.load_model(place / "model")
    outcome: dict[str, Any] = {"outside": _describe(alone), "continued outside": _go_on(name, alone)}
    with strategy.scope():
        model = exporter.load_model(place / "model")
    outcome["saved"] = _describe(model)
    try:
        outcome["continued"] = _go_on(name, model)
    except exporter.ArgumentError as error:
        outcome["error"] = str(error)
    return outcome


def main() -> None:
    """Runs every case in the role of the command line."""
    role, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    # The graphs are of many small objects: a tenth of the time would go into looking for garbage among them.
    gc.freeze()
    gc.set_threshold(50_000)
    # What rewrites a graph for speed takes longer here than it saves.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    [processor] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    act = {"make": _make, "resume": _resume, "revive": _revive}[role]
    for name in REVIVED if role == "revive" else CASES:
        place = Path(folder, name)
        place.mkdir(exist_ok=True)
        keras.utils.clear_session(free_memory=False)
        try:
            outcome: Any = act(name, place, strategy)
        except Exception:
            outcome = traceback.format_exc()
        (place / f"{role}.pickle").write_bytes(pickle.dumps(outcome))
