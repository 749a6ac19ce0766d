"""The training step of a proof: taken eagerly or traced once, and the same one whatever the model did before."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.backend.common.stateless_scope import in_stateless_scope

import exporter
from exporter.models.training.steps import take_step
from exporter.saving.graph.inputs import InputLeaf, Inputs
from exporter.verification.comparing.facts import describe_variables

SPECS = Inputs((InputLeaf("x", (3, 2), "float32"), InputLeaf("y", (3, 1), "float32")), (0, 1))
ARRAYS = (np.ones((3, 2), "float32"), np.zeros((3, 1), "float32"))

TRACES: list[Any] = []


@keras.saving.register_keras_serializable(package="training steps")
class OwnMetric(keras.metrics.Mean):
    """One of a user; where it is told so, it cannot be made ahead of a step."""

    fails_ahead = False

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if self.fails_ahead and in_stateless_scope():
            raise TypeError("only in a step")
        return super().update_state(y_pred)


@keras.saving.register_keras_serializable(package="training steps")
class CountedLayer(keras.layers.Layer):
    """Notes each trace of it in training."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            TRACES.append(inputs)
        return inputs


def make_model() -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), CountedLayer(), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae", OwnMetric()], jit_compile=False)
    return model


@pytest.mark.parametrize("fails_ahead", [False, True], ids=["made ahead", "made in the step"])
def test_a_loaded_model_takes_the_step_of_one_that_was_trained(
    fails_ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnMetric, "fails_ahead", fails_ahead)
    model = make_model()
    model.fit(*ARRAYS, verbose=0)
    loaded = exporter.load_model(exporter.save_model(model, tmp_path / "model.keras"))
    TRACES.clear()
    take_step(loaded, SPECS, ARRAYS, eager=False)
    assert len(TRACES) == 1  # TensorFlow traces a step anew that makes variables
    take_step(model, SPECS, ARRAYS, eager=False)
    assert describe_variables(loaded) == describe_variables(model)
    assert loaded.get_metrics_result().keys() == model.get_metrics_result().keys()
