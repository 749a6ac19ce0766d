"""A model with code of its own, which is trained before it is exported, and goes on.

`python -m interoperability.training FOLDER` writes a folder for each way, with the artifact `model` and `expected.npz`,
which has the rows to come, what `fit` makes of every variable with them, what it and `evaluate` say, and predictions.
"""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.config import SignatureConfig
from exporter.saving.state.collecting import collect_state

from .exports import export
from .training_ways import BATCH, WAYS


class Scale(keras.layers.Layer):
    """A layer that only this module knows."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x: Any) -> Any:
        return x * self.factor


class Classifier(keras.Model):
    """What it computes in training depends on the state of its dropout."""

    def __init__(self) -> None:
        super().__init__(name="classifier")
        self.hidden = keras.layers.Dense(16, activation="relu")
        self.scale = Scale()
        self.dropout = keras.layers.Dropout(0.3)
        self.scores = keras.layers.Dense(3)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.scores(self.dropout(self.scale(self.hidden(x)), training=training))


def make_data(seed: int, count: int) -> tuple[Any, Any]:
    x = np.random.default_rng(seed).normal(size=(count, 4)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype("int64") + (x[:, 0] > 1)


def make_trained(rows: int) -> Classifier:
    keras.utils.set_random_seed(5)
    model = Classifier()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA would compile another program for each runtime.
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(*make_data(1, rows), batch_size=BATCH, shuffle=False, verbose=0)
    return model


def main() -> None:
    """Makes everything in the folder of the command line."""
    folder = Path(sys.argv[1])
    # One thread adds up in one order.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for way, rows in WAYS.items():
        model = make_trained(rows)
        export(
            model,
            folder / way / "model",
            serving_default=SignatureConfig(),
            train=SignatureConfig(method="train"),
            evaluate=SignatureConfig(method="evaluate"),
            reset_metrics=SignatureConfig(method="reset_metrics"),
        )
        x, y = make_data(2, rows)
        history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0).history
        evaluated = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
        logs = {"train": {key: values[0] for key, values in history.items()}, "evaluate": evaluated}
        arrays: dict[str, Any] = {"x": x, "y": y}
        for step, values in logs.items():
            arrays |= {f"{step}/{key}": np.float32(value) for key, value in values.items()}
        for path, variable in collect_state(model).items():
            arrays[f"state/{path}"] = np.asarray(variable.value)
        arrays["predictions"] = tf.function(model, autograph=False)(tf.constant(x)).numpy()
        np.savez(folder / way / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
