"""What the tests of stores export: one small model that was trained, made once in a process."""

from functools import cache
from typing import Any

import numpy as np

from exporter.artifacts.receipt import Receipt
from exporter.config import ExportConfig, VerifyConfig, VerifyMode
from exporter.exporting.job import run_export


@cache
def make_model() -> Any:
    """Four inputs, three outputs, and an optimizer that has made a step."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,), name="pixels"), keras.layers.Dense(3, name="scores")], name="tiny")
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    return model


def run(filepath: str, model: Any = None, **settings: Any) -> Receipt:
    """Exports the model, or what else is given, without a proof unless the settings say so."""
    settings.setdefault("verify", VerifyConfig(mode=VerifyMode.NONE))
    return run_export(ExportConfig(model=model or make_model(), filepath=filepath, **settings))
