"""How saved functions are called."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import tensorflow as tf

from exporter.typing.tensorflow import Tensor, TensorSpec, TFFunction

T = TypeVar("T")


class Untracked(Generic[T]):
    """Keeps a loaded SavedModel's functions out of sight of TensorFlow's object tracking."""

    def __init__(self, value: T) -> None:
        self.value = value


def list_specs(function: TFFunction) -> tuple[TensorSpec, ...]:
    """Returns what a saved function takes."""
    # A restored function lists its traces; one that was made here has its only trace ready.
    traces = getattr(function, "concrete_functions", None) or [function.get_concrete_function()]
    specs: tuple[TensorSpec, ...] = traces[0].structured_input_signature[0]
    return specs


def call_function(function: TFFunction, tensors: Sequence[Tensor]) -> Any:
    """Calls a saved function with tensors of the dtypes that it takes."""
    return function(
        *(
            tf.cast(tensor, spec.dtype) if tensor.dtype != spec.dtype else tensor
            for tensor, spec in zip(tensors, list_specs(function), strict=True)
        )
    )


def takes_tensors(specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> bool:
    """Tells whether tensors have the shapes that are taken."""
    return len(specs) == len(tensors) and all(
        spec.shape.is_compatible_with(tensor.shape) for spec, tensor in zip(specs, tensors, strict=True)
    )
