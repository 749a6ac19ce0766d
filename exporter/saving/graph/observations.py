"""The data that a model has seen, as its traced functions remember it."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import ConcreteFunction, TensorSpec, TFFunction

# What `fit` and `evaluate` give their traced functions.
_ITERATORS = (tf.data.Iterator, tf.distribute.DistributedIterator)


def observe_data(model: Model, free_batch: bool = True) -> tuple[Nested[TensorSpec], ...]:
    """Finds the data with which a model was trained or evaluated.

    Args:
        model: The model.
        free_batch: Whether the specs are for batches of any size, or as they were.

    Returns:
        `(x,)`, `(x, y)` or `(x, y, sample_weight)` as nested specs, as given to `fit`, else to `evaluate`; empty if
        it saw no data.
    """
    element = _observe_element(model)
    return () if element is None else _split_data(element, free_batch)


def takes_bare_data(model: Model) -> bool:
    """Tells whether a model was trained or evaluated with data that is no tuple: its step gets `x`, and not `(x,)`."""
    element = _observe_element(model)
    return element is not None and not isinstance(element, tuple)


def _observe_element(model: Model) -> Nested[TensorSpec] | None:
    for attribute in ("train_function", "test_function"):
        for concrete in find_traces(model, attribute):
            for argument in tf.nest.flatten(concrete.structured_input_signature):
                if isinstance(argument, tf.TypeSpec) and issubclass(argument.value_type, _ITERATORS):
                    element: Nested[TensorSpec] = tf.nest.map_structure(_take_replica, argument._element_spec)
                    return element
    return None


def _take_replica(spec: TensorSpec) -> TensorSpec:
    """Returns what one replica takes of the data, where a strategy distributes it."""
    distributed = isinstance(spec, tf.TypeSpec) and issubclass(spec.value_type, tf.distribute.DistributedValues)
    return spec._value_specs[0] if distributed else spec


def observe_inputs(model: Model) -> tuple[Nested[TensorSpec], ...]:
    """Finds the data that a model was trained, evaluated or asked with; `predict` takes a list of batches."""
    seen = observe_data(model)
    if not seen:
        for concrete in find_traces(model, "predict_function"):
            (batches, *_), _ = concrete.structured_input_signature
            if isinstance(batches, list):
                return _split_data(batches[0], free_batch=True)
    return seen


def find_traces(model: Model, attribute: str) -> Iterator[ConcreteFunction]:
    """Finds what was traced of `train_function`, `test_function` or `predict_function` while the model was used."""
    for function in _find_tf_functions(getattr(model, attribute, None), depth=3):
        yield from function._list_all_concrete_functions()


def _split_data(element: Nested[TensorSpec], free_batch: bool) -> tuple[Nested[TensorSpec], ...]:
    if free_batch:
        element = tf.nest.map_structure(_free_batch, element)
    return tuple(element) if isinstance(element, tuple) else (element,)


def _free_batch(spec: TensorSpec) -> TensorSpec:
    if not isinstance(spec, tf.TensorSpec) or not spec.shape.rank:
        return spec
    freed: TensorSpec = tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name)
    return freed


def _find_tf_functions(function: Any, depth: int) -> Iterator[TFFunction]:
    if hasattr(function, "_list_all_concrete_functions"):
        yield function
    elif depth:
        for cell in getattr(function, "__closure__", None) or ():
            yield from _find_tf_functions(cell.cell_contents, depth - 1)
