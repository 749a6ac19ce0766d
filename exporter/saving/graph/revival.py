"""A Keras model from saved functions, without its code.

A revived layer or model is a real, trainable Keras object: its variables are those of the loaded SavedModel, its
call is the function that was traced when the model was saved, and gradients flow through it.
"""

import inspect
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from exporter.errors import ArgumentError, ArtifactError
from exporter.saving.configuration.configurations import REVIVED_MODULE, Config, find_foreign_names
from exporter.saving.configuration.faults import LOAD_FAULTS, keras_explained
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.graph.function_checks import check_functions
from exporter.saving.graph.functions import (
    LEARNING_RATE,
    MODEL,
    STEP,
    CallForm,
    Functions,
    Parameter,
    Part,
    Unit,
    UnitVariable,
    find_own_methods,
    list_layers,
)
from exporter.saving.graph.signatures import InputLeaf, Inputs, build_structure, extract_leaves
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.layout.names import ASSETS
from exporter.saving.layout.tensor_bundle import KEY_SUFFIX
from exporter.saving.private_api import AutoTrackable
from exporter.saving.rebuilding.compilation import compile_model
from exporter.saving.rebuilding.model_configuration import rebuild_model
from exporter.saving.rebuilding.record import (
    StateReader,
    StateRecord,
    VariableRecord,
    build_optimizers,
    load_layers,
    restore_acquired,
    restore_settings,
    restore_variables,
)
from exporter.saving.safety.configurations import check_configuration
from exporter.saving.state.collecting import Array, collect, join, read_array, walk
from exporter.saving.state.kinds import OPTIMIZER, is_below
from exporter.saving.state.replicas import restore_replicas
from exporter.saving.state.resources import Table
from exporter.text.printable import escape
from exporter.text.showing import join_lines


class _Untracked:
    """Keeps a loaded SavedModel's functions out of sight of TensorFlow's object tracking."""

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(slots=True)
class _Loaded:
    """What one artifact gives.

    Attributes:
        units: The functions of every unit, by name.
        record: What is known of the state.
        values: The variables, by path.
        custom_objects: The code that is at hand, by name.
        tables: The lookup tables, by path.
        wrapped: The Keras variables that were made of them so far.
    """

    units: Mapping[str, Any]
    record: StateRecord
    values: Mapping[str, tf.Variable]
    custom_objects: Mapping[str, Any] | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    wrapped: dict[str, keras.Variable] = field(default_factory=dict)

    def wrap(self, path: str, item: UnitVariable | None = None) -> keras.Variable:
        """Returns a Keras variable over the variable at `path`; always the same one."""
        if path not in self.wrapped:
            value, name = self.values[path], path.rpartition("/")[2]
            variable = keras.Variable(
                lambda shape, dtype: tf.zeros((), dtype), shape=(), dtype=value.dtype.name, name=name
            )
            self.wrapped[path] = adopt_value(variable, value, self.record.variables[path].trainable)
            if item is not None:
                variable._name, variable._path = item.name, item.place
                variable.regularizer = self.revive_function(path, "regularizer", item.regularizer)
                variable.constraint = self.revive_function(path, "constraint", item.constraint)
        return self.wrapped[path]

    def revive_function(self, path: str, kind: str, config: Config | None) -> Any:
        """Rebuilds a regulariser or a constraint, from its function if its code is missing."""
        if config is None:
            return None
        if all(is_at_hand(name, self.custom_objects) for name in find_foreign_names(config)):
            check_configuration(config, self.custom_objects)
            given = dict(self.custom_objects or {})
            with keras_explained(f"the {kind} of {path!r}"):
                return keras.saving.deserialize_keras_object(config, given)
        made = RevivedRegularizer if kind == "regularizer" else RevivedConstraint
        return made(self.units[f"{path}/{kind}"], config)


class _RevivedFunction:
    """A function of one tensor that lives on without its code."""

    def __init__(self, functions: Any, original: Config) -> None:
        self._functions = _Untracked(functions)
        self._original = _Untracked(original)

    def __call__(self, value: Any) -> Any:
        function = self._functions.value.inference
        return function(tf.cast(keras.ops.convert_to_tensor(value), _input_specs(function)[0].dtype))

    def get_config(self) -> Config:
        """Returns the configuration of what this one stands for."""
        return {"original": self._original.value}


class RevivedRegularizer(_RevivedFunction, keras.regularizers.Regularizer):
    """A regulariser whose code is not at hand."""


class RevivedConstraint(_RevivedFunction, keras.constraints.Constraint):
    """A constraint whose code is not at hand."""


class RevivedSchedule(_RevivedFunction, keras.optimizers.schedules.LearningRateSchedule):
    """A learning-rate schedule whose code is not at hand."""


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
    def layers(self) -> list[keras.layers.Layer]:
        """The layers inside."""
        return list(self._layers)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Says that it cannot be called."""
        raise ArgumentError(
            f"The layer {self.name!r} lives on inside the functions of the layer that contains it, and cannot be "
            f"called by itself. Load the model with the code of {type(self).__name__} to do that."
        )


class RevivedOptimizer(keras.optimizers.Optimizer):
    """An optimizer whose code is not at hand: it holds the state that the saved training step uses."""

    def __init__(self, loaded: _Loaded, original: Config | None) -> None:
        config = (original or {}).get("config") or {}
        super().__init__(
            0.0, name=config.get("name"), gradient_accumulation_steps=config.get("gradient_accumulation_steps")
        )
        self._original = _Untracked(original)
        self._variables.clear()
        variables = {
            path.removeprefix(f"{OPTIMIZER}/"): loaded.wrap(path)
            for path in loaded.record.variables
            if is_below(path, (OPTIMIZER,))
        }
        object.__setattr__(self, "revived_variables", variables)
        for variable in variables.values():
            self._track_variable(variable)
        self._iterations: keras.Variable = variables["vars/0"]
        if isinstance(config.get("learning_rate"), float):
            self._learning_rate = variables["vars/1"]

    def update_step(self, *args: Any, **kwargs: Any) -> None:
        """Says that there is no code to do it."""
        raise ArgumentError(
            f"The optimizer {self.name!r} has no code here: only the saved training step can update with it. "
            "Name its class in `custom_objects` when the model is loaded, or compile the model with another optimizer."
        )

    def save_own_variables(self, store: Any) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""

    def load_own_variables(self, store: Any) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""

    def get_config(self) -> Config:
        """Returns the configuration of what this one stands for."""
        return {"original": self._original.value or {}}


class _Revived:
    """What a revived layer and a revived model have in common.

    Attributes:
        revived_variables: The variables by their address below this object's own.
        revived_parts: The layers that this object stands for, likewise.
        revived_tables: The lookup tables, likewise.
    """

    revived_variables: Mapping[str, keras.Variable]
    revived_parts: Mapping[str, keras.layers.Layer]
    revived_tables: Mapping[str, Table]

    def _adopt(self, unit: Unit, loaded: _Loaded) -> None:
        self._unit = _Untracked(unit)
        self._units = _Untracked(loaded.units)
        prefix = f"{unit.path}/" if unit.path else ""
        variables = {item.path.removeprefix(prefix): loaded.wrap(item.path, item) for item in unit.variables}
        layers = [self, *(_make_class(RevivedPart, part.class_name)(part) for part in unit.parts[1:])]
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

    def _run(self, name: str, tensors: Sequence[Any], training: Any) -> Any:
        functions = self._units.value[name]
        function = functions.training if training and self._unit.value.trains else functions.inference
        outputs, extras = _call(function, tensors)
        for loss in extras["losses"]:
            self.add_loss(loss)  # type: ignore[attr-defined]
        for tensor, mask in zip(keras.tree.flatten(outputs), extras["masks"], strict=True):
            if mask is not None:
                tensor._keras_mask = mask
        return outputs, [None if mask is None else mask.shape for mask in extras["masks"]]

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls as ever: what was quantized is part of the saved functions."""
        return self.call(*args, **kwargs)  # type: ignore[attr-defined]

    def build(self, *shapes: Any) -> None:
        """Has nothing to build: the variables are there."""

    def save_own_variables(self, store: Any) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""

    def load_own_variables(self, store: Any) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""


def _fill(layer: Any, part: Part, children: Sequence[keras.layers.Layer], loaded: _Loaded) -> None:
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
    """A layer whose class is not at hand: it behaves as it did when it was saved."""

    def __init__(self, unit: Unit, loaded: _Loaded, original: Config) -> None:
        with keras_explained(f"the layer {unit.parts[0].name!r}"):
            super().__init__(
                name=unit.parts[0].name,
                trainable=unit.parts[0].trainable,
                dtype=keras.dtype_policies.deserialize(unit.dtype_policy),
            )
        self._original = _Untracked(original)
        self._mask_shapes = _Untracked([])
        self._allow_non_tensor_positional_args = True
        self._adopt(unit, loaded)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers inside."""
        return list(self._layers)

    def call(self, *args: Any, training: Any = None, **kwargs: Any) -> Any:
        """Runs the saved function on the tensors among the arguments."""
        items = keras.tree.flatten((args, kwargs))
        tensors = [item for item in items if tf.is_tensor(item)]
        form = self._find_form(tuple(None if tf.is_tensor(item) else repr(item) for item in items), tensors)
        specs = _input_specs(self._units.value[form.name].inference)[len(tensors) :]
        masked = [tensor for tensor, has_mask in zip(tensors, form.masked, strict=True) if has_mask]
        masks = [_get_mask(tensor, spec) for tensor, spec in zip(masked, specs, strict=True)]
        outputs, self._mask_shapes.value = self._run(form.name, [*tensors, *masks], training)
        return outputs

    def _find_form(self, constants: tuple[str | None, ...], tensors: Sequence[Any]) -> CallForm:
        unit = self._unit.value
        masked = tuple(hasattr(tensor, "_keras_mask") for tensor in tensors)
        fitting = [
            form
            for form in unit.calls
            if _takes(_input_specs(self._units.value[form.name].inference)[: len(form.masked)], tensors)
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

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the masks of the latest outputs, for Keras's symbolic tensors."""
        return [None if shape is None else keras.KerasTensor(shape, "bool") for shape in self._mask_shapes.value]

    def get_config(self) -> Config:
        """Returns the configuration of the layer that this one stands for."""
        return {"original": self._original.value}


def _get_mask(tensor: Any, spec: tf.TensorSpec) -> Any:
    # Without a mask everything counts; Keras's symbolic tensors come without theirs.
    mask = getattr(tensor, "_keras_mask", None)
    return tf.ones(tf.shape(tensor)[: spec.shape.rank], "bool") if mask is None else mask


class RevivedModel(_Revived, keras.Model):
    """A model whose class is not at hand: it predicts, evaluates and trains as it did when it was saved."""

    def __init__(self, unit: Unit, loaded: _Loaded, original: Config | None) -> None:
        with keras_explained(f"the model {unit.parts[0].name!r}"):
            super().__init__(
                name=unit.parts[0].name,
                trainable=unit.parts[0].trainable,
                dtype=keras.dtype_policies.deserialize(unit.dtype_policy),
            )
        self._original = _Untracked(original)
        self.revived_inputs = _Untracked(Inputs.from_json(unit.inputs or {"leaves": [], "structure": []}))
        self.revived_output_names = _Untracked(unit.output_names)
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

    def call(self, *args: Any, training: Any = None, **kwargs: Any) -> Any:
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


def _make_class(base: type, name: str) -> Any:
    """Makes a class of the original's name: addresses in a model's state are made of class names."""
    return type(name, (base,), {"__module__": REVIVED_MODULE})


def _make_unit_class(base: Any, unit: Unit) -> Any:
    """Makes a class of the original's name, whose `call` has the original's parameters."""
    made = _make_class(base, unit.parts[0].class_name)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return base.call(self, *args, **kwargs)

    kind = inspect.Parameter
    parameters = [kind("self", kind.POSITIONAL_OR_KEYWORD)]
    for item in unit.parameters:
        default = item.default[0] if item.default else kind.empty
        parameters.append(kind(item.name, getattr(kind, item.kind), default=default))
    if unit.trains and all(item.name != "training" for item in unit.parameters):
        # Keras tells a layer inside a model of training even if its `call` does not take the argument.
        last = [] if parameters[-1].kind is not kind.VAR_KEYWORD else [parameters.pop()]
        parameters += [kind("training", kind.KEYWORD_ONLY, default=None), *last]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made.call = call
    return made


def _input_specs(function: Any) -> tuple[Any, ...]:
    # A restored function lists its traces; one that was made here has its only trace at hand.
    traces = getattr(function, "concrete_functions", None) or [function.get_concrete_function()]
    specs: tuple[Any, ...] = traces[0].structured_input_signature[0]
    return specs


def _call(function: Any, tensors: Sequence[Any]) -> Any:
    """Calls a saved function with tensors of the dtypes that it takes."""
    return function(
        *(
            tf.cast(tensor, spec.dtype) if tensor.dtype != spec.dtype else tensor
            for tensor, spec in zip(tensors, _input_specs(function), strict=True)
        )
    )


def adopt_value(variable: keras.Variable, value: tf.Variable, trainable: bool) -> keras.Variable:
    """Puts an existing TensorFlow variable in the place of a Keras variable's own."""
    variable._value = value
    variable._shape = tuple(value.shape)
    variable.trainable = trainable
    return variable


def revive_model(
    path: Path,
    record: StateRecord,
    functions: Functions,
    config: Config | None,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Rebuilds a model of which some code is missing.

    Args:
        path: The SavedModel directory.
        record: What is known of its state.
        functions: What is known of its functions.
        config: The model's configuration, or None if it has none.
        custom_objects: The code that is at hand, by name.
        compile: Whether the model is compiled and its optimizer restored.
        safe_mode: Refuses marshalled lambdas among what is not revived.

    Returns:
        The model: with its own class and layers where their code is at hand, and with revived ones elsewhere.
    """
    if safe_mode:
        check_configuration([record.dtype_policies, record.acquired], custom_objects)
    with damage_explained(path, "", LOAD_FAULTS), _strange_operations_named(path):
        artifact = tf.saved_model.load(str(path))
    ours = getattr(artifact, "exporter", None)
    holder = getattr(ours, "functions", None)
    units = _read_mapping(holder, "units")
    check_functions(path, functions, units, record)
    resources = _read_mapping(ours, "tables")
    absent = sorted(record.tables.keys() - resources.keys())
    if absent:
        raise ArtifactError(f"{path} is incomplete: it lacks the lookup table {absent[0]!r}, which its record names.")
    tables = {name: Table.restored(resources[name], described) for name, described in record.tables.items()}
    loaded = _Loaded(units, record, _collect_values(path, ours, record), custom_objects, tables)
    values = loaded.values
    body = {key: value for key, value in (config or {}).items() if key != "compile_config"}
    model = _revive_layers(body, functions, loaded, safe_mode) if body else None
    if model is None:
        unit = functions.units[0]
        model = _make_unit_class(RevivedModel, unit)(unit, loaded, body or None)
        _use_saved_prediction(model, loaded.units, functions)
    # The functions use their variables without owning them, so the loaded object has to live as long as the model.
    object.__setattr__(model, "loaded_artifact", _Untracked(artifact))
    object.__setattr__(model, "loaded_resources", [*getattr(ours, "resources", ()), *getattr(holder, "resources", ())])
    reader = StateReader(
        variable=lambda place: read_array(values[place]),
        entries=lambda address: _find_entries(values, f"{address}/vars/" if address else "vars/"),
        asset=lambda name: (path / ASSETS / name).read_bytes(),
    )
    restore_acquired(model, record, custom_objects, safe_mode)
    with tempfile.TemporaryDirectory(prefix="exporter-") as directory:
        load_layers(model, record, reader, Path(directory))
    restore_settings(_find_layers(model), record)
    restore_variables(model, record, reader, include_optimizer=False)
    # Every variable, also of the layers that came back as themselves, becomes the one that the functions use. An
    # optimizer knows its variables by identity, so this comes before it is built.
    _adopt_values(model, loaded, include_optimizer=False)
    compile_config = functions.compile_config if config is None else config.get("compile_config")
    if (
        compile
        and record.compile_extras is not None
        and compile_config
        and _compile(model, compile_config, functions, loaded, safe_mode)
    ):
        _adopt_values(model, loaded, include_optimizer=True)
    restore_replicas(model, record.variables, reader.variable)
    return model


def _read_mapping(owner: Any, name: str) -> dict[str, Any]:
    """Returns a dict among the attributes of what TensorFlow loaded; an empty one if there is none."""
    value = getattr(owner, name, None)
    return dict(value) if isinstance(value, Mapping) else {}


@contextmanager
def _strange_operations_named(path: Path) -> Iterator[None]:
    """Says which operation TensorFlow does not know, and where it may be from."""
    try:
        yield
    except LOAD_FAULTS as error:
        unknown = re.search(r"Op type not registered '([\w>]+)'", str(error))
        if unknown is None:
            raise
        raise ArtifactError(
            f"{path} needs the operation {unknown[1]!r}, which TensorFlow does not have. Import the library that has "
            "it before the load; for the tokenizers of KerasHub: pip install tensorflow-text; import tensorflow_text."
        ) from error


def _collect_values(path: Path, ours: Any, record: StateRecord) -> dict[str, tf.Variable]:
    """Finds every variable of the state; one that no function uses is in the checkpoint only."""
    state = _read_mapping(ours, "state")
    found = {name: state.get(name) for name in record.variables}
    values = {name: value for name, value in found.items() if isinstance(value, tf.Variable)}
    missing = [name for name in found if name not in values]
    if missing:
        with damage_explained(path, "variables", LOAD_FAULTS):
            reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
            arrays = {name: reader.get_tensor(name + KEY_SUFFIX) for name in missing}
        values |= {name: tf.Variable(array, trainable=False) for name, array in arrays.items()}
    return values


def _find_entries(values: Mapping[str, tf.Variable], prefix: str) -> dict[str, Array]:
    return {
        place.removeprefix(prefix): read_array(value) for place, value in values.items() if place.startswith(prefix)
    }


def _find_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    layers: dict[str, keras.layers.Layer] = {}
    for saveable in walk(model, include_optimizer=False):
        layers[saveable.path] = saveable.target
        for place, layer in getattr(saveable.target, "revived_parts", {}).items():
            layers[join(saveable.path, place)] = layer
    return layers


def _adopt_values(model: keras.Model, loaded: _Loaded, include_optimizer: bool) -> None:
    for path, variable in collect(model, include_optimizer).variables.items():
        if path not in loaded.values:
            raise ArtifactError(f"The artifact holds no value for the variable {path!r} of the revived model.")
        adopt_value(variable, loaded.values[path], loaded.record.variables[path].trainable)


def revive_foreign(path: Path) -> keras.Model:
    """Makes a model of a SavedModel's `serving_default`, for one that no Keras model can be rebuilt from.

    Args:
        path: The directory; any writer's.

    Returns:
        A model that predicts; its variables are those that the endpoint uses.

    Raises:
        ArtifactError: It cannot be loaded, or has no `serving_default`.
    """
    try:
        with _strange_operations_named(path):
            loaded = tf.saved_model.load(str(path))
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"TensorFlow cannot load {path}: {join_lines(error)}") from error
    endpoint = loaded.signatures.get(SERVING_DEFAULT)
    if endpoint is None:
        raise ArtifactError(
            f"{path} has no endpoint {SERVING_DEFAULT!r} to make a model of. "
            f"Its endpoints: {', '.join(loaded.signatures) or 'none'}."
        )
    tensors = endpoint.structured_input_signature[1]
    leaves = tuple(InputLeaf(name, tuple(spec.shape), spec.dtype.name) for name, spec in tensors.items())
    names = list(tensors)
    structure = ({"dict": {name: index for index, name in enumerate(names)}},) if len(names) > 1 else (0,)

    def infer(*values: Any) -> Any:
        outputs = endpoint(**dict(zip(names, values, strict=True)))
        return outputs, {"losses": [], "masks": [None] * len(outputs)}

    functions = AutoTrackable()
    functions.inference = tf.function(infer, input_signature=[leaf.to_spec() for leaf in leaves], autograph=False)
    values = {f"vars/{index}": variable for index, variable in enumerate(endpoint.variables)}
    variables = tuple(
        UnitVariable(place, name := v.name.partition(":")[0].replace("/", "_"), name, None, None)
        for place, v in values.items()
    )
    trained = tuple(place for place, v in values.items() if v.trainable)
    kept = tuple(place for place, v in values.items() if not v.trainable)
    unit = Unit(
        path="",
        position=(),
        needs=(),
        parts=(Part("", path.name, "SavedModel", True, trained, kept, (), ()),),
        variables=variables,
        parameters=(Parameter("inputs", "POSITIONAL_OR_KEYWORD", ()),),
        calls=(),
        inputs=Inputs(leaves, structure).to_json(),
        outputs={"dict": {name: index for index, name in enumerate(sorted(endpoint.structured_outputs))}},
        output_names=(),
        trains=False,
        supports_masking=False,
        supports_jit=True,
        dtype_policy="float32",
    )
    record = StateRecord(
        variables={place: VariableRecord(v.dtype.name, tuple(v.shape), v.trainable) for place, v in values.items()},
        trainable={"": True},
        optimizers={},
        compile_extras=None,
        assets=(),
    )
    loaded_parts = _Loaded({MODEL: functions}, record, values)
    model: keras.Model = _make_unit_class(RevivedModel, unit)(unit, loaded_parts, None)
    object.__setattr__(model, "loaded_artifact", _Untracked(loaded))
    return model


def is_at_hand(name: str, custom_objects: Mapping[str, Any] | None) -> bool:
    """Returns whether the class or function of that name is registered or given."""
    if name == "lambda":
        return False
    return keras.saving.get_registered_object(name, custom_objects=dict(custom_objects or {})) is not None


def _revive_layers(config: Config, functions: Functions, loaded: _Loaded, safe_mode: bool) -> keras.Model | None:
    """Rebuilds a Sequential or Functional model with revived layers in it, or returns None if that cannot be."""
    custom_objects = loaded.custom_objects
    missing = {name for name in find_foreign_names(config) if not is_at_hand(name, custom_objects)}
    if not missing:
        return rebuild_model(config, custom_objects, safe_mode)
    units = {unit.position: unit for unit in functions.units if unit.position and set(unit.needs) & missing}
    substitutes: dict[str, Any] = {}

    def substitute(node: Config, position: tuple[int, ...]) -> Config:
        unit = units.get(position)
        if unit is None:
            listed = list_layers(node)
            if not listed:
                return node
            layers = [substitute(child, (*position, index)) for index, child in enumerate(listed)]
            return {**node, "config": {**node["config"], "layers": layers}}
        name = f"exporter>revived>{unit.path}"
        original = {key: value for key, value in node.items() if key not in ("name", "inbound_nodes")}
        substitutes[name] = _Factory(_make_unit_class(RevivedLayer, unit)(unit, loaded, original))
        place = {key: value for key, value in node.items() if key in ("name", "inbound_nodes")}
        return {**place, **_name_substitute(name), "config": {"name": unit.parts[0].name}}

    changed = substitute(config, ())
    if {name for name in find_foreign_names(changed) if not is_at_hand(name, custom_objects)} - set(substitutes):
        return None
    return rebuild_model(changed, {**(custom_objects or {}), **substitutes}, safe_mode)


class _Factory:
    """Gives Keras the object that was made already, where it would build one from a configuration."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def from_config(self, config: Config) -> Any:
        """Returns the object."""
        return self._made


def _compile(model: keras.Model, config: Config, functions: Functions, loaded: _Loaded, safe_mode: bool) -> bool:
    """Compiles a revived model. Returns whether it was."""
    usable, substitutes = _substitute_schedule(config, loaded)
    custom_objects = {**(loaded.custom_objects or {}), **substitutes}
    missing = [name for name in find_foreign_names(usable) if not is_at_hand(name, custom_objects)]
    lost = missing or (list(functions.methods) if isinstance(model, RevivedModel) else [])
    if lost and not functions.steps:
        what = escape(", ".join(missing)) or f"the model's own {', '.join(functions.methods)}"
        warnings.warn(
            f"The model is loaded without being compiled: {what} cannot be rebuilt without code, and no training step "
            "was saved, since the model had not been trained. Name the code in `custom_objects`, or compile the model "
            "yourself.",
            stacklevel=5,
        )
        return False
    if missing:
        warnings.warn(
            f"The model goes on training with its saved training step: {escape(', '.join(missing))} cannot be rebuilt "
            "without code. Name the code in `custom_objects` to have it back.",
            stacklevel=5,
        )
    extras = loaded.record.compile_extras or {}
    optimizer = usable.get(OPTIMIZER)
    native = isinstance(optimizer, dict) and not set(find_foreign_names(optimizer)) & set(missing)
    if lost:
        usable = {key: usable[key] for key in ("run_eagerly", "steps_per_execution", "jit_compile") if key in usable}
        usable[OPTIMIZER] = optimizer
    if not native:
        custom_objects[OPTIMIZER] = _Factory(_make_optimizer(config.get(OPTIMIZER), loaded))
        usable[OPTIMIZER] = _name_substitute(OPTIMIZER)
        extras = {**extras, "auto_scale_loss": False}  # what scaled the loss is part of what was revived
    compile_model(model, usable, extras, custom_objects, safe_mode)
    build_optimizers(model, loaded.record)
    if functions.steps and (lost or not find_own_methods(model)):
        use_saved_steps(model, loaded.units, functions, config, replaceable=not lost)
    return True


def _name_substitute(name: str) -> Config:
    return {"module": REVIVED_MODULE, "class_name": name, "registered_name": name, "config": {}}


def _substitute_schedule(config: Config, loaded: _Loaded) -> tuple[Config, dict[str, Any]]:
    """Puts the saved function of a learning-rate schedule in the place of one without code.

    Returns:
        The compile configuration, and what it needs.
    """
    optimizer = config.get(OPTIMIZER)
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("config"), dict):
        return config, {}
    inner: Config = optimizer["config"]
    if isinstance(inner.get("inner_optimizer"), dict):
        changed, substitutes = _substitute_schedule({OPTIMIZER: inner["inner_optimizer"]}, loaded)
        inner = {**inner, "inner_optimizer": changed[OPTIMIZER]}
        return {**config, OPTIMIZER: {**optimizer, "config": inner}}, substitutes
    schedule = inner.get("learning_rate")
    needs = find_foreign_names(schedule)
    if (
        not isinstance(schedule, dict)
        or LEARNING_RATE not in loaded.units
        or all(is_at_hand(name, loaded.custom_objects) for name in needs)
    ):
        return config, {}
    made = _make_class(RevivedSchedule, schedule["class_name"])(loaded.units[LEARNING_RATE], schedule)
    inner = {**inner, "learning_rate": _name_substitute(LEARNING_RATE)}
    return {**config, OPTIMIZER: {**optimizer, "config": inner}}, {LEARNING_RATE: _Factory(made)}


def _make_optimizer(config: Any, loaded: _Loaded) -> RevivedOptimizer:
    original = config if isinstance(config, dict) else None
    made: RevivedOptimizer = _make_class(RevivedOptimizer, (original or {}).get("class_name", "Optimizer"))(
        loaded, original
    )
    return made


def use_saved_steps(
    model: keras.Model, units: Mapping[str, Any], functions: Functions, config: Config, replaceable: bool
) -> None:
    """Lets a model train and evaluate with the saved steps, until it is compiled anew.

    Args:
        model: A compiled model.
        units: The loaded functions.
        functions: What is known of them.
        config: The compile configuration with which they were traced.
        replaceable: Whether the model can train without them; it does when it is given other data than they take.
    """
    untracked = _Untracked(units)
    exact = "exact train" in functions.steps

    def get_function(step: str) -> Any:
        return untracked.value[f"{STEP}{step}"].inference

    def order(logs: Any, step: str) -> Any:
        names = functions.steps[step]
        return {name: logs[name] for name in names} if names else logs

    def run(method: str, steps: Sequence[str], data: Any) -> Any:
        leaves = [leaf for leaf in tf.nest.flatten(data) if leaf is not None]
        # It was traced for one replica: several would each train a model of their own.
        distributed = tf.distribute.get_strategy().num_replicas_in_sync > 1
        for step in steps if not distributed else ():
            specs = _input_specs(get_function(step))
            # A batch whose size is not known fits only a step for batches of any size.
            known = all(spec.shape[:1] in ([None], leaf.shape[:1]) for spec, leaf in zip(specs, leaves, strict=False))
            if known and _takes(specs, leaves) and hasattr(model, "saved_data"):
                return order(_call(get_function(step), leaves), step)
        if not replaceable and distributed:
            raise ArgumentError(
                f"The saved {method} is for one replica, and this strategy has "
                f"{tf.distribute.get_strategy().num_replicas_in_sync}. Load the model outside of the strategy's scope, "
                "or with its code."
            )
        if not replaceable:
            expected = ", ".join(str(spec.shape) for spec in _input_specs(get_function(steps[-1])))
            raise ArgumentError(
                f"The saved {method} takes tensors of the shapes {expected}, like the data that the model was trained "
                f"with. Received: {', '.join(str(leaf.shape) for leaf in leaves)}. Give data of the same structure, or "
                "compile the model anew."
            )
        restore()
        # Now the losses and metrics make their variables, which TensorFlow forbids a function that is traced again; a
        # thread of its own is outside of the function.
        with ThreadPoolExecutor(1) as outside:
            outside.submit(model._symbolic_build, data_batch=data).result()
        return getattr(model, method)(data)

    def restore() -> None:
        for name in replaced:
            vars(model).pop(name, None)

    def train_step(data: Any) -> Any:
        return run("train_step", ("exact train", "train") if exact else ("train",), data)

    def test_step(data: Any) -> Any:
        return run("test_step", ("exact test", "test") if exact else ("test",), data)

    def reset_metrics() -> None:
        get_function("reset")()

    def get_metrics_result() -> Any:
        return order(get_function("results")(), "results")

    def flatten_metrics_in_order(logs: Mapping[str, Any]) -> Any:
        names = functions.steps["evaluation"]
        values = [logs[name] for name in (*names, *sorted(logs.keys() - set(names))) if name in logs]
        return values[0] if len(values) == 1 else values

    def compile_anew(*args: Any, **kwargs: Any) -> None:
        restore()
        model.compile(*args, **kwargs)

    replaced = {
        "train_step": train_step,
        **({"test_step": test_step} if "test" in functions.steps else {}),
        "reset_metrics": reset_metrics,
        "get_metrics_result": get_metrics_result,
        "_flatten_metrics_in_order": flatten_metrics_in_order,
        "compile": compile_anew,
        "saved_data": _input_specs(get_function("train")),
        "saved_exact_data": _input_specs(get_function("exact train" if exact else "train")),
        "saved_compile_config": _Untracked(config),
    }
    for name, value in replaced.items():
        object.__setattr__(model, name, value)


def _use_saved_prediction(model: keras.Model, units: Mapping[str, Any], functions: Functions) -> None:
    """Lets a revived model predict as the original's own methods did; what was not saved of them says so."""
    untracked = _Untracked(units)

    def predict_step(data: Any) -> Any:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        leaves = extract_leaves(model.revived_inputs.value, (inputs,))
        outputs = _call(untracked.value[f"{STEP}predict"].inference, leaves)
        # A saved function gives the keys of a dict in sorted order.
        return build_structure(functions.prediction, keras.tree.flatten(outputs))

    def refuse(name: str, why: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            raise ArgumentError(
                f"The model's own `{name}` was not saved, since {why}. Call the model itself, or load it with the code "
                f"of {type(model).__name__}."
            )

        return method

    replaced = {name: refuse(name, why) for name, why in functions.lost.items()}
    if functions.prediction is not None:
        replaced["predict_step"] = predict_step
    for name, method in replaced.items():
        object.__setattr__(model, name, method)
    if replaced:
        object.__setattr__(model, "saved_prediction", _Untracked(tuple(replaced)))


def _takes(specs: Sequence[Any], tensors: Sequence[Any]) -> bool:
    return len(specs) == len(tensors) and all(
        spec.shape.is_compatible_with(tensor.shape) for spec, tensor in zip(specs, tensors, strict=True)
    )
