"""What a model takes and gives, by name, and the endpoints of a SavedModel."""

import keyword
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from exporter.errors import ArgumentError, ArtifactError, ModelError
from exporter.saving.configuration.faults import tracing_explained
from exporter.saving.contents import SERVING_DEFAULT, Endpoint, Tensor
from exporter.saving.layout.names import GRAPH
from exporter.saving.layout.records import read_record
from exporter.saving.private_api import global_state
from exporter.text.showing import describe_value

# What `fit` and `evaluate` give their traced functions.
_ITERATORS = (tf.data.Iterator, tf.distribute.DistributedIterator)
_INTERNAL_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")


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

    def to_spec(self) -> Any:
        """Returns TensorFlow's description of the tensor."""
        if self.ragged_rank:
            return tf.RaggedTensorSpec(self.shape, self.dtype, self.ragged_rank)
        if self.sparse:
            return tf.SparseTensorSpec(self.shape, self.dtype)
        return tf.TensorSpec(self.shape, self.dtype, name=self.name)


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
    def from_json(cls, fields: Any) -> "Inputs":
        """Reads what `to_json` returned.

        Raises:
            RecordError: It is damaged.
        """
        return read_record(cls, fields, "the inputs")


def describe_inputs(model: keras.Model) -> Inputs:
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
    leaves: list[InputLeaf] = []
    # A stateful layer keeps one state per sample, so only such a model serves the batch that it was built with.
    stateful = any(getattr(layer, "stateful", False) for layer in model._flatten_layers())

    def add(name: str, shape: Sequence[int | None], dtype: str, sparse: bool = False) -> int:
        name = to_argument_name(name)
        taken = {leaf.name for leaf in leaves}
        unique = name if name not in taken else f"{name}_{len(leaves)}"
        leaves.append(InputLeaf(unique, tuple(shape), dtype, sparse))
        return len(leaves) - 1

    def convert(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {"dict": {key: convert(item, str(key)) for key, item in value.items()}}
        if isinstance(value, keras.KerasTensor):
            history = getattr(value, "_keras_history", None)  # a tensor's own name changes when the model is rebuilt
            given = history.operation.name if history is not None and history.operation is not None else value.name
            shape = value.shape if stateful or not value.shape else (None, *value.shape[1:])
            return add(given, shape, keras.backend.standardize_dtype(value.dtype), value.sparse)
        if isinstance(value, tf.TypeSpec):
            return add(name, (None, *value.shape[1:]), value.dtype.name, isinstance(value, tf.SparseTensorSpec))
        if isinstance(value, (tuple, list)) and all(item is None or isinstance(item, int) for item in value):
            return add(name, (None, *value[1:]), model.input_dtype)
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [convert(item, f"{name}_{index}") for index, item in enumerate(value)]}

    kind = type(model)._obj_type(model)
    if kind == "Sequential":
        arguments = [convert(model.inputs[0], "inputs")] if model.inputs else []
    elif kind == "Functional":
        arguments = [convert(model._inputs_struct, "inputs")]
    else:
        shapes = getattr(model, "_build_shapes_dict", None) or {}
        seen = _observe_inputs(model)
        # A model that trains by code of its own may be trained with other data than it is called with.
        if seen and shapes and not _fits(seen[0], next(iter(shapes.values()))):
            seen = ()
        names = [name.removesuffix("_shape") for name in shapes]
        first = names[0] if names and names[0] != "input" else "inputs"
        arguments = (
            [convert(seen[0], first)]
            if seen
            else [
                convert(shape, first if index == 0 else name)
                for index, (name, shape) in enumerate(zip(names, shapes.values(), strict=True))
            ]
        )
    if not leaves:
        raise ModelError(
            f"The inputs of the model {model.name!r} are not known. Call it once on a batch of data, and save it then."
        )
    return Inputs(tuple(leaves), tuple(arguments))


def _fits(seen: Any, shape: Any) -> bool:
    """Tells whether data that a model has seen may be what it was built for."""

    def is_shape(value: Any) -> bool:
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


def observe_data(model: keras.Model, free_batch: bool = True) -> tuple[Any, ...]:
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


def takes_bare_data(model: keras.Model) -> bool:
    """Tells whether a model was trained or evaluated with data that is no tuple: its step gets `x`, and not `(x,)`."""
    element = _observe_element(model)
    return element is not None and not isinstance(element, tuple)


def _observe_element(model: keras.Model) -> Any:
    for attribute in ("train_function", "test_function"):
        for concrete in find_traces(model, attribute):
            for argument in tf.nest.flatten(concrete.structured_input_signature):
                if isinstance(argument, tf.TypeSpec) and issubclass(argument.value_type, _ITERATORS):
                    return tf.nest.map_structure(_take_replica, argument._element_spec)
    return None


def _take_replica(spec: Any) -> Any:
    """Returns what one replica takes of the data, where a strategy distributes it."""
    distributed = isinstance(spec, tf.TypeSpec) and issubclass(spec.value_type, tf.distribute.DistributedValues)
    return spec._value_specs[0] if distributed else spec


def _observe_inputs(model: keras.Model) -> tuple[Any, ...]:
    """Finds the data that a model was trained, evaluated or asked with; `predict` takes a list of batches."""
    seen = observe_data(model)
    if not seen:
        for concrete in find_traces(model, "predict_function"):
            (batches, *_), _ = concrete.structured_input_signature
            if isinstance(batches, list):
                return _split_data(batches[0], free_batch=True)
    return seen


def find_traces(model: keras.Model, attribute: str) -> Iterator[Any]:
    """Finds what was traced of `train_function`, `test_function` or `predict_function` while the model was used."""
    for function in _find_tf_functions(getattr(model, attribute, None), depth=3):
        yield from function._list_all_concrete_functions()


def _split_data(element: Any, free_batch: bool) -> tuple[Any, ...]:
    if free_batch:
        element = tf.nest.map_structure(_free_batch, element)
    return tuple(element) if isinstance(element, tuple) else (element,)


def _free_batch(spec: tf.TypeSpec) -> tf.TypeSpec:
    if not isinstance(spec, tf.TensorSpec) or not spec.shape.rank:
        return spec
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name)


def _find_tf_functions(function: Any, depth: int) -> Iterator[Any]:
    if hasattr(function, "_list_all_concrete_functions"):
        yield function
    elif depth:
        for cell in getattr(function, "__closure__", None) or ():
            yield from _find_tf_functions(cell.cell_contents, depth - 1)


def to_argument_name(name: str) -> str:
    """Returns the name under which TensorFlow serves an input: letters, digits and underscores."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not cleaned or cleaned[0].isdigit():
        cleaned = f"arg_{cleaned}"
    return f"{cleaned}_" if keyword.iskeyword(cleaned) else cleaned


def build_structure(structure: Any, leaves: Sequence[Any]) -> Any:
    """Puts leaves into their places; see `Inputs.structure`."""
    if isinstance(structure, int):
        return leaves[structure]
    [(kind, items)] = structure.items()
    if kind == "dict":
        return {key: build_structure(item, leaves) for key, item in items.items()}
    built = [build_structure(item, leaves) for item in items]
    return tuple(built) if kind == "tuple" else built


def extract_leaves(inputs: Inputs, arguments: Sequence[Any]) -> list[Any]:
    """Takes the tensors out of a call's arguments: the reverse of `build_structure`.

    Args:
        inputs: What the model takes.
        arguments: The positional arguments of its call.

    Returns:
        One tensor per leaf.

    Raises:
        ArgumentError: The arguments have another structure.
    """
    leaves: dict[int, Any] = {}

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


def make_call(model: keras.Model, inputs: Inputs, training: bool = False) -> Callable[..., Any]:
    """Returns the model as a function of its input tensors.

    Args:
        model: The model.
        inputs: What it takes.
        training: Whether layers such as dropout behave as in training.

    Returns:
        A function of one tensor per leaf of `inputs`, which returns the model's own output structure.
    """
    arguments = {"training": training} if model._call_has_training_arg else {}

    def call(*leaves: Any) -> Any:
        return model(*(build_structure(argument, leaves) for argument in inputs.structure), **arguments)

    return call


def holds_tables(model: keras.Model) -> bool:
    """Tells whether a model looks something up in tables: those of its layers, or such as were attached to it.

    tf2onnx finds no table in a function that another function calls, so what such a model computes has to stand in each
    endpoint itself.
    """
    kind = tf.saved_model.experimental.TrackableResource
    return any(isinstance(value, kind) for layer in model._flatten_layers() for value in vars(layer).values())


def name_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    """Gives the tensors of an output structure their names.

    Args:
        model: The model that made them.
        outputs: Its output structure.

    Returns:
        Name -> tensor: the keys of a dict, the model's own output names where it has them, else the path in the
        structure.
    """
    found = {
        "_".join(str(step) for step in path) or "output_0": value
        for path, value in keras.tree.flatten_with_path(outputs)
    }
    if isinstance(outputs, dict):
        return found
    names = find_output_names(model)
    if len(names) == len(found):
        return dict(zip(names, found.values(), strict=True))
    return {key if key.startswith("output") else f"output_{key}": value for key, value in found.items()}


def find_output_names(model: keras.Model) -> list[str]:
    """Returns the names of the layers that make the outputs of a Functional or Sequential model, each once.

    A subclassed model has none, and a revived one those of the model that it stands for.
    """
    revived = getattr(model, "revived_output_names", None)
    if revived is not None:
        return list(revived.value)
    names: list[str] = []
    try:
        tensors = keras.tree.flatten(model.outputs) if model.outputs is not None else []
    except AttributeError:  # a subclassed model has no outputs of its own
        return []
    for tensor in tensors:
        name = to_argument_name(tensor._keras_history.operation.name)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


@contextmanager
def calls_undone(model: keras.Model) -> Iterator[None]:
    """Puts back what a call of the model leaves behind: losses that layers added, notes of the call, given names."""
    names = global_state.get_global_attribute("object_name_uids", defaultdict(int), set_to_default=True)
    kept_names = dict(names)
    kept = [
        (layer, list(layer._losses), set(layer._loss_ids), layer._called, list(layer._tracked))
        for layer in model._flatten_layers()
    ]
    try:
        yield
    finally:
        for layer, losses, identities, called, tracked in kept:
            layer._losses[:] = losses
            layer._loss_ids.clear()
            layer._loss_ids.update(identities)
            layer._tracked[:] = tracked
            if layer._called != called:
                layer._called = called
        names.clear()
        names.update(kept_names)


def trace_serving(model: keras.Model, inputs: Inputs, call: Callable[..., Any] | None = None) -> Any:
    """Traces the model's inference with its own input and output names.

    Args:
        model: The model.
        inputs: What it takes.
        call: The model's inference if it has been traced already: a function of the tensors in `inputs`.

    Returns:
        A concrete function of keyword arguments which returns a dict.

    Raises:
        ModelError: It cannot be traced.
    """
    call = call or make_call(model, inputs)
    names = [leaf.name for leaf in inputs.leaves]

    def serve(**tensors: Any) -> dict[str, Any]:
        return name_outputs(model, call(*(tensors[name] for name in names)))

    with tracing_explained(model.name), calls_undone(model):
        return tf.function(serve, autograph=False).get_concrete_function(
            **{leaf.name: leaf.to_spec() for leaf in inputs.leaves}
        )


def canonicalize(signatures: Any) -> dict[str, Any]:
    """Returns signatures as a dict of concrete functions.

    Args:
        signatures: A `tf.function` with an input signature, a concrete function, or a dict of them.

    Returns:
        Name -> concrete function. A single function becomes `serving_default`.

    Raises:
        ArgumentError: Something else was given, or a function without an input signature.
    """
    if not isinstance(signatures, Mapping):
        signatures = {SERVING_DEFAULT: signatures}
    traced: dict[str, Any] = {}
    for name, function in signatures.items():
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"`signatures` must have names of type str. Received the name: {describe_value(name)}.")
        if isinstance(function, tf.types.experimental.ConcreteFunction):
            traced[name] = function
        elif isinstance(function, tf.types.experimental.PolymorphicFunction):
            if function.input_signature is None:
                raise ArgumentError(
                    f"The signature {describe_value(name)} is a tf.function without an input signature, "
                    "so its shapes are not known. "
                    "Decorate it with `@tf.function(input_signature=[tf.TensorSpec(...)])`, or give "
                    "`function.get_concrete_function(...)`."
                )
            traced[name] = function.get_concrete_function()
        else:
            raise ArgumentError(
                f"The signature {describe_value(name)} must be a tf.function or a concrete function. "
                f"Received: {describe_value(function)} (of type {type(function).__name__})."
            )
    return traced


def find_captured(function: Any, kind: type) -> list[Any]:
    """Finds the objects whose resources a function uses, also through functions that were loaded from a file.

    Args:
        function: A concrete function.
        kind: Of the objects, such as `tf.Variable` or `tf.saved_model.experimental.TrackableResource`.

    Returns:
        Each object once.
    """
    owners = (getattr(tensor, "_parent_trackable", lambda: None)() for tensor in function.captured_inputs)
    return list({id(owner): owner for owner in owners if isinstance(owner, kind)}.values())


def read_meta_graph(path: Path) -> meta_graph_pb2.MetaGraphDef:
    """Reads the serving graph of a SavedModel directory, without loading it.

    Raises:
        ArtifactError: There is no SavedModel, it is damaged, or it has no graph for serving.
    """
    try:
        saved_model = saved_model_pb2.SavedModel.FromString((path / GRAPH).read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} is not a SavedModel: {error}.") from error
    except Exception as error:  # the protobuf library's own error type has changed between versions
        raise ArtifactError(f"{path / GRAPH} is damaged: {error}.") from error
    for meta_graph in saved_model.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return meta_graph
    raise ArtifactError(f"{path / GRAPH} has no graph with the tag 'serve'.")


def read_endpoints(path: Path) -> dict[str, Endpoint]:
    """Reads the endpoints of a SavedModel from its file.

    Args:
        path: The directory.

    Returns:
        Name -> endpoint, sorted by name.

    Raises:
        ArtifactError: There is no SavedModel, or it is damaged.
    """
    signatures = read_meta_graph(path).signature_def
    return {
        name: Endpoint(_describe(signatures[name].inputs), _describe(signatures[name].outputs))
        for name in sorted(signatures)
        if name not in _INTERNAL_SIGNATURES
    }


def _describe(tensors: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Tensor]:
    described = {}
    for name in sorted(tensors):
        info = tensors[name]
        dims = (
            None
            if info.tensor_shape.unknown_rank
            else tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
        )
        described[name] = Tensor(dims, tf.as_dtype(info.dtype).name)
    return described
