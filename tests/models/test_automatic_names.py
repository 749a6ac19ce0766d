"""A name that Keras numbers by what else the process has made is not a difference between models."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import exporter
from exporter.verification.checks.state.compilation import describe_compilation
from exporter.verification.comparing.facts import find_differences


@keras.saving.register_keras_serializable("automatic")
class SelfCompiling(keras.Model):
    """Compiles itself when it is made, as the tasks of KerasHub do."""

    def __init__(self, units: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.dense = keras.layers.Dense(units)
        self.compile()

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", **options: Any) -> None:
        optimizer = keras.optimizers.Adam(1e-3) if optimizer == "auto" else optimizer
        super().compile(optimizer=optimizer, loss="mean_squared_error" if loss == "auto" else loss, **options)

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize("save_format", ["keras", "tf"])
def test_the_second_model_that_compiles_itself_is_proven(save_format: str, tmp_path: Path) -> None:
    SelfCompiling()
    model = SelfCompiling()
    model.build((None, 3))
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert model.optimizer.name != "adam"

    receipt = exporter.export(model, tmp_path / "model", save_format=save_format)

    assert [check.name for check in receipt.checks if check.name in ("optimizer", "compile")] == [
        "optimizer",
        "compile",
    ]


def compiled(optimizer: Any, metric: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mean_squared_error", metrics=[metric])
    return model


def test_only_an_automatic_name_is_left_out() -> None:
    expected = describe_compilation(compiled(keras.optimizers.Adam(name="adam_7"), keras.metrics.Mean(name="mean_3")))[
        "compile"
    ]
    received = describe_compilation(compiled(keras.optimizers.Adam(name="mine"), keras.metrics.Mean(name="mean")))[
        "compile"
    ]
    assert find_differences(expected, received) == ["optimizer.config.name was None and is 'mine'"]
