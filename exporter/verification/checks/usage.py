"""What users call: `predict` and `evaluate`, with the steps that a model may have of its own, and its own methods."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from exporter.models.endpoints.served_tensors import flatten_leaves, flatten_outputs, join_leaf
from exporter.models.predictions import convert_batch, convert_output
from exporter.models.training_steps import compiled_anew
from exporter.processes.arrays import Array
from exporter.saving.graph.inputs import Inputs, build_structure

PREDICT, EVALUATE = "predict", "evaluate"

# The methods of a model that are called.
CALLS = {PREDICT: "predict", EVALUATE: "test_on_batch"}

_PARTS = ("x", "y", "sample_weight")


def call_as_user(
    model: keras.Model, method: str, specs: Inputs, arrays: Sequence[Array], eager: bool
) -> dict[str, Array]:
    """Calls `model.predict`, or what `model.evaluate` calls for each batch.

    Args:
        model: The model; random state, metrics and whatever else a call changes are changed.
        method: `predict` or `evaluate`.
        specs: What the batch is made of; the structure is `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        arrays: One array per leaf.
        eager: Whether Python runs the step, operation by operation.

    Returns:
        What was returned, each array by its path in the structure.
    """
    tensors = convert_batch(specs, arrays)
    parts = [build_structure(structure, tensors) for structure in specs.structure]
    size = next((len(array) for array in arrays if array.ndim), 1)
    with compiled_anew(model, eager):
        if method == PREDICT:
            found = model.predict(parts[0], batch_size=size, verbose=0)
        else:
            data = dict(zip(_PARTS, parts, strict=False))
            found = model.test_on_batch(**data, return_dict=True)  # `evaluate`, but for its pipeline of many batches
        return _name_arrays(found)


def call_method(
    model: keras.Model, method: str, keywords: Sequence[str], specs: Inputs, arrays: Sequence[Array], eager: bool
) -> dict[str, Array] | None:
    """Calls a method of the model's own.

    Args:
        model: The model; whatever a call changes is changed.
        method: Its name.
        keywords: The names of its arguments.
        specs: The tensors that it takes and, in `structure`, what each argument is made of.
        arrays: One array per dense tensor by which those of `specs` are served.
        eager: Whether Python runs it, operation by operation.

    Returns:
        What was returned, as an endpoint of it is named; None where the model has no such method.
    """
    function = getattr(model, method, None)
    if not callable(function):
        return None
    flat = flatten_leaves(specs.leaves)
    served = {leaf.name: tf.constant(array, leaf.dtype) for leaf, array in zip(flat, arrays, strict=True)}
    tensors = [join_leaf(leaf, served) for leaf in specs.leaves]
    arguments = {key: build_structure(part, tensors) for key, part in zip(keywords, specs.structure, strict=True)}
    found = function(**arguments) if eager else tf.function(function, autograph=False)(**arguments)
    returned = {} if found is None else flatten_outputs({"output": found})
    return {name: convert_output(value) for name, value in returned.items()}


def _name_arrays(found: Any) -> dict[str, Array]:
    return {
        "_".join(map(str, path)) or "output": convert_output(value)
        for path, value in keras.tree.flatten_with_path(found)
        if value is not None
    }
