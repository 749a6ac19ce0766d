"""What users call: `predict` and `evaluate`, with the steps that a model may have of its own."""

from collections.abc import Sequence
from typing import Any

import keras

from exporter._arrays import Array
from exporter.proof.predictions import convert_batch, convert_output
from exporter.proof.training_steps import compiled_anew
from exporter.saving.signatures import Inputs, build_structure

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


def _name_arrays(found: Any) -> dict[str, Array]:
    return {
        "_".join(map(str, path)) or "output": convert_output(value)
        for path, value in keras.tree.flatten_with_path(found)
        if value is not None
    }
