"""A constraint and a metric of tf.keras 1.13 to 2.15."""

from typing import Any

import keras
import numpy as np

from exporter.typing.structures import Config


@keras.saving.register_keras_serializable("exporter")
class RadialConstraint(keras.constraints.Constraint):
    """Gives all that is equally far from the middle of a square kernel one value: that on the diagonal, as tf.keras."""

    def __call__(self, w: Any) -> Any:
        """Returns a kernel of the shape [size, size, inputs, outputs]."""
        size = int(w.shape[0])
        middle, is_even = size // 2, size % 2 == 0
        distances = np.abs(np.arange(size) - (size - 1) / 2).astype(int)
        rings = np.maximum(distances[:, None], distances[None, :])
        places = np.where(rings == 0, middle - 1, middle + rings - (not is_even))
        flat = keras.ops.reshape(w, (size * size, *w.shape[2:]))
        return keras.ops.take(flat, places * (size + 1), axis=0)


@keras.saving.register_keras_serializable("exporter")
class MeanRelativeError(keras.metrics.Mean):
    """The mean of the absolute errors, each divided by what is normal.

    Args:
        normalizer: What each value is divided by: numbers, or nested lists of the shape of an answer.
        name: Of the metric.
        dtype: Of its computation.
    """

    def __init__(self, normalizer: Any, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name=name or "mean_relative_error", dtype=dtype)
        self.normalizer = np.asarray(normalizer).tolist()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts the errors of a batch."""
        expected, found, normal = (keras.ops.cast(each, self.dtype) for each in (y_true, y_pred, self.normalizer))
        errors = keras.ops.divide_no_nan(keras.ops.abs(expected - found), normal)
        super().update_state(errors, sample_weight=sample_weight)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "normalizer": self.normalizer}
