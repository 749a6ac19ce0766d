"""What a model takes, by name and by structure."""

import keyword
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard, TypeVar

import keras
import tensorflow as tf

from exporter.errors import ArgumentError, ModelError
from exporter.saving.graph.observations import observe_inputs
from exporter.saving.layout.records import read_record
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import TensorSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InputLeaf:
    """One tensor that the model takes.

    Attributes:
        name: Of the input, unique within the model.
        shape: With the batch dimension first; None for a dimension that may vary.
        dtype: Such as `float32` or `string`.
        sparse: Whether the model takes a sparse tensor.
        ragged_rank: How many dimensions after the first vary in length from row to row.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    sparse: bool = False
    ragged_rank: int = 0

    def to_spec(self) -> TensorSpec:
        """Returns TensorFlow's description of the tensor."""
        spec: TensorSpec
        if self.ragged_rank:
            spec = tf.RaggedTensorSpec(self.shape, self.dtype, self.ragged_rank)
        elif self.sparse:
            spec = tf.SparseTensorSpec(self.shape, self.dtype)
        else:
            spec = tf.TensorSpec(self.shape, self.dtype, name=self.name)
        return spec


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a model takes.

    Attributes:
        leaves: The tensors, in the order of `structure`.
        structure: The positional arguments of the model's call as nested `{"dict": ...}`, `{"list": ...}`,
            `{"tuple": ...}` with positions in `leaves` as leaves, so that JSON can say it.
    """

    leaves: tuple[InputLeaf, ...]
    structure: tuple[Any, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain data for `from_json`."""
        return {"leaves": [asdict(leaf) for leaf in self.leaves], "structure": list(self.structure)}

    @classmethod
    def from_json(cls, fields: object) -> "Inputs":
        """Reads what `to_json` returned.

        Raises:
            RecordError: It is damaged.
        """
        return read_record(cls, fields, "the inputs")


def describe_inputs(model: Model) -> Inputs:
    """Reads what a built model takes.

    Args:
        model: Sequential, Functional, or a subclass that has been called.

    Returns:
        The model's inputs. A subclassed model knows only their shapes; their dtypes are those of the data that it
        was trained, evaluated or asked with, and the model's own input dtype if there was none.

    Raises:
        ModelError: The model does not know the shapes of its inputs.
    """
    revived = getattr(model, "revived_inputs", None)
    if revived is not None:
        known: Inputs = revived.value
        return known
    collector = _LeafCollector(model)
    kind = type(model)._obj_type(model)
    if kind == "Sequential":
        arguments = [collector.convert(model.inputs[0], "inputs")] if model.inputs else []
    elif kind == "Functional":
        arguments = [collector.convert(model._inputs_struct, "inputs")]
    else:
        arguments = [collector.convert(value, name) for name, value in _find_subclassed(model)]
    if not collector.leaves:
        raise ModelError(
            f"The inputs of the model {model.name!r} are not known. Call it once on a batch of data, and save it then."
        )
    return Inputs(tuple(collector.leaves), tuple(arguments))


class _LeafCollector:
    """Gives each tensor that a model takes its name, and remembers it.

    Attributes:
        leaves: The tensors so far.
    """

    def __init__(self, model: Model) -> None:
        self.leaves: list[InputLeaf] = []
        self._model = model
        # A stateful layer keeps one state per sample, so only such a model serves the batch that it was built with.
        self._is_stateful = any(getattr(layer, "stateful", False) for layer in model._flatten_layers())

    def _add(self, name: str, shape: Sequence[int | None], dtype: str, sparse: bool = False) -> int:
        name = to_argument_name(name)
        taken = {leaf.name for leaf in self.leaves}
        unique = name if name not in taken else f"{name}_{len(self.leaves)}"
        self.leaves.append(InputLeaf(unique, tuple(shape), dtype, sparse))
        return len(self.leaves) - 1

    def convert(self, value: Any, name: str) -> Any:
        """Gives a structure of tensors or shapes as `Inputs.structure` has it."""
        if isinstance(value, dict):
            return {"dict": {key: self.convert(item, str(key)) for key, item in value.items()}}
        if isinstance(value, keras.KerasTensor):
            history = getattr(value, "_keras_history", None)  # a tensor's own name changes when the model is rebuilt
            given = history.operation.name if history is not None and history.operation is not None else value.name
            shape = value.shape if self._is_stateful or not value.shape else (None, *value.shape[1:])
            return self._add(given, shape, keras.backend.standardize_dtype(value.dtype), value.sparse)
        if isinstance(value, tf.TypeSpec):
            return self._add(name, (None, *value.shape[1:]), value.dtype.name, isinstance(value, tf.SparseTensorSpec))
        if isinstance(value, (tuple, list)) and all(item is None or isinstance(item, int) for item in value):
            return self._add(name, (None, *value[1:]), self._model.input_dtype)
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [self.convert(item, f"{name}_{index}") for index, item in enumerate(value)]}


def _find_subclassed(model: Model) -> list[tuple[str, object]]:
    """Finds what a subclassed model is called with, by name: the data that it has seen, else the shapes."""
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    seen = observe_inputs(model)
    # A model that trains by code of its own may be trained with other data than it is called with.
    if seen and shapes and not _fits(seen[0], next(iter(shapes.values()))):
        seen = ()
    names = [name.removesuffix("_shape") for name in shapes]
    first = names[0] if names and names[0] != "input" else "inputs"
    if seen:
        return [(first, seen[0])]
    return [
        (name if index else first, shape)
        for index, (name, shape) in enumerate(zip(names, shapes.values(), strict=True))
    ]


def _fits(seen: object, shape: object) -> bool:
    """Tells whether data that a model has seen may be what it was built for."""

    def is_shape(value: object) -> TypeGuard[Sequence[int | None]]:
        return isinstance(value, (list, tuple)) and all(item is None or isinstance(item, int) for item in value)

    if is_shape(shape):
        known = getattr(seen, "shape", None)
        return known is not None and (
            known.rank is None or tf.TensorShape([None, *shape[1:]]).is_compatible_with(known)
        )
    if isinstance(shape, dict):
        return isinstance(seen, dict) and seen.keys() == shape.keys() and all(_fits(seen[k], shape[k]) for k in shape)
    if isinstance(shape, (list, tuple)):
        return isinstance(seen, (list, tuple)) and len(seen) == len(shape) and all(map(_fits, seen, shape))
    return True


def to_argument_name(name: str) -> str:
    """Returns the name under which TensorFlow serves an input: letters, digits and underscores."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not cleaned or cleaned[0].isdigit():
        cleaned = f"arg_{cleaned}"
    return f"{cleaned}_" if keyword.iskeyword(cleaned) else cleaned


def build_structure(structure: Any, leaves: Sequence[T]) -> Nested[T]:
    """Puts leaves into their places; see `Inputs.structure`."""
    if isinstance(structure, int):
        return leaves[structure]
    [(kind, items)] = structure.items()
    if kind == "dict":
        return {key: build_structure(item, leaves) for key, item in items.items()}
    built = [build_structure(item, leaves) for item in items]
    return tuple(built) if kind == "tuple" else built


def extract_leaves(inputs: Inputs, arguments: Sequence[Nested[T]]) -> list[T]:
    """Takes the tensors out of a call's arguments: the reverse of `build_structure`.

    Args:
        inputs: What the model takes.
        arguments: The positional arguments of its call.

    Returns:
        One tensor per leaf.

    Raises:
        ArgumentError: The arguments have another structure.
    """
    leaves: dict[int, T] = {}

    def visit(structure: Any, value: Any) -> None:
        if isinstance(structure, int):
            leaves[structure] = value
            return
        [(kind, items)] = structure.items()
        if kind == "dict":
            for key, item in items.items():
                visit(item, value[key])
        else:
            for item, part in zip(items, value, strict=True):
                visit(item, part)

    try:
        for structure, value in zip(inputs.structure, arguments, strict=True):
            visit(structure, value)
    except (KeyError, TypeError, ValueError) as error:
        names = ", ".join(leaf.name for leaf in inputs.leaves)
        raise ArgumentError(
            f"The model was saved with the inputs {names}, and received arguments of another structure. "
            "Call it as it was called before it was saved."
        ) from error
    return [leaves[index] for index in range(len(inputs.leaves))]
