"""How a model is called and served: its outputs by name, and the signatures of a SavedModel."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
import tensorflow as tf

from exporter.errors import ArgumentError, ModelError
from exporter.saving.configuration.faults import tracing_explained
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.graph.inputs import Inputs, build_structure, to_argument_name
from exporter.saving.private_api import global_state
from exporter.text.failures import locate_definition
from exporter.text.showing import describe_value, list_first
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import ConcreteFunction, Tensor, TFFunction

T = TypeVar("T")


def make_call(model: Model, inputs: Inputs, training: bool = False) -> Callable[..., Nested[Tensor]]:
    """Returns the model as a function of its input tensors.

    Args:
        model: The model.
        inputs: What it takes.
        training: Whether layers such as dropout behave as in training.

    Returns:
        A function of one tensor per leaf of `inputs`, which returns the model's own output structure.
    """
    arguments = {"training": training} if model._call_has_training_arg else {}

    def call(*leaves: Tensor) -> Nested[Tensor]:
        return model(*(build_structure(argument, leaves) for argument in inputs.structure), **arguments)

    return call


def holds_tables(model: Model) -> bool:
    """Tells whether a model looks something up in tables: those of its layers, or such as were attached to it.

    tf2onnx finds no table in a function that another function calls, so what such a model computes has to stand in each
    endpoint itself.
    """
    kind = tf.saved_model.experimental.TrackableResource
    return any(isinstance(value, kind) for layer in model._flatten_layers() for value in vars(layer).values())


def name_outputs(model: Model, outputs: Nested[T]) -> dict[str, T]:
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


def find_output_names(model: Model) -> list[str]:
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
def undo_call_effects(model: Model) -> Iterator[None]:
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


@contextmanager
def kept_to_its_weights(model: Model) -> Iterator[None]:
    """Refuses a call of a model that makes weights: what was built before it was not the whole model.

    Raises:
        ModelError: It made some.
    """
    known = set(map(id, model.weights))
    yield
    made = [weight.path for weight in model.weights if id(weight) not in known]
    if made:
        kind: Any = type(model)
        place = locate_definition(kind.build) or locate_definition(kind.call) or kind.__qualname__
        raise ModelError(
            f"The model {model.name!r} ({place}) was not built as a whole: its call makes "
            f"{list_first(made)}. Let `build` build every layer that `call` uses, or call the model on a batch of data "
            "before it is saved."
        )


def trace_serving(model: Model, inputs: Inputs, call: Callable[..., Nested[Tensor]] | None = None) -> ConcreteFunction:
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

    def serve(**tensors: Tensor) -> dict[str, Tensor]:
        return name_outputs(model, call(*(tensors[name] for name in names)))

    with tracing_explained(model.name), undo_call_effects(model), kept_to_its_weights(model):
        function: TFFunction = tf.function(serve, autograph=False)
        return function.get_concrete_function(**{leaf.name: leaf.to_spec() for leaf in inputs.leaves})


def canonicalize(signatures: object) -> dict[str, ConcreteFunction]:
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
    traced: dict[str, ConcreteFunction] = {}
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


def find_captured(function: ConcreteFunction, kind: type[T]) -> list[T]:
    """Finds the objects whose resources a function uses, also through functions that were loaded from a file.

    Args:
        function: A concrete function.
        kind: Of the objects, such as `tf.Variable` or `tf.saved_model.experimental.TrackableResource`.

    Returns:
        Each object once.
    """
    owners = (getattr(tensor, "_parent_trackable", lambda: None)() for tensor in function.captured_inputs)
    return list({id(owner): owner for owner in owners if isinstance(owner, kind)}.values())
