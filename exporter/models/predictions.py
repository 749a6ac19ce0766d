"""What a model answers to seeded inputs: drawn to fit the model, computed the same way in any process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.errors import Fault, UsageError
from exporter.models.ranges import Range, find_ranges
from exporter.processes.arrays import Array, find_dtype
from exporter.saving.contents import Tensor
from exporter.saving.graph.inputs import InputLeaf, Inputs
from exporter.saving.graph.signatures import make_call, name_outputs, undo_call_effects
from exporter.saving.state.collecting import list_components, untracked_kept
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Tensor as TFTensor
from exporter.typing.tensorflow import TensorSpec, TFFunction


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a batch is drawn where the model leaves it open.

    Attributes:
        length: Of a dimension that may vary in a sequence of words or steps.
        image_side: Of one in an image. The networks of keras.applications refuse a side below 32.
        volume_side: Of one in a volume.
        narrow: Whether numbers are between 0 and 1, and integers 0 or 1.
    """

    length: int = 7
    image_side: int = 32
    volume_side: int = 8
    narrow: bool = False


def choose_batch_sizes(leaves: Sequence[InputLeaf], batch_sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns the batch sizes that fit all tensors: their own, where they were made for one."""
    fixed = {leaf.shape[0] for leaf in leaves if leaf.shape and leaf.shape[0] is not None}
    return tuple(sorted(fixed)) if fixed else tuple(dict.fromkeys(batch_sizes))


def draw_batch(
    model: Model, inputs: Inputs, batch_size: int, seed: int, drawing: Drawing = Drawing()
) -> tuple[Array, ...]:
    """Draws one batch that fits the model.

    Floats are normal, integers lie within the range of embeddings and encodings or are known to a table, strings are
    words: known ones where the model has a vocabulary or a table, and one that it has never seen.

    Args:
        model: The model, for its vocabularies.
        inputs: What it takes.
        batch_size: Samples in the batch.
        seed: Of the generator; the same seed gives the same batch.
        drawing: What is chosen where the model leaves it open.

    Returns:
        One array per leaf of `inputs`.
    """
    generator = np.random.default_rng([seed, batch_size])
    find_range = find_ranges(model)
    return tuple(_draw(generator, leaf, batch_size, find_range(leaf.name), drawing) for leaf in inputs.leaves)


def _draw(generator: np.random.Generator, leaf: InputLeaf, batch_size: int, allowed: Range, drawing: Drawing) -> Array:
    shape = _choose_shape(leaf.shape, batch_size, drawing)
    if leaf.dtype == "string":
        return np.array(allowed.words, dtype=object)[generator.integers(0, len(allowed.words), shape)]
    if leaf.dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    if "int" in leaf.dtype:
        if drawing.narrow:
            return generator.integers(0, 2, shape).astype(leaf.dtype)
        if isinstance(allowed.integers, range):
            return generator.integers(0, len(allowed.integers), shape).astype(leaf.dtype)
        return generator.choice(np.array(allowed.integers), shape).astype(leaf.dtype)
    drawn = generator.random(shape, np.float32) if drawing.narrow else generator.standard_normal(shape, np.float32)
    return drawn.astype(find_dtype(leaf.dtype))


def _choose_shape(shape: tuple[int | None, ...], batch_size: int, drawing: Drawing) -> tuple[int, ...]:
    free = {4: drawing.image_side, 5: drawing.volume_side}.get(len(shape), drawing.length)
    return (batch_size, *(free if size is None else size for size in shape[1:])) if shape else ()


def read_batch(path: Path, inputs: Inputs) -> tuple[Array, ...]:
    """Reads the batch that a recipe names.

    Args:
        path: An `.npz` file with one array per input of the model, by name.
        inputs: What the model takes.

    Returns:
        One array per leaf of `inputs`.

    Raises:
        UsageError: The file cannot be read, or an array is missing or does not fit; every fault is named.
    """
    return match_arrays(path, read_file(path, inputs.leaves), inputs.leaves)


def read_file(path: Path, leaves: Sequence[InputLeaf] = ()) -> dict[str, Array]:
    """Reads every array of an `.npz` file.

    Args:
        path: The file.
        leaves: What it should hold, for the message.

    Returns:
        The arrays, by name.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as members:
            return {name: members[name] for name in members.files}
    except (OSError, ValueError) as error:
        message = f"'{path}' cannot be read as an .npz file: {error}. Expected arrays: {format_leaves(leaves)}."
        raise UsageError([Fault("verify.data", message)]) from error


def match_arrays(
    path: Path, arrays: Mapping[str, Array], leaves: Sequence[InputLeaf], any_batch: bool = False
) -> tuple[Array, ...]:
    """Takes the arrays of a file that fit what a model takes.

    Args:
        path: The file, for the messages.
        arrays: Its arrays, by name.
        leaves: What the model takes.
        any_batch: Whether there may be another number of samples than is taken at once.

    Returns:
        One array per leaf, of its dtype.

    Raises:
        UsageError: An array is missing or does not fit; every fault is named.
    """
    expected = format_leaves(leaves)
    faults = []
    batch_sizes = set()
    for leaf in leaves:
        array = arrays.get(leaf.name)
        if array is None:
            received = ", ".join(sorted(arrays)) or "none"
            faults.append(f"'{path}' has no array '{leaf.name}'. Received: {received}. Expected: {expected}.")
            continue
        fits = array.ndim == len(leaf.shape) and all(
            want is None or want == have or (any_batch and axis == 0)
            for axis, (want, have) in enumerate(zip(leaf.shape, array.shape, strict=True))
        )
        if not fits or not _can_become(array.dtype, leaf.dtype):
            faults.append(
                f"the array '{leaf.name}' of '{path}' is {array.dtype} {_format_shape(array.shape)}. "
                f"Expected: {leaf.dtype} {_format_shape(leaf.shape)}."
            )
        elif array.ndim:
            batch_sizes.add(array.shape[0])
    if not faults and len(batch_sizes) > 1:
        faults.append(f"the arrays of '{path}' have different batch sizes: {sorted(batch_sizes)}.")
    if faults:
        raise UsageError([Fault("verify.data", fault) for fault in faults])
    return tuple(
        arrays[leaf.name].astype(object if leaf.dtype == "string" else find_dtype(leaf.dtype)) for leaf in leaves
    )


def format_leaves(leaves: Sequence[InputLeaf]) -> str:
    """Lists names, dtypes and shapes in a line."""
    return ", ".join(f"{leaf.name} {leaf.dtype} {_format_shape(leaf.shape)}" for leaf in leaves)


def _can_become(dtype: np.dtype[Any], wanted: str) -> bool:
    if wanted == "string":
        return dtype.kind in "SU"
    if wanted == "bool":
        return dtype.kind == "b"
    return dtype.kind in ("iu" if "int" in wanted else "iuf")


def _format_shape(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


class Predictor:
    """A model as a function of its inputs, traced once for all batch sizes.

    It is traced with the dimensions free that the model leaves free, as a served endpoint is. That matters
    for the bits: TensorFlow fuses other operations where it knows the batch size, and others again when it
    runs eagerly. On this stack MobileNetV2's eager outputs are up to 0.07 away from its traced ones, and a
    small dense network with `gelu` differs in the last bit between a trace for one sample and a trace for
    any number; two traces with free dimensions, and a saved one that was loaded again, were always equal.
    """

    def __init__(self, model: Model, inputs: Inputs, eager: bool = False) -> None:
        """Wraps the model; nothing is traced before it is needed.

        Args:
            model: The model.
            inputs: What it takes.
            eager: Whether the model is called as it is: it may hold Python code that cannot be traced.
        """
        self._model = model
        self._inputs = inputs
        call = make_call(model, inputs)
        self._function: Any = call if eager else _trace_later(call, inputs)

    def __call__(self, batch: Sequence[Array]) -> dict[str, Array]:
        """Predicts one batch and leaves the model as it was.

        Args:
            batch: One array per leaf of the inputs.

        Returns:
            The outputs by the names that an endpoint gives them.
        """
        return name_outputs(self._model, self.answer(batch))

    def answer(self, batch: Sequence[Array]) -> Nested[Array]:
        """Predicts one batch and leaves the model as it was.

        Args:
            batch: One array per leaf of the inputs.

        Returns:
            The outputs as arrays, in the model's own structure.
        """
        with state_kept(self._model):
            outputs = self._function(*convert_batch(self._inputs, batch))
            arrays: Nested[Array] = keras.tree.map_structure(convert_output, outputs)
            return arrays

    def describe_outputs(self) -> dict[str, Tensor]:
        """Returns the shapes and dtypes of the traced outputs, by name."""
        with state_kept(self._model):
            outputs = self._function.get_concrete_function().structured_outputs
        return describe_tensors(name_outputs(self._model, outputs))


def _trace_later(call: Callable[..., Nested[TFTensor]], inputs: Inputs) -> TFFunction:
    traced: TFFunction = tf.function(call, input_signature=[leaf.to_spec() for leaf in inputs.leaves], autograph=False)
    return traced


def describe_tensors(tensors: Mapping[str, TFTensor | TensorSpec]) -> dict[str, Tensor]:
    """Describes tensors or their specs.

    Args:
        tensors: Name -> something with a shape and a dtype.

    Returns:
        Name -> description, sorted by name.
    """
    return {
        name: Tensor(
            None if tensors[name].shape.rank is None else tuple(tensors[name].shape.as_list()), tensors[name].dtype.name
        )
        for name in sorted(tensors)
    }


def convert_batch(inputs: Inputs, batch: Sequence[Array]) -> list[TFTensor]:
    """Returns one tensor per leaf of the inputs."""
    return [convert_leaf(leaf, array) for leaf, array in zip(inputs.leaves, batch, strict=True)]


def convert_leaf(leaf: InputLeaf, array: Array) -> TFTensor:
    """Returns the array as the tensor that the model takes."""
    tensor: TFTensor = tf.constant(array, dtype=leaf.dtype)
    return tf.sparse.from_dense(tensor) if leaf.sparse else tensor


def convert_output(value: object) -> Array:
    """Returns a tensor as an array; a ragged or sparse one is filled up with zeros."""
    if isinstance(value, tf.RaggedTensor):
        value = value.to_tensor()
    elif isinstance(value, tf.SparseTensor):
        value = tf.sparse.to_dense(value)
    array: Array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    return array


@contextmanager
def state_kept(model: Model) -> Iterator[None]:
    """Puts back what a prediction may move: seed generators, states of stateful layers, counters, added losses."""
    trainable = {id(variable) for variable in model.trainable_variables}
    movable = [variable for variable in model.variables if id(variable) not in trainable]
    # TensorFlow shares the buffers until one is assigned, so this copies nothing.
    values = [(each, each.read_value()) for variable in movable for each in list_components(variable.value)]
    with undo_call_effects(model), untracked_kept(model):
        try:
            yield
        finally:
            for variable, value in values:
                variable.assign(value)
