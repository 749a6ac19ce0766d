"""Layers and models whose call is a saved function."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar, cast

import keras
import tensorflow as tf

from exporter.errors import ArgumentError
from exporter.saving.configuration.configurations import REVIVED_MODULE
from exporter.saving.configuration.faults import keras_explained
from exporter.saving.functions.records import MODEL, CallForm, Part, Unit
from exporter.saving.graph.inputs import Inputs, build_structure, extract_leaves
from exporter.saving.revival.calling import Untracked, call_function, list_specs, takes_tensors
from exporter.saving.revival.loaded import Loaded
from exporter.saving.state.resources import Table
from exporter.typing.keras import Layer, Variable
from exporter.typing.structures import Config, Nested
from exporter.typing.tensorflow import Shape, Tensor, TensorSpec

T = TypeVar("T")
R = TypeVar("R", "RevivedLayer", "RevivedModel")


class RevivedPart(keras.layers.Layer):
    """A layer inside one that was revived: it holds its variables, which the functions of the whole use.

    It can be inspected and frozen, not called.
    """

    def __init__(self, part: Part) -> None:
        with keras_explained(f"the layer {part.name!r}"):
            super().__init__(name=part.name, trainable=part.trainable)
        self._is_quantized = True  # as in `_Revived`
        self.built = True

    @property
    def layers(self) -> list[Layer]:
        """The layers inside."""
        return list(self._layers)

    def call(self, *args: object, **kwargs: object) -> NoReturn:
        """Says that it cannot be called."""
        raise ArgumentError(
            f"The layer {self.name!r} lives on inside the functions of the layer that contains it, and cannot be "
            f"called by itself. Load the model with the code of {type(self).__name__} to do that."
        )


class _Revived:
    """What a revived layer and a revived model have in common.

    Attributes:
        revived_variables: The variables by their address below this object's own.
        revived_parts: The layers that this object stands for, likewise.
        revived_tables: The lookup tables, likewise.
    """

    revived_variables: Mapping[str, Variable]
    revived_parts: Mapping[str, Layer]
    revived_tables: Mapping[str, Table]

    def _adopt(self, unit: Unit, loaded: Loaded) -> None:
        self._unit = Untracked(unit)
        self._units = Untracked(loaded.units)
        prefix = f"{unit.path}/" if unit.path else ""
        variables = {item.path.removeprefix(prefix): loaded.wrap(item.path, item) for item in unit.variables}
        layers = [cast(Layer, self), *(make_class(RevivedPart, part.class_name)(part) for part in unit.parts[1:])]
        for part, layer in zip(unit.parts, layers, strict=True):
            _fill(layer, part, [layers[number] for number in part.children], loaded)
        # Neither Keras nor TensorFlow may track these a second time.
        object.__setattr__(self, "revived_variables", variables)
        object.__setattr__(
            self,
            "revived_tables",
            {path.removeprefix(prefix): table for path, table in loaded.tables.items() if path.startswith(prefix)},
        )
        object.__setattr__(
            self,
            "revived_parts",
            {
                part.address.removeprefix(prefix): layer
                for part, layer in zip(unit.parts[1:], layers[1:], strict=True)
                if part.address is not None
            },
        )
        # What the layers had acquired is part of their functions; a model that is saved again says it again.
        object.__setattr__(
            self,
            "revived_acquired",
            {
                part.address.removeprefix(unit.path).removeprefix("/"): loaded.record.acquired[part.address]
                for part in unit.parts
                if part.address is not None and part.address in loaded.record.acquired
            },
        )
        self._is_quantized = True  # it would be quantized when it gets the policy of a quantized layer
        self.supports_masking = unit.supports_masking
        self.supports_jit = unit.supports_jit
        self.built = True

    @property
    def revived_trainable(self) -> Mapping[str, bool]:
        """The trainable flags of the layers that this object stands for, by their address below its own."""
        return {place: bool(layer.trainable) for place, layer in self.revived_parts.items()}

    def _run(self, name: str, tensors: Sequence[Tensor], training: object) -> tuple[Nested[Tensor], list[Shape | None]]:
        functions = self._units.value[name]
        function = functions.training if training and self._unit.value.trains else functions.inference
        outputs, extras = call_function(function, tensors)
        for loss in extras["losses"]:
            self.add_loss(loss)  # type: ignore[attr-defined]
        for tensor, mask in zip(keras.tree.flatten(outputs), extras["masks"], strict=True):
            if mask is not None:
                tensor._keras_mask = mask
        return outputs, [None if mask is None else mask.shape for mask in extras["masks"]]

    def quantized_call(self, *args: object, **kwargs: object) -> Nested[Tensor]:
        """Calls as ever: what was quantized is part of the saved functions."""
        outputs: Nested[Tensor] = self.call(*args, **kwargs)  # type: ignore[attr-defined]
        return outputs

    def build(self, *shapes: object) -> None:
        """Has nothing to build: the variables are there."""

    def save_own_variables(self, store: object) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""

    def load_own_variables(self, store: object) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""


def _fill(layer: Layer, part: Part, children: Sequence[Layer], loaded: Loaded) -> None:
    """Gives a layer its variables, seed generators and inner layers, in the original's order."""
    for store, paths in (("trainable_variables", part.trained), ("non_trainable_variables", part.kept)):
        for path in paths:
            layer._tracker.add_to_store(store, loaded.wrap(path))
    for path in part.seeds:
        generator = keras.random.SeedGenerator(0)
        generator.state = loaded.wrap(path)
        layer._tracker.add_to_store("seed_generators", generator)
    for child in children:
        layer._tracker.add_to_store("layers", child)


class RevivedLayer(_Revived, keras.layers.Layer):
    """A layer whose class is not available: it behaves as it did when it was saved."""

    def __init__(self, unit: Unit, loaded: Loaded, original: Config) -> None:
        with keras_explained(f"the layer {unit.parts[0].name!r}"):
            super().__init__(
                name=unit.parts[0].name,
                trainable=unit.parts[0].trainable,
                dtype=keras.dtype_policies.deserialize(unit.dtype_policy),
            )
        self._original = Untracked(original)
        self._mask_shapes: Untracked[list[Shape | None]] = Untracked([])
        self._allow_non_tensor_positional_args = True
        self._adopt(unit, loaded)

    @property
    def layers(self) -> list[Layer]:
        """The layers inside."""
        return list(self._layers)

    def call(self, *args: object, training: object = None, **kwargs: object) -> Nested[Tensor]:
        """Runs the saved function on the tensors among the arguments."""
        items = keras.tree.flatten((args, kwargs))
        tensors = [item for item in items if tf.is_tensor(item)]
        form = self._find_form(tuple(None if tf.is_tensor(item) else repr(item) for item in items), tensors)
        specs = list_specs(self._units.value[form.name].inference)[len(tensors) :]
        masked = [tensor for tensor, has_mask in zip(tensors, form.masked, strict=True) if has_mask]
        masks = [_get_mask(tensor, spec) for tensor, spec in zip(masked, specs, strict=True)]
        outputs, self._mask_shapes.value = self._run(form.name, [*tensors, *masks], training)
        return outputs

    def _find_form(self, constants: tuple[str | None, ...], tensors: Sequence[Tensor]) -> CallForm:
        unit = self._unit.value
        masked = tuple(hasattr(tensor, "_keras_mask") for tensor in tensors)
        fitting = [
            form
            for form in unit.calls
            if takes_tensors(list_specs(self._units.value[form.name].inference)[: len(form.masked)], tensors)
        ]
        alike = [form for form in fitting if form.constants == constants] or fitting
        exact = [form for form in alike if form.masked == masked] or alike
        if not exact or (len(exact) > 1 and exact[0].constants != constants):
            raise ArgumentError(
                f"The layer {unit.parts[0].name!r} was called in {len(unit.calls)} ways before it was saved, and in "
                "none like this. Call it as it was called then, or load the model with the code of "
                f"{type(self).__name__}."
            )
        chosen: CallForm = exact[0]
        return chosen

    def compute_mask(self, inputs: object, previous_mask: object = None) -> list[Tensor | None]:
        """Returns the masks of the latest outputs, for Keras's symbolic tensors."""
        return [None if shape is None else keras.KerasTensor(shape, "bool") for shape in self._mask_shapes.value]

    def get_config(self) -> Config:
        """Returns the configuration of the layer that this one stands for."""
        return {"original": self._original.value}


def _get_mask(tensor: Tensor, spec: TensorSpec) -> Tensor:
    # Without a mask everything counts; Keras's symbolic tensors come without theirs.
    mask = getattr(tensor, "_keras_mask", None)
    known: Tensor = tf.ones(tf.shape(tensor)[: spec.shape.rank], "bool") if mask is None else mask
    return known


class RevivedModel(_Revived, keras.Model):
    """A model whose class is not available: it predicts, evaluates and trains as it did when it was saved."""

    def __init__(self, unit: Unit, loaded: Loaded, original: Config | None) -> None:
        with keras_explained(f"the model {unit.parts[0].name!r}"):
            super().__init__(
                name=unit.parts[0].name,
                trainable=unit.parts[0].trainable,
                dtype=keras.dtype_policies.deserialize(unit.dtype_policy),
            )
        self._original = Untracked(original)
        self.revived_inputs = Untracked(Inputs.from_json(unit.inputs or {"leaves": [], "structure": []}))
        self.revived_output_names = Untracked(unit.output_names)
        self._adopt(unit, loaded)

    @property
    def input_names(self) -> list[str]:
        """The names of the model's inputs."""
        return [leaf.name for leaf in self.revived_inputs.value.leaves]

    @property
    def output_names(self) -> list[str]:
        """The names of the model's outputs; a model of a class of its own may have none."""
        if not self.revived_output_names.value:
            raise AttributeError(f"The model {self.name!r} has no names for its outputs.")
        return list(self.revived_output_names.value)

    def call(self, *args: Nested[Tensor], training: object = None, **kwargs: Nested[Tensor]) -> Nested[Tensor]:
        """Runs the saved function."""
        tensors = extract_leaves(self.revived_inputs.value, (*args, *kwargs.values()))
        outputs, _ = self._run(MODEL, tensors, training)
        # A saved function gives the keys of a dict in sorted order.
        return build_structure(self._unit.value.outputs, keras.tree.flatten(outputs))

    def get_config(self) -> Config:
        """Returns the configuration of the model that this one stands for."""
        if self._original.value is None:
            raise NotImplementedError("the model was saved without a configuration.")
        return {"original": self._original.value}


def make_class(base: type[T], name: str) -> type[T]:
    """Makes a class of the original's name: addresses in a model's state are made of class names."""
    return type(name, (base,), {"__module__": REVIVED_MODULE})


def make_unit_class(base: type[R], unit: Unit) -> type[R]:
    """Makes a class of the original's name, whose `call` has the original's parameters."""
    made: Any = make_class(base, unit.parts[0].class_name)

    def call(self: R, *args: Any, **kwargs: Any) -> Nested[Tensor]:
        return base.call(self, *args, **kwargs)

    kind = inspect.Parameter
    parameters = [kind("self", kind.POSITIONAL_OR_KEYWORD)]
    for item in unit.parameters:
        default = item.default[0] if item.default else kind.empty
        parameters.append(kind(item.name, getattr(kind, item.kind), default=default))
    if unit.trains and all(item.name != "training" for item in unit.parameters):
        # Keras tells a layer inside a model of training even if its `call` does not take the argument.
        last: list[inspect.Parameter] = [] if parameters[-1].kind is not kind.VAR_KEYWORD else [parameters.pop()]
        parameters += [kind("training", kind.KEYWORD_ONLY, default=None), *last]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made.call = call
    named: type[R] = made
    return named
