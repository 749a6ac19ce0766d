"""The ways in which a layer is called inside its model."""

import inspect
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from exporter.saving.functions.records import Parameter
from exporter.typing.keras import KerasTensor, Layer
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Tensor, TensorSpec

# The positional and the keyword arguments of a call.
_Arguments = tuple[tuple[object, ...], Mapping[str, object]]
# The texts of the constants among them; and the rank and the dtype of each tensor, and whether it has a mask.
_Form = tuple[tuple[str | None, ...], tuple[tuple[int, str, bool], ...]]


def describe_parameters(layer: Layer, used: Sequence[str] | set[str]) -> tuple[Parameter, ...]:
    """Describes the parameters of a layer's `call`.

    Masks travel with their tensors: a parameter for one is left out unless it is among `used`.
    """
    described = []
    for parameter in layer._call_signature.parameters.values():
        mask = parameter.name == "mask" or parameter.name.endswith("_mask")
        if mask and parameter.name not in used:
            continue
        default = parameter.default
        plain = default is None or isinstance(default, (bool, int, float, str))
        given = () if default is inspect.Parameter.empty else (default if plain else None,)
        described.append(Parameter(parameter.name, parameter.kind.name, given))
    return tuple(described)


def call_layer(
    layer: Layer,
    arguments: _Arguments,
    constants: Sequence[str | None],
    masked: Sequence[bool],
    training: bool,
    *tensors: Tensor,
) -> Nested[Tensor]:
    """Calls a layer with tensors, and then their masks, in the places that they have among the arguments."""
    given, masks = iter(tensors), iter(tensors[len(masked) :])
    for tensor, has_mask in zip(tensors, masked, strict=False):
        if has_mask:
            tensor._keras_mask = next(masks)
    items = [
        next(given) if constant is None else item
        for item, constant in zip(keras.tree.flatten(arguments), constants, strict=True)
    ]
    args, kwargs = keras.tree.pack_sequence_as(arguments, items)
    return layer(*args, **kwargs, training=training)


def find_calls(
    layer: Layer,
) -> list[tuple[_Arguments, tuple[str | None, ...], list[TensorSpec], list[TensorSpec | None]]]:
    """Finds the ways in which a layer is called inside its model.

    Returns:
        For each way: its arguments; for each of them None if it is a tensor, else its text; the specs of the tensors;
        and the specs of their masks, None for a tensor without one.
    """
    ways: dict[_Form, list[tuple[_Arguments, list[KerasTensor]]]] = {}
    for node in layer._inbound_nodes:
        kwargs = {name: value for name, value in node.arguments.kwargs.items() if name != "training"}
        arguments = (node.arguments.args, kwargs)
        items = keras.tree.flatten(arguments)
        tensors = [item for item in items if isinstance(item, keras.KerasTensor)]
        constants = tuple(None if isinstance(item, keras.KerasTensor) else repr(item) for item in items)
        forms = tuple((len(t.shape), str(t.dtype), getattr(t, "_keras_mask", None) is not None) for t in tensors)
        ways.setdefault((constants, forms), []).append((arguments, tensors))

    found = []
    for (constants, forms), calls in ways.items():
        alike = list(zip(*(tensors for _, tensors in calls), strict=True))
        specs = [_merge_specs(tensors) for tensors in alike]
        masks = [
            _merge_specs([tensor._keras_mask for tensor in tensors]) if masked else None
            for tensors, (_, _, masked) in zip(alike, forms, strict=True)
        ]
        found.append((calls[0][0], constants, specs, masks))
    return found


def _merge_specs(tensors: Sequence[KerasTensor]) -> TensorSpec:
    shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*(t.shape for t in tensors), strict=True)]
    kind = tf.SparseTensorSpec if getattr(tensors[0], "sparse", False) else tf.TensorSpec
    spec: TensorSpec = kind(shape, tensors[0].dtype)
    return spec
