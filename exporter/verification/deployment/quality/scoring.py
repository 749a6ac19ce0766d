"""How well an artifact does on labelled data, beside the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from exporter.artifacts.records import Score
from exporter.errors import Fault, UsageError
from exporter.models.instantiating import instantiate
from exporter.processes.arrays import Array
from exporter.text.failures import describe_failure
from exporter.text.showing import find_first_line, show

TARGET = "y"
ACCURACY = "accuracy"

# The larger the better, or the smaller: what Keras's metrics say of themselves.
_UP = "up"


class UnscoredError(Exception):
    """An output cannot be scored; the text says why, and what to set."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What an endpoint answered to labelled data.

    Attributes:
        endpoint: Its name.
        model: What the model answers, an array per output.
        artifact: What the artifact answers.
        targets: `y`, or `y/<output>`, of the same samples.
    """

    endpoint: str
    model: Mapping[str, Array]
    artifact: Mapping[str, Array]
    targets: Mapping[str, Array]

    def list_outputs(self) -> list[tuple[str, Array]]:
        """Lists the outputs that have a target, each with it."""
        named = [(name, self.targets.get(f"{TARGET}/{name}", self.targets.get(TARGET))) for name in self.model]
        return [(name, target) for name, target in named if target is not None]


def score_outputs(labelled: Labelled, metric: Any) -> list[Score]:
    """Scores every output that can be scored.

    Args:
        labelled: The answers and the targets.
        metric: `verify.metric`: the name of a metric of Keras, a mapping with `_target_`, or one of these by output;
            None for the accuracy of outputs that decide for a class.

    Raises:
        UnscoredError: None can be.
    """
    scores, reasons = [], []
    by_output = isinstance(metric, Mapping) and "_target_" not in metric
    for name, target in labelled.list_outputs():
        chosen = metric.get(name) if by_output else metric
        try:
            scores.append(_score(labelled, name, target, chosen))
        except UnscoredError as error:
            reasons.append(f"output {name!r}: {error}")
    if not scores:
        expected = f"an array named {TARGET!r}, or {TARGET}/<output>"
        raise UnscoredError("; ".join(reasons) or f"there are no targets for it: expected {expected}")
    return scores


def find_agreement(labelled: Labelled) -> float | None:
    """Returns the smallest share of samples for which an output decides as the model does; None if none decides."""
    shares = []
    for name, value in labelled.model.items():
        target = labelled.targets.get(f"{TARGET}/{name}", labelled.targets.get(TARGET))
        before, after = _decide(value, target), _decide(labelled.artifact[name], target)
        if before is not None and after is not None:
            shares.append(float((before == after).mean()))
    return min(shares, default=None)


def _score(labelled: Labelled, name: str, target: Array, chosen: Any) -> Score:
    model, artifact = labelled.model[name], labelled.artifact[name]
    if chosen is None:
        before, after = (_measure_accuracy(value, target) for value in (model, artifact))
        return Score(labelled.endpoint, name, ACCURACY, before, after, len(target), before - after, True)
    metric = make_metric(chosen)
    before, after = (_measure(metric, value, target) for value in (model, artifact))
    direction = getattr(metric, "_direction", None)
    change = before - after
    loss = change if direction == _UP else -change if direction else abs(change)
    is_up = direction == _UP if direction else None
    return Score(labelled.endpoint, name, metric.name, before, after, len(target), loss, is_up)


def _measure(metric: keras.metrics.Metric, value: Array, target: Array) -> float:
    metric.reset_state()
    try:
        metric.update_state(target, value)
        return float(metric.result())
    except Exception as error:  # a metric raises whatever it wants for shapes that do not fit
        raise UnscoredError(f"{metric.name} cannot be computed: {describe_failure(error)}") from error


def make_metric(chosen: Any) -> keras.metrics.Metric:
    """Makes the metric that a recipe names.

    Raises:
        UsageError: There is no such metric.
    """
    try:
        metric = instantiate(chosen) if isinstance(chosen, Mapping) else keras.metrics.get(chosen)
    except ValueError as error:
        message = f"received {show(chosen)}: {find_first_line(error)}"
        raise UsageError([Fault("verify.metric", message)]) from error
    if isinstance(metric, type):
        metric = metric()
    if callable(metric) and not isinstance(metric, keras.metrics.Metric):
        metric = keras.metrics.MeanMetricWrapper(metric, name=getattr(metric, "__name__", "metric"))
    if not isinstance(metric, keras.metrics.Metric):
        expected = "the name of a metric of Keras, such as mean_absolute_error, or a _target_ that returns one"
        raise UsageError([Fault("verify.metric", f"received {show(chosen)}; expected {expected}")])
    return metric


def _measure_accuracy(value: Array, target: Array) -> float:
    decided, wanted = _decide(value, target), _decide_target(value, target)
    if decided is None or wanted is None or decided.shape != wanted.shape:
        shapes = f"the output is {value.dtype} {show(list(value.shape))} and the target {target.dtype} "
        raise UnscoredError(
            f"it decides for no class: {shapes}{show(list(target.shape))}. Set verify.metric, such as "
            "verify.metric=mean_absolute_error"
        )
    return float((decided == wanted).mean())


def _decide(value: Array, target: Array | None) -> Array | None:
    """Returns what an output decides for; None where it decides for nothing."""
    if value.dtype.kind != "f":
        return value.astype(np.bytes_) if value.dtype == object else value
    if target is not None and not _names_classes(value, target):
        return None
    if value.ndim > 1 and value.shape[-1] > 1:
        return np.asarray(value.argmax(axis=-1))
    if target is None:
        return None
    scores = value.reshape(len(value), -1)[:, 0] if value.ndim > 1 and value.shape[-1] == 1 else value
    is_probability = bool(((scores >= 0) & (scores <= 1)).all())
    return np.asarray(scores > (0.5 if is_probability else 0.0))


def _names_classes(value: Array, target: Array) -> bool:
    """Tells whether a target is of classes: numbers of them, or a one for one of them."""
    if target.dtype.kind in "biuSUO":
        return True
    return target.shape == value.shape and value.ndim > 1 and bool(np.isin(target, (0, 1)).all())


def _decide_target(value: Array, target: Array) -> Array | None:
    if target.dtype.kind in "SUO":
        return target.astype(np.bytes_)
    is_one_hot = target.shape == value.shape and value.ndim > 1 and value.shape[-1] > 1 and value.dtype.kind == "f"
    if is_one_hot:
        return np.asarray(target.argmax(axis=-1))
    return np.asarray(target[..., 0] if target.ndim == value.ndim and target.shape[-1:] == (1,) else target)
