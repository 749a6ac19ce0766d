"""Calls an endpoint the same way in any process, and leaves the variables that it uses as they were."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from exporter.models.predictions import convert_batch, convert_output
from exporter.processes.arrays import Array
from exporter.saving.graph.inputs import Inputs
from exporter.saving.graph.signatures import find_captured
from exporter.saving.state.collecting import list_components
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import ConcreteFunction, Tensor, TFVariable


def call_endpoint(
    function: ConcreteFunction, inputs: Inputs, batches: Sequence[Sequence[Array]], moves_state: bool
) -> tuple[list[dict[str, Array]], list[str]]:
    """Calls an endpoint with each batch from the same state, as a prediction of the model leaves it.

    Args:
        function: A concrete function, or an endpoint of a loaded SavedModel.
        inputs: What it takes.
        batches: One array per leaf of `inputs`, for each call.
        moves_state: Whether it may change variables.

    Returns:
        The answers by name, for each batch; and for each variable that they changed what they made of it, sorted.
    """
    variables = find_captured(function, tf.Variable)
    names = [leaf.name for leaf in inputs.leaves]
    before = list(map(_digest, variables)) if moves_state else []
    answers: list[dict[str, Array]] = []
    changed: dict[int, str] = {}
    for batch in batches:
        with variables_kept(variables):
            answer = function(**dict(zip(names, convert_batch(inputs, batch), strict=True)))
            answers.append({name: convert_output(value) for name, value in name_answers(answer).items()})
            after = list(map(_digest, variables)) if moves_state else []
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if new != old:
                changed[number] = changed.get(number, "") + new
    return answers, sorted(changed.values())


@contextmanager
def variables_kept(variables: Sequence[TFVariable]) -> Iterator[None]:
    """Puts back the values of variables.

    Args:
        variables: Of TensorFlow.
    """
    # TensorFlow shares the buffers until one is assigned, so this copies nothing.
    kept = [(each, each.read_value()) for variable in variables for each in list_components(variable)]
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def name_answers(answers: Nested[Tensor]) -> dict[str, Any]:
    """Gives the outputs of a traced function the names that TensorFlow serves them by."""
    if isinstance(answers, Mapping):
        return dict(answers)
    values = answers if isinstance(answers, (list, tuple)) else [answers]
    return {f"output_{index}": value for index, value in enumerate(values)}


def _digest(variable: TFVariable) -> str:
    array: Array = np.ascontiguousarray(variable.numpy())
    head = f"{array.dtype.name} {array.shape}\n".encode()
    return hashlib.sha256(head + array.reshape(-1).view(np.uint8).tobytes()).hexdigest()
