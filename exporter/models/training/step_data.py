"""What one step of training or evaluation takes: as the model was trained before, or as its losses want it."""

from collections.abc import Callable
from typing import Any, TypeVar

import keras
import tensorflow as tf

from exporter.errors import ArgumentError
from exporter.models.training.losses import find_losses, find_target_kind
from exporter.saving.graph.inputs import InputLeaf, Inputs, build_structure, extract_leaves
from exporter.saving.graph.observations import observe_data
from exporter.saving.graph.signatures import name_outputs
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Shape, Tensor, TensorSpec

TARGETS = "y"
WEIGHTS = "sample_weight"

T = TypeVar("T")


class UndrawableError(Exception):
    """No batch can be drawn for a model; the text says why."""


def describe_step_data(
    model: Model, inputs: Inputs, find_outputs: Callable[[], Nested[Tensor]], weighted: bool
) -> Inputs:
    """Describes the data that one step of training or evaluation takes.

    Args:
        model: A compiled model.
        inputs: What it takes.
        find_outputs: Finds the tensors that the model gives, in its own structure. It is called where the model has
            seen no data that tells its targets.
        weighted: Whether there are sample weights, also if the model was trained without.

    Returns:
        The tensors, of which the structure is `(x,)`, `(x, y)` or `(x, y, sample_weight)`: those of `inputs`, `y` or
        `y_<output>`, and `sample_weight` or `sample_weight_<output>`. Shapes and dtypes are those of the data with
        which the model was trained or evaluated, or else those that its losses want.
    """
    leaves: list[InputLeaf] = []
    structure: list[Any] = []

    def add(part: str, value: Nested[T], describe: Callable[[T, str], InputLeaf]) -> None:
        flat = keras.tree.flatten(value)
        nested = isinstance(value, (dict, list, tuple))
        names = [f"{part}_{name}" for name in name_outputs(model, value)] if nested else [part]
        start = len(leaves)
        leaves.extend(describe(leaf, name) for leaf, name in zip(flat, names, strict=True))
        structure.append(renumber(_number(value), start))

    seen = observe(model, inputs)
    if seen:
        try:
            specs = extract_leaves(inputs, (seen[0],))
        except ArgumentError:
            specs = []
        if specs:
            leaves += [describe_spec(spec, leaf.name) for spec, leaf in zip(specs, inputs.leaves, strict=True)]
            structure.append(inputs.structure[0])
        else:
            add("x", seen[0], describe_spec)
        if len(seen) > 1 and seen[1] is not None:
            add(TARGETS, seen[1], describe_spec)
            if len(seen) > 2 and seen[2] is not None:
                add(WEIGHTS, seen[2], describe_spec)
    else:
        leaves += inputs.leaves
        structure.append(inputs.structure[0] if len(inputs.structure) == 1 else {"tuple": list(inputs.structure)})
        if model.loss is not None:
            outputs = find_outputs()
            losses = find_losses(model, list(name_outputs(model, outputs)))
            named = {id(value): losses.get(name) for name, value in name_outputs(model, outputs).items()}
            add(TARGETS, outputs, lambda value, name: _describe_target(named.get(id(value)), value.shape, name))
    if weighted and len(structure) == 2:
        leaves.append(InputLeaf(WEIGHTS, (None,), "float32"))
        structure.append(len(leaves) - 1)
    return Inputs(tuple(leaves), tuple(structure))


def _describe_target(loss: object, shape: Shape, name: str) -> InputLeaf:
    """Describes the target that a loss wants for an output of this shape."""
    sizes = tuple(shape.as_list())
    kind = find_target_kind(loss, sizes)
    if kind == "classes":
        return InputLeaf(name, sizes[:-1], "int32")
    if kind == "labels":
        return InputLeaf(name, (sizes[0], None), "int32")
    return InputLeaf(name, sizes, "float32")


def _number(value: Nested[object]) -> Any:
    """Returns the structure of a value with the positions of its leaves."""
    numbers = iter(range(len(keras.tree.flatten(value))))
    return map_structure(value, lambda _: next(numbers))


def observe(model: Model, inputs: Inputs) -> tuple[Nested[TensorSpec], ...]:
    """Returns the specs of the data that the model was trained with, as `observe_data` does."""
    saved = getattr(model, "saved_data", None)
    if saved is None:
        return observe_data(model)
    # A model that trains with its saved step takes the leaves of that data, in the order of `tf.nest`.
    specs, count = tuple(saved), len(inputs.leaves)
    places = tf.nest.flatten(build_structure(inputs.structure[0], range(count)))
    ordered = [spec for _, spec in sorted(zip(places, specs, strict=False), key=lambda pair: pair[0])]
    own = build_structure(inputs.structure[0], ordered)
    return (own, specs[count:]) if len(specs) > count else (own,)


def describe_spec(spec: object, name: str) -> InputLeaf:
    """Describes a tensor that a model was trained with; `UndrawableError` where it is none, or of any rank."""
    if not isinstance(spec, (tf.TensorSpec, tf.SparseTensorSpec)) or spec.shape.rank is None:
        raise UndrawableError(f"it was trained with data of the kind {type(spec).__name__}")
    return InputLeaf(name, tuple(spec.shape.as_list()), spec.dtype.name, isinstance(spec, tf.SparseTensorSpec))


def describe_structure(value: Nested[TensorSpec], leaves: list[InputLeaf], names: list[str]) -> Any:
    """Adds the tensors of a value to `leaves`, under the given names or numbered ones, and returns its structure."""

    def convert(spec: TensorSpec) -> int:
        leaves.append(describe_spec(spec, names[len(leaves)] if names else f"x/{len(leaves)}"))
        return len(leaves) - 1

    return map_structure(value, convert)


def map_structure(value: Nested[T], convert: Callable[..., int]) -> Any:
    """Returns the structure of a value as `Inputs.structure` says it; its leaves in the order of `keras.tree`."""
    numbers = iter([convert(leaf) for leaf in keras.tree.flatten(value)])
    numbered = keras.tree.map_structure(lambda _: next(numbers), value)

    def say(node: object) -> Any:
        if isinstance(node, dict):
            return {"dict": {key: say(item) for key, item in node.items()}}
        if isinstance(node, (list, tuple)):
            return {"tuple" if isinstance(node, tuple) else "list": [say(item) for item in node]}
        return node

    return say(numbered)


def renumber(structure: Any, start: int) -> Any:
    """Returns a structure whose leaves are counted from another number on."""
    if isinstance(structure, int):
        return structure + start
    [(kind, items)] = structure.items()
    if kind == "dict":
        return {kind: {key: renumber(item, start) for key, item in items.items()}}
    return {kind: [renumber(item, start) for item in items]}
