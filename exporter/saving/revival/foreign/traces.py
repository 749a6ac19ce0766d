"""The traces of a function of a SavedModel: what each takes, and which of them make a model."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.graph.inputs import InputLeaf, Inputs, build_structure, to_argument_name
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import ConcreteFunction, Tensor

# What functions call the argument that says whether they are trained.
_TRAINING = ("training", "is_training", "train")


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace of a function, as a model calls it.

    Attributes:
        function: The trace.
        inputs: What the model takes.
        outputs: What it returns, with a description in the place of each tensor.
        call: Calls it with the tensors of `inputs`.
        training: Whether it was traced for training; None where it was not said.
        constants: The values of its other arguments that are no tensors.
    """

    function: ConcreteFunction
    inputs: Inputs
    outputs: Nested[Any]
    call: Callable[..., Nested[Tensor]]
    training: bool | None
    constants: tuple[str, ...]

    def covers(self, other: "Trace") -> bool:
        """Tells whether it takes all that another trace takes."""
        mine, others = self.inputs, other.inputs
        return mine.structure == others.structure and all(
            leaf.dtype == each.dtype
            and (leaf.sparse, leaf.ragged_rank) == (each.sparse, each.ragged_rank)
            and len(leaf.shape) == len(each.shape)
            and all(size is None or size == own for size, own in zip(leaf.shape, each.shape, strict=True))
            for leaf, each in zip(mine.leaves, others.leaves, strict=True)
        )

    def describe(self) -> str:
        """Says in words what it takes."""
        taken = [f"{leaf.name}: {leaf.dtype} {list(leaf.shape)}" for leaf in self.inputs.leaves]
        return f"({', '.join([*taken, *self.constants])})"


def describe_endpoint(path: Path, name: str, function: ConcreteFunction) -> Trace:
    """Describes an endpoint, which takes tensors by name.

    Args:
        path: The SavedModel.
        name: The name of the endpoint.
        function: The endpoint.

    Raises:
        ArtifactError: It takes what no model takes.
    """
    reader = _Reader(path, name)
    specs = function.structured_input_signature[1]
    structure = reader.read_arguments(specs)

    def call(*values: Tensor) -> Nested[Tensor]:
        outputs: Nested[Tensor] = function(**dict(zip(specs, values, strict=True)))
        return outputs

    inputs = Inputs(tuple(reader.leaves), structure)
    return Trace(function, inputs, function.structured_outputs, call, None, ())


def choose_traces(
    path: Path, name: str, functions: Sequence[ConcreteFunction]
) -> tuple[Trace, Trace | None, tuple[str, ...]]:
    """Chooses among the traces of a function those that make a model.

    Args:
        path: The SavedModel.
        name: The name of the function.
        functions: Its traces.

    Returns:
        The one that predicts: of those that were not traced for training, the one that takes most of what the others
        take. The same for training, if there is one. What of the others it does not take, in words.

    Raises:
        ArtifactError: None of them takes what a model takes.
    """
    traces, refusals = [], []
    for function in functions:
        try:
            traces.append(_describe_trace(path, name, function))
        except ArtifactError as error:
            refusals.append(error)
    if not traces:
        raise refusals[0]
    inferring = [each for each in traces if not each.training] or traces
    chosen = max(inferring, key=lambda trace: sum(trace.covers(other) for other in inferring))
    alike = [each for each in traces if each.training and each.covers(chosen) and each.constants == chosen.constants]
    training = next((each for each in alike if chosen.covers(each)), None) if not chosen.training else None
    others = [each.describe() for each in traces if not chosen.covers(each) or each.constants != chosen.constants]
    return chosen, training, tuple(dict.fromkeys(others))


def _describe_trace(path: Path, name: str, function: ConcreteFunction) -> Trace:
    positional, keywords = function.structured_input_signature
    reader = _Reader(path, name)
    names = _name_arguments(function, len(positional))
    given = {**dict(zip(names, positional, strict=True)), **keywords}
    tensors = {key: value for key, value in given.items() if _holds_tensor(value)}
    constants = {key: value for key, value in given.items() if key not in tensors}
    flags = [value for key, value in constants.items() if key in _TRAINING and isinstance(value, bool)]
    structure = reader.read_arguments(tensors)

    def call(*values: Tensor) -> Nested[Tensor]:
        rebuilt: Any = build_structure(structure[0], values)
        arguments = {**constants, **(rebuilt if len(tensors) > 1 else dict.fromkeys(tensors, rebuilt))}
        outputs: Nested[Tensor] = function(
            *(arguments[key] for key in names), **{key: arguments[key] for key in keywords}
        )
        return outputs

    return Trace(
        function,
        Inputs(tuple(reader.leaves), structure),
        function.structured_outputs,
        call,
        flags[0] if flags else None,
        tuple(f"{key}={value!r}" for key, value in constants.items() if key not in _TRAINING),
    )


def _name_arguments(function: ConcreteFunction, count: int) -> list[str]:
    """Names the positional arguments of a trace, by the parameters of the function where they are kept."""
    kind = inspect.Parameter
    positional = (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD)
    known = [each.name for each in function.function_type.parameters.values() if each.kind in positional]
    known = [name for name in known if name != "self"]
    return [*known[:count], *(f"arg_{place}" for place in range(len(known), count))]


def _holds_tensor(value: object) -> bool:
    return any(isinstance(each, tf.TypeSpec) for each in tf.nest.flatten(value))


class _Reader:
    """Reads what a trace takes.

    Attributes:
        leaves: The tensors so far.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.leaves: list[InputLeaf] = []
        self._path = path
        self._name = name

    def read_arguments(self, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        """Reads the arguments: one alone is what the model takes, several are a dict."""
        if not arguments:
            raise ArtifactError(f"{self._path}, {self._name} takes no tensor: there is nothing to ask a model of it.")
        read = {name: self._read(value, name) for name, value in arguments.items()}
        return ({"dict": read},) if len(read) > 1 else tuple(read.values())

    def _read(self, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {"dict": {key: self._read(value[key], str(key)) for key in value}}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [self._read(item, f"{name}_{place}") for place, item in enumerate(value)]}
        if not isinstance(value, (tf.TensorSpec, tf.SparseTensorSpec, tf.RaggedTensorSpec)):
            raise ArtifactError(
                f"{self._path}, {self._name} takes a {type(value).__name__} as {name}, which no model takes."
            )
        if value.shape.rank is None:
            raise ArtifactError(
                f"{self._path}, {self._name} takes {name} of any rank, and a model has to know how many dimensions an "
                "input has. Choose another endpoint, or call it in a model of your own: tf.saved_model.load gives it."
            )
        ragged = value.ragged_rank if isinstance(value, tf.RaggedTensorSpec) else 0
        taken = {leaf.name for leaf in self.leaves}
        argument = to_argument_name(name)
        unique = argument if argument not in taken else f"{argument}_{len(self.leaves)}"
        is_sparse = isinstance(value, tf.SparseTensorSpec)
        self.leaves.append(InputLeaf(unique, tuple(value.shape), value.dtype.name, is_sparse, ragged))
        return len(self.leaves) - 1


def index_outputs(outputs: Nested[Any]) -> Any:
    """Describes the structure of outputs as `Unit.outputs` has it, with their positions in the order of Keras."""
    count = iter(range(1 << 30))

    def visit(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {"dict": {key: visit(value[key]) for key in sorted(value)}}
        if isinstance(value, (list, tuple)):
            return {"tuple" if isinstance(value, tuple) else "list": [visit(item) for item in value]}
        return next(count)

    return visit(outputs)
