"""A Keras model from saved functions, without its code.

A revived layer or model is a real, trainable Keras object: its variables are those of the loaded SavedModel, its
call is the function that was traced when the model was saved, and gradients flow through it.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from exporter.errors import ArgumentError, ArtifactError
from exporter.saving.functions import AutoTrackable, Functions, Unit, UnitVariable, find_foreign_names
from exporter.saving.record import StateRecord, VariableRecord, build_optimizers
from exporter.saving.signatures import SERVING_DEFAULT, InputLeaf, Inputs, extract_leaves
from exporter.saving.state import collect
from exporter.saving.topology import REVIVED_MODULE, Config, compile_model, rebuild_model


class _Revived:
    """What a revived layer and a revived model have in common.

    Attributes:
        revived_variables: The variables by their address below this object's own.
        revived_trainable: The trainable flags of the layers that this object stands for, likewise.
    """

    revived_variables: Mapping[str, keras.Variable]
    revived_trainable: Mapping[str, bool]

    def _adopt(self, unit: Unit, functions: Any, record: StateRecord, values: Mapping[str, tf.Variable]) -> None:
        self._unit = unit
        self._functions = _Untracked(functions)
        prefix = f"{unit.path}/" if unit.path else ""
        adopted: dict[str, keras.Variable] = {}
        for item in unit.variables:
            variable = _wrap(item.name, values[item.path], record.variables[item.path].trainable)
            adopted[item.path.removeprefix(prefix)] = variable
            if item.regularizer is not None:
                variable.regularizer = keras.regularizers.deserialize(item.regularizer)
            if item.constraint is not None:
                variable.constraint = keras.constraints.deserialize(item.constraint)
            if "/seed_generators/" in f"/{item.path}":
                generator = keras.random.SeedGenerator(0)
                generator.state = variable
                self._seed_generators.append(generator)  # type: ignore[attr-defined]
            else:
                self._track_variable(variable)  # type: ignore[attr-defined]
        object.__setattr__(self, "revived_variables", adopted)
        flags = {
            path.removeprefix(prefix): flag
            for path, flag in record.trainable.items()
            if path.startswith(prefix) and path != unit.path
        }
        object.__setattr__(self, "revived_trainable", flags)

    def _run(self, tensors: Sequence[Any], training: Any) -> Any:
        functions = self._functions.value
        function = functions.training if training and self._unit.trains else functions.inference
        specs = _input_specs(function)
        cast = [
            tf.cast(tensor, spec.dtype) if tensor.dtype != spec.dtype else tensor
            for tensor, spec in zip(tensors, specs, strict=True)
        ]
        outputs, losses = function(*cast)
        for loss in losses:
            self.add_loss(loss)  # type: ignore[attr-defined]
        return outputs

    def save_own_variables(self, store: Any) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""

    def load_own_variables(self, store: Any) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""


class _Untracked:
    """Keeps a loaded SavedModel's functions out of sight of TensorFlow's object tracking."""

    def __init__(self, value: Any) -> None:
        self.value = value


class RevivedLayer(_Revived, keras.layers.Layer):
    """A layer whose class is not at hand: it behaves as it did when it was saved."""

    def __init__(
        self,
        unit: Unit,
        functions: Any,
        record: StateRecord,
        values: Mapping[str, tf.Variable],
        original: Config,
    ) -> None:
        inner = original.get("config") or {}
        super().__init__(name=inner.get("name"), trainable=record.trainable.get(unit.path, True))
        self._original = _Untracked(original)
        self._adopt(unit, functions, record, values)
        self.supports_masking = unit.supports_masking
        self.built = True

    def build(self, *shapes: Any) -> None:
        """Has nothing to build: the variables are there."""

    def call(self, *args: Any, training: Any = None, **kwargs: Any) -> Any:
        """Runs the saved function on the tensors among the arguments."""
        return self._run([item for item in keras.tree.flatten((args, kwargs)) if tf.is_tensor(item)], training)

    def get_config(self) -> Config:
        """Returns the configuration of the layer that this one stands for."""
        return {"original": self._original.value}


class RevivedModel(_Revived, keras.Model):
    """A model whose class is not at hand: it predicts, evaluates and trains as it did when it was saved."""

    def __init__(
        self,
        unit: Unit,
        functions: Any,
        record: StateRecord,
        values: Mapping[str, tf.Variable],
        original: Config | None,
        name: str | None,
    ) -> None:
        super().__init__(name=name, trainable=record.trainable.get("", True))
        self._original = _Untracked(original)
        self._adopt(unit, functions, record, values)
        self.revived_inputs = _Untracked(Inputs.from_json(unit.inputs or {"leaves": [], "structure": []}))
        self.revived_output_names = _Untracked(unit.output_names)
        self.built = True

    @property
    def input_names(self) -> list[str]:
        """The names of the model's inputs."""
        return [leaf.name for leaf in self.revived_inputs.value.leaves]

    @property
    def output_names(self) -> list[str]:
        """The names of the model's outputs, if it does not return a dict."""
        return list(self.revived_output_names.value)

    def build(self, *shapes: Any) -> None:
        """Has nothing to build: the variables are there."""

    def call(self, inputs: Any, *args: Any, training: Any = None, **kwargs: Any) -> Any:
        """Runs the saved function."""
        arguments = (inputs, *args, *kwargs.values())
        return self._run(extract_leaves(self.revived_inputs.value, arguments), training)

    def get_config(self) -> Config:
        """Returns the configuration of the model that this one stands for."""
        if self._original.value is None:
            raise NotImplementedError("the model was saved without a configuration.")
        return {"original": self._original.value}


def _input_specs(function: Any) -> tuple[Any, ...]:
    # A restored function lists its traces; one that was made here has its only trace at hand.
    traces = getattr(function, "concrete_functions", None) or [function.get_concrete_function()]
    specs: tuple[Any, ...] = traces[0].structured_input_signature[0]
    return specs


def _wrap(name: str, value: tf.Variable, trainable: bool) -> keras.Variable:
    """Returns a Keras variable over a variable that exists, so that both change together."""
    variable = keras.Variable(lambda shape, dtype: tf.zeros((), dtype), shape=(), dtype=value.dtype.name, name=name)
    return adopt_value(variable, value, trainable)


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
    loaded = tf.saved_model.load(str(path))
    values = dict(zip(record.variables, loaded.exporter.state, strict=True))
    holder = loaded.exporter.functions
    body = {key: value for key, value in (config or {}).items() if key != "compile_config"}
    units = {unit.path: unit for unit in functions.units}
    model = _revive_layers(body, units, holder, record, values, custom_objects, safe_mode) if body else None
    if model is None:
        name = (body.get("config") or {}).get("name") if body else None
        model = _make_named(RevivedModel, units[""].class_name)(
            units[""], holder.units["model"], record, values, body or None, name
        )
    compile_config = (config or {}).get("compile_config")
    # The functions use their variables without owning them, so the loaded object has to live as long as the model.
    object.__setattr__(model, "loaded_artifact", _Untracked(loaded))
    # Every variable, also of the layers that came back as themselves, becomes the one that the functions use. An
    # optimizer knows its variables by identity, so this comes before it is built.
    _adopt_values(model, record, values, include_optimizer=False)
    if (
        compile
        and record.compile_extras is not None
        and compile_config
        and _compile(model, compile_config, record, functions, holder, custom_objects, safe_mode)
    ):
        _adopt_values(model, record, values, include_optimizer=True)
    return model


def _adopt_values(
    model: keras.Model, record: StateRecord, values: Mapping[str, tf.Variable], include_optimizer: bool
) -> None:
    for path, variable in collect(model, include_optimizer).variables.items():
        if path not in values:
            raise ArtifactError(f"The artifact holds no value for the variable {path!r} of the revived model.")
        if variable.value is not values[path]:
            adopt_value(variable, values[path], record.variables[path].trainable)


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
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ArtifactError(f"TensorFlow cannot load {path}: {error}") from error
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
        return endpoint(**dict(zip(names, values, strict=True))), []

    functions = AutoTrackable()
    functions.inference = tf.function(infer, input_signature=[leaf.to_spec() for leaf in leaves], autograph=False)
    values = {f"vars/{index}": variable for index, variable in enumerate(endpoint.variables)}
    variables = tuple(
        UnitVariable(place, v.name.partition(":")[0].replace("/", "_"), None, None) for place, v in values.items()
    )
    record = StateRecord(
        variables={place: VariableRecord(v.dtype.name, tuple(v.shape), v.trainable) for place, v in values.items()},
        trainable={"": True},
        optimizers={},
        compile_extras=None,
        assets=(),
    )
    unit = Unit("", path.name, "SavedModel", (), variables, Inputs(leaves, structure).to_json(), (), False, False)
    model = _make_named(RevivedModel, "SavedModel")(unit, functions, record, values, None, None)
    object.__setattr__(model, "loaded_artifact", _Untracked(loaded))
    revived: keras.Model = model
    return revived


def is_at_hand(name: str, custom_objects: Mapping[str, Any] | None) -> bool:
    """Returns whether the class or function of that name is registered or given."""
    if name == "lambda":
        return False
    return keras.saving.get_registered_object(name, custom_objects=dict(custom_objects or {})) is not None


def _make_named(base: type, name: str) -> Any:
    """Makes a class of the original's name: addresses in a model's state are made of class names."""
    return type(name, (base,), {"__module__": REVIVED_MODULE})


def _revive_layers(
    config: Config,
    units: Mapping[str, Unit],
    holder: Any,
    record: StateRecord,
    values: Mapping[str, tf.Variable],
    custom_objects: Mapping[str, Any] | None,
    safe_mode: bool,
) -> keras.Model | None:
    """Rebuilds a Sequential or Functional model with revived layers in it, or returns None if that cannot be."""
    missing = {name for name in find_foreign_names(config) if not is_at_hand(name, custom_objects)}
    if not missing:
        return rebuild_model(config, custom_objects, safe_mode)
    parts = {path: unit for path, unit in units.items() if path and set(unit.needs) & missing}
    if missing - {name for unit in parts.values() for name in unit.needs}:
        return None
    substitutes: dict[str, Any] = {}

    def substitute(node: Any) -> Any:
        if isinstance(node, list):
            return [substitute(child) for child in node]
        if not isinstance(node, dict):
            return node
        if "class_name" in node and set(find_foreign_names(node)) & missing:
            name = (node.get("config") or {}).get("name") if isinstance(node.get("config"), dict) else None
            unit = next((u for u in parts.values() if name is not None and _names_unit(u, node, name)), None)
            if unit is not None:
                key = f"exporter>revived>{unit.path}"
                made = _make_named(RevivedLayer, unit.class_name)(
                    unit, holder.units[unit.path], record, values, node_without_graph(node)
                )
                substitutes[key] = _Factory(made)
                return {
                    **{k: v for k, v in node.items() if k in ("name", "inbound_nodes")},
                    "module": REVIVED_MODULE,
                    "class_name": key,
                    "registered_name": key,
                    "config": {"name": name},
                }
        return {key: substitute(child) for key, child in node.items()}

    changed = substitute(config)
    if {name for name in find_foreign_names(changed) if not is_at_hand(name, custom_objects)} - set(substitutes):
        return None
    return rebuild_model(changed, {**(custom_objects or {}), **substitutes}, safe_mode)


def _names_unit(unit: Unit, node: Config, name: str) -> bool:
    return unit.needs == tuple(find_foreign_names(node)) and unit.name == name


def node_without_graph(node: Config) -> Config:
    """Returns a layer's configuration without its place in a Functional model's graph."""
    return {key: value for key, value in node.items() if key not in ("name", "inbound_nodes")}


class _Factory:
    """Gives Keras the layer that was made already, where it would build one from a configuration."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        self._layer = layer

    def from_config(self, config: Config) -> keras.layers.Layer:
        """Returns the layer."""
        return self._layer


def _compile(
    model: keras.Model,
    config: Config,
    record: StateRecord,
    functions: Functions,
    holder: Any,
    custom_objects: Mapping[str, Any] | None,
    safe_mode: bool,
) -> bool:
    """Compiles a revived model. Returns whether its optimizer is the one that was saved."""
    missing = [name for name in find_foreign_names(config) if not is_at_hand(name, custom_objects)]
    if missing and not functions.steps:
        warnings.warn(
            f"The model is loaded without being compiled: {', '.join(missing)} cannot be rebuilt without code, and no "
            "training step was saved, since the model had not been trained. Name the code in `custom_objects`, or "
            "compile the model yourself.",
            stacklevel=5,
        )
        return False
    own_optimizer = not set(find_foreign_names(config.get("optimizer"))) & set(missing)
    usable = config
    if missing:
        usable = {
            **dict.fromkeys(("loss", "metrics", "weighted_metrics", "loss_weights")),
            **{key: config[key] for key in ("run_eagerly", "steps_per_execution", "jit_compile") if key in config},
            "optimizer": config["optimizer"] if own_optimizer else "sgd",
        }
        warnings.warn(
            f"The model goes on training with its saved training step: {', '.join(missing)} cannot be rebuilt without "
            "code. Name the code in `custom_objects` to have it back.",
            stacklevel=5,
        )
    compile_model(model, usable, record.compile_extras or {}, custom_objects, safe_mode)
    if own_optimizer:
        build_optimizers(model, record)
    if functions.steps and (missing or isinstance(model, RevivedModel)):
        use_saved_steps(model, holder, config)
    return own_optimizer


def use_saved_steps(model: keras.Model, holder: Any, config: Config) -> None:
    """Lets a model train and evaluate with the saved steps, until it is compiled anew.

    Args:
        model: A compiled model.
        holder: The loaded functions `train`, `test`, `reset` and `results`.
        config: The compile configuration with which they were traced.
    """
    steps = _Untracked(holder)

    def train_step(data: Any) -> Any:
        return _run_step(steps.value.train, data)

    def test_step(data: Any) -> Any:
        return _run_step(steps.value.test, data)

    def reset_metrics() -> None:
        steps.value.reset()

    def get_metrics_result() -> Any:
        return steps.value.results()

    def compile_anew(*args: Any, **kwargs: Any) -> None:
        for name in (*replaced, "saved_data", "saved_compile_config"):
            object.__delattr__(model, name)
        model.compile(*args, **kwargs)

    replaced = {
        "train_step": train_step,
        "test_step": test_step,
        "reset_metrics": reset_metrics,
        "get_metrics_result": get_metrics_result,
        "compile": compile_anew,
    }
    specs = _input_specs(steps.value.train)
    for name, function in replaced.items():
        object.__setattr__(model, name, function)
    object.__setattr__(model, "saved_data", _Untracked(specs))
    object.__setattr__(model, "saved_compile_config", _Untracked(config))


def _run_step(step: Any, data: Any) -> Any:
    specs = _input_specs(step)
    leaves = [leaf for leaf in tf.nest.flatten(data) if leaf is not None]
    if len(leaves) != len(specs):
        raise ArgumentError(
            f"The saved training step takes {len(specs)} tensors, like the data that the model was trained with. "
            f"Received {len(leaves)}. Give data of the same structure, or compile the model anew."
        )
    return step(*(tf.cast(leaf, spec.dtype) for leaf, spec in zip(leaves, specs, strict=True)))
