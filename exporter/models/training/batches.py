"""A batch to train on: drawn to fit the model's inputs and its losses, or read from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from exporter.errors import ArgumentError, Fault, UsageError
from exporter.models.predictions import draw_batch, match_arrays, read_file
from exporter.models.training.losses import find_losses, find_target_kind
from exporter.models.training.step_data import (
    TARGETS,
    WEIGHTS,
    UndrawableError,
    describe_spec,
    describe_structure,
    map_structure,
    observe,
    renumber,
)
from exporter.processes.arrays import Array, find_dtype
from exporter.saving.graph.inputs import InputLeaf, Inputs, extract_leaves
from exporter.saving.graph.signatures import name_outputs
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import TensorSpec


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """One batch to train on.

    Attributes:
        specs: Its tensors; the structure is `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        arrays: One array per leaf of `specs`.
    """

    specs: Inputs
    arrays: tuple[Array, ...]

    @property
    def size(self) -> int:
        """The number of samples."""
        return next((len(array) for array in self.arrays if array.ndim), 1)


def read_targets(path: Path, batch_size: int) -> dict[str, Array]:
    """Reads the targets and sample weights that a recipe's file holds beside the inputs.

    Args:
        path: An `.npz` file. Targets are named `y`, or `y/<output name>` where there are several; sample weights
            likewise `sample_weight` or `sample_weight/<output name>`.
        batch_size: The number of samples of the file's inputs.

    Returns:
        The arrays, by name; empty if the file holds inputs only.

    Raises:
        UsageError: The file cannot be read, or an array has another number of samples.
    """
    found = {name: array for name, array in read_file(path).items() if name.partition("/")[0] in (TARGETS, WEIGHTS)}
    faults = [
        f"the array '{name}' of '{path}' has {len(array) if array.ndim else 'no'} samples. "
        f"Expected: {batch_size}, like the inputs."
        for name, array in found.items()
        if not array.ndim or len(array) != batch_size
    ]
    if any(name.partition("/")[0] == WEIGHTS for name in found) and not any(
        name.partition("/")[0] == TARGETS for name in found
    ):
        faults.append(f"'{path}' has the array '{WEIGHTS}' without '{TARGETS}'. Add the targets that it weighs.")
    if faults:
        raise UsageError([Fault("verify.data", fault) for fault in faults])
    return found


def make_batch(
    model: Model,
    inputs: Inputs,
    batch: Sequence[Array],
    outputs: Nested[Array],
    seed: int,
    given: Mapping[str, Array] | None = None,
    origin: Path | None = None,
) -> TrainingBatch:
    """Makes a batch on which a compiled model can be trained for one step.

    A model that was trained or evaluated tells the structure, shapes and dtypes of its data. Otherwise there is a
    target for each output that fits the output's shape and loss.

    Args:
        model: A compiled model.
        inputs: What it takes.
        batch: A batch of it, one array per leaf.
        outputs: What the model answers to the batch, in the model's own structure.
        seed: Of what is drawn.
        given: Targets and sample weights from a file; see `read_targets`.
        origin: That file.

    Returns:
        The batch.

    Raises:
        UndrawableError: The data with which the model was trained is of a kind that cannot be drawn.
        UsageError: An array that is given does not fit the model.
    """
    seen = observe(model, inputs)
    size = next((len(array) for array in batch if array.ndim), 1)
    maker = _Maker(model, name_outputs(model, outputs), size, seed)
    if seen:
        maker.add_inputs(seen[0], inputs, batch, redraw=origin is None)
    else:
        structure = inputs.structure[0] if len(inputs.structure) == 1 else {"tuple": list(inputs.structure)}
        maker.add(inputs.leaves, structure, batch)

    targets = seen[1] if len(seen) > 1 else None
    weights = seen[2] if len(seen) > 2 else None
    if given and origin is not None:
        maker.add_given(given, origin, targets if seen else outputs, weights, known=bool(seen))
    elif seen:
        if targets is not None:
            maker.add_drawn(TARGETS, targets)
        if targets is not None and weights is not None:
            maker.add_drawn(WEIGHTS, weights)
    elif model.loss is not None:
        maker.add_targets(outputs)
    return maker.finish()


class _Maker:
    """Collects the parts of one batch."""

    def __init__(self, model: Model, outputs: Mapping[str, Array], size: int, seed: int) -> None:
        self._model = model
        self._outputs = {name: np.asarray(value) for name, value in outputs.items()}
        self._size = size
        self._seed = seed
        self._generator = np.random.default_rng([seed, size, 1])
        self._losses = find_losses(model, list(outputs))
        self._leaves: list[InputLeaf] = []
        self._arrays: list[Array] = []
        self._structure: list[Any] = []

    def finish(self) -> TrainingBatch:
        """Returns the batch."""
        return TrainingBatch(Inputs(tuple(self._leaves), tuple(self._structure)), tuple(self._arrays))

    def add(self, leaves: Sequence[InputLeaf], structure: object, arrays: Sequence[Array]) -> None:
        """Adds one part of the data: the inputs, the targets or the sample weights."""
        start = len(self._leaves)
        self._leaves += leaves
        self._arrays += arrays
        self._structure.append(renumber(structure, start))

    def add_inputs(self, seen: Nested[TensorSpec], inputs: Inputs, batch: Sequence[Array], redraw: bool) -> None:
        """Adds inputs of the structure and dtypes that were seen; those of the batch where they fit."""
        try:
            specs = extract_leaves(inputs, (seen,))
        except ArgumentError:
            specs = []
        fitting = [
            isinstance(spec, (tf.TensorSpec, tf.SparseTensorSpec))
            and spec.shape.is_compatible_with(array.shape)
            and (not redraw or _is_kin(spec.dtype.name, leaf.dtype))
            for spec, leaf, array in zip(specs, inputs.leaves, batch, strict=bool(specs))
        ]
        if specs and all(fitting):
            leaves = [describe_spec(spec, leaf.name) for spec, leaf in zip(specs, inputs.leaves, strict=True)]
            dtypes = [object if leaf.dtype == "string" else find_dtype(leaf.dtype) for leaf in leaves]
            cast = [array.astype(dtype) for array, dtype in zip(batch, dtypes, strict=True)]
            self.add(leaves, inputs.structure[0], cast)
        elif redraw:
            found: list[InputLeaf] = []
            structure = describe_structure(seen, found, [])
            self.add(found, structure, draw_batch(self._model, Inputs(tuple(found), ()), self._size, self._seed))
        else:
            raise UndrawableError("it was trained with other inputs than those that it is called with")

    def add_drawn(self, part: str, seen: Nested[TensorSpec]) -> None:
        """Adds targets or sample weights of the structure, shapes and dtypes that were seen."""
        leaves: list[InputLeaf] = []
        structure = describe_structure(seen, leaves, self._name_leaves(part, seen))
        arrays = [self._draw(leaf, part) for leaf in leaves]
        # What was free in the model's data has a size in this batch, which both processes trace with.
        self.add(leaves, structure, arrays)

    def add_targets(self, outputs: Nested[Array]) -> None:
        """Adds a target for every output."""
        leaves: list[InputLeaf] = []
        arrays: list[Array] = []

        def convert(value: Array, names: list[str]) -> int:
            name = names.pop(0)
            array = self._draw_target(find_target_kind(self._loss_of(name), np.shape(value)), np.shape(value))
            leaves.append(InputLeaf(name, (None, *array.shape[1:]), array.dtype.name))
            arrays.append(array)
            return len(leaves) - 1

        names = self._name_leaves(TARGETS, outputs)
        self.add(leaves, map_structure(outputs, lambda value: convert(value, names)), arrays)

    def add_given(self, given: Mapping[str, Array], origin: Path, targets: Any, weights: Any, known: bool) -> None:
        """Adds the arrays of a file, as targets and sample weights."""
        for part, value in ((TARGETS, targets), (WEIGHTS, weights)):
            own = {name: array for name, array in given.items() if name.partition("/")[0] == part}
            if not own:
                continue
            if value is None:
                if known and part == TARGETS:
                    raise UsageError(
                        [
                            Fault(
                                "verify.data",
                                f"'{origin}' has the array '{next(iter(own))}', and the model was trained without "
                                "targets. Leave it out.",
                            )
                        ]
                    )
                value = next(iter(own.values()))  # one array, for all outputs
            names = self._name_leaves(part, value)
            unknown = [name for name in own if name not in names]
            if unknown:
                message = f"'{origin}' has the array '{unknown[0]}'. Expected: {', '.join(names)}."
                raise UsageError([Fault("verify.data", message)])
            specs: list[InputLeaf] = []
            if known and not isinstance(value, np.ndarray):
                structure = describe_structure(value, specs, names)
            else:
                numbers = iter(range(len(names)))
                structure = map_structure(value, lambda _, numbers=numbers: next(numbers))
                for name in names:
                    if name not in own and self._loss_of(name) is None:
                        own[name] = self._draw_target(None, self._outputs[name.partition("/")[2]].shape)
                specs = [_describe_array(name, own.get(name)) for name in names]
            self.add(specs, structure, match_arrays(origin, own, specs))

    def _name_leaves(self, part: str, value: Nested[object]) -> list[str]:
        if not isinstance(value, (dict, list, tuple)):
            return [part]
        return [f"{part}/{name}" for name in name_outputs(self._model, value)]

    def _output_of(self, name: str) -> Array | None:
        """Returns the output that the target `name` is for, if that can be told."""
        if len(self._outputs) == 1:
            return next(iter(self._outputs.values()))
        return self._outputs.get(name.partition("/")[2])

    def _loss_of(self, name: str) -> object:
        if len(self._outputs) == 1:
            return next(iter(self._losses.values()), None)
        return self._losses.get(name.partition("/")[2])

    def _draw(self, leaf: InputLeaf, part: str) -> Array:
        output = self._output_of(leaf.name)
        shape = tuple(
            size if size is not None else self._size if axis == 0 else self._find_size(output, axis)
            for axis, size in enumerate(leaf.shape)
        )
        if part == WEIGHTS:
            return self._generator.uniform(0.5, 1.5, shape).astype(find_dtype(leaf.dtype))
        if leaf.dtype == "string":
            [drawn] = draw_batch(self._model, Inputs((leaf,), ()), self._size, self._seed)
            return drawn
        known = () if output is None else output.shape
        return self._draw_values(find_target_kind(self._loss_of(leaf.name), known), shape, known, leaf.dtype)

    def _find_size(self, output: Array | None, axis: int) -> int:
        return output.shape[axis] if output is not None and axis < output.ndim else 1

    def _draw_target(self, kind: str | None, output: tuple[int, ...]) -> Array:
        """Draws a target for an output of this shape."""
        if kind == "classes":
            return self._draw_values(kind, output[:-1], output, "int32")
        if kind == "labels":  # a label and a blank take two steps each at most
            return self._draw_values(kind, (output[0], max(1, output[1] // 2)), output, "int32")
        return self._draw_values(kind, output, output, "float32")

    def _draw_values(self, kind: str | None, shape: tuple[int, ...], output: tuple[int, ...], dtype: str) -> Array:
        generator, classes = self._generator, output[-1] if output else 1
        if kind == "one-hot" and shape == output:
            drawn: Array = np.eye(classes)[generator.integers(0, classes, shape[:-1])]
        elif kind == "classes" or (kind is None and "int" in dtype and shape != output):
            drawn = generator.integers(0, max(classes, 2 if kind is None else 1), shape)
        elif kind == "labels":
            drawn = generator.integers(1, max(classes, 2), shape)
        elif kind == "signs":
            drawn = generator.choice([-1, 1], shape)
        elif kind in ("flags", "one-hot") or "int" in dtype or dtype == "bool":
            drawn = generator.integers(0, 2, shape)
        elif kind == "numbers":
            drawn = generator.standard_normal(shape)
        else:
            # Between 0 and 1 is right for `positive`, and the best guess for a loss that is not known.
            drawn = generator.uniform(0.1, 0.9, shape)
        return drawn.astype(find_dtype(dtype))


def _is_kin(first: str, second: str) -> bool:
    """Whether values of one dtype fit the other: both numbers with a fraction, both integers, or the same."""

    def kind(dtype: str) -> str:
        return "int" if "int" in dtype else "float" if "float" in dtype else dtype

    # Drawn integers are small, and drawn floats have signs, which unsigned data does not.
    return kind(first) == kind(second)


def _describe_array(name: str, array: Array | None) -> InputLeaf:
    if array is None:
        return InputLeaf(name, (None,), "float32")
    dtype = "string" if array.dtype.kind in "SU" else "float32" if array.dtype.kind == "f" else array.dtype.name
    return InputLeaf(name, (None,) * array.ndim, dtype)
