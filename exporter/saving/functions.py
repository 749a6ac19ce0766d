"""The functions of a model that live on in a SavedModel without the code that defined it.

A part of the model whose configuration needs code from outside Keras (a custom layer, a subclassed model, a custom
activation) is traced as it behaves in inference and in training. If the loss, a metric, the optimizer or the
training step itself needs such code, the whole step is traced as well.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from exporter.saving.signatures import Inputs, describe_inputs, losses_kept, make_call, name_outputs, observe_data
from exporter.saving.state import State, walk
from exporter.saving.topology import Config

AutoTrackable = tf.__internal__.tracking.AutoTrackable

# What a user's model may define for itself, and then trains by itself.
_TRAINING_METHODS = ("train_step", "test_step", "compute_loss", "compute_metrics", "fit", "evaluate", "compile")


@dataclass(frozen=True, slots=True)
class UnitVariable:
    """One variable of a part that lives on as functions.

    Attributes:
        path: Its path in the state of the whole model.
        name: Its name.
        regularizer: Its regulariser's configuration; for the whole model its losses are part of the functions.
        constraint: Its constraint's configuration.
    """

    path: str
    name: str
    regularizer: Config | None
    constraint: Config | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the model that lives on as functions: the model itself (`""`), or one of its layers.

    Attributes:
        path: Its address.
        name: The name of the layer.
        class_name: The name of its class.
        needs: The names of what its configuration needs.
        variables: Its variables, in the order of `layer.variables`.
        inputs: For the whole model: what it takes.
        output_names: For the whole model: the names of its outputs, if they are not a dict.
        trains: Whether inference and training differ.
        supports_masking: Whether the mask of its input is the mask of its output.
    """

    path: str
    name: str
    class_name: str
    needs: tuple[str, ...]
    variables: tuple[UnitVariable, ...]
    inputs: Config | None
    output_names: tuple[str, ...]
    trains: bool
    supports_masking: bool


@dataclass(frozen=True, slots=True)
class Functions:
    """What is known of the functions in the artifact.

    Attributes:
        units: The parts, the whole model first.
        steps: Which steps are there: `train`, `test`, both with the losses and metrics inside.
        missing: What the compile configuration needs from outside Keras.
    """

    units: tuple[Unit, ...]
    steps: tuple[str, ...]
    missing: tuple[str, ...]

    def to_json(self) -> str:
        """Returns JSON text for `from_json`."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Functions":
        """Reads what `to_json` returned."""
        fields = json.loads(text)
        units = tuple(
            Unit(
                path=unit["path"],
                name=unit["name"],
                class_name=unit["class_name"],
                needs=tuple(unit["needs"]),
                variables=tuple(UnitVariable(**variable) for variable in unit["variables"]),
                inputs=unit["inputs"],
                output_names=tuple(unit["output_names"]),
                trains=unit["trains"],
                supports_masking=unit["supports_masking"],
            )
            for unit in fields["units"]
        )
        return cls(units, tuple(fields["steps"]), tuple(fields["missing"]))


def find_foreign_names(config: Any) -> list[str]:
    """Lists what a configuration needs from outside Keras.

    Args:
        config: Any part of a configuration in Keras's native format.

    Returns:
        The names under which it is registered or must be given as `custom_objects`; `lambda` for a marshalled one.
    """
    return list(dict.fromkeys(_walk_foreign_names(config)))


def _walk_foreign_names(node: Any) -> Iterator[str]:
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _walk_foreign_names(child)
    if not isinstance(node, dict):
        return
    name = node.get("class_name")
    if name == "__lambda__":
        yield "lambda"
    elif isinstance(name, str) and "config" in node and not name.startswith("__"):
        module = node.get("module")
        registered = node.get("registered_name")
        function = name == "function"
        native = isinstance(module, str) and module.partition(".")[0] == "keras"
        # Keras names its own functions, and others that are not registered, in the same way.
        if not native and not (function and module == "builtins" and _is_keras_function(node["config"])):
            yield str(node["config"] if function else registered or name)
    for child in node.values():
        yield from _walk_foreign_names(child)


def _is_keras_function(name: Any) -> bool:
    modules = (
        keras.activations,
        keras.losses,
        keras.metrics,
        keras.initializers,
        keras.regularizers,
        keras.constraints,
    )
    return isinstance(name, str) and any(hasattr(module, name) for module in modules)


def trace_functions(
    model: keras.Model, state: State, config: Config | None, include_optimizer: bool
) -> tuple[Any, Functions] | None:
    """Traces what must live on without code.

    Args:
        model: A built model.
        state: Its state.
        config: Its configuration, or None if it has none.
        include_optimizer: Whether the training step is saved where it needs code.

    Returns:
        An object to attach to a SavedModel's root, and its description; None for a model that is Keras's own
        through and through.
    """
    compile_config = (config or {}).get("compile_config")
    body = {key: value for key, value in (config or {}).items() if key != "compile_config"}
    needs = find_foreign_names(body) if config is not None else [type(model).__name__]
    missing = find_foreign_names(compile_config) if compile_config else []
    own_step = include_optimizer and model.compiled and (bool(missing) or _trains_by_itself(model))
    if not needs and not own_step:
        return None

    paths = {id(variable): path for path, variable in state.variables.items()}
    holder = AutoTrackable()
    holder.units = {}
    inputs = describe_inputs(model)
    units = [_trace_unit(model, "", model, inputs, needs, paths, holder)]
    if config is not None:
        for path, layer, node in _find_foreign_layers(model, config):
            call = _make_layer_call(layer)
            if call is not None and _knows_regularizers(layer):
                units.append(_trace_unit(model, path, layer, call, find_foreign_names(node), paths, holder))
    steps = _trace_steps(model, holder) if own_step else ()
    return holder, Functions(tuple(units), steps, tuple(missing))


def _trains_by_itself(model: keras.Model) -> bool:
    replaced = any(getattr(type(model), name) is not getattr(keras.Model, name) for name in _TRAINING_METHODS)
    return replaced or hasattr(model, "saved_data")


LayerCall = tuple[list[Any], Callable[[bool], Callable[..., Any]]]


def _trace_unit(
    model: keras.Model,
    path: str,
    layer: keras.layers.Layer,
    call: Inputs | LayerCall,
    needs: list[str],
    paths: Mapping[int, str],
    holder: Any,
) -> Unit:
    whole = isinstance(call, Inputs)
    if isinstance(call, Inputs):
        inputs = call
        specs = [leaf.to_spec() for leaf in inputs.leaves]

        make: Callable[[bool], Callable[..., Any]] = partial(make_call, model, inputs)
    else:
        specs, make = call

    def trace(training: bool) -> Any:
        function = make(training)

        def call_with_losses(*tensors: Any) -> Any:
            outputs = function(*tensors)
            # The whole model's losses hold its regularisers' too; a layer's variables carry their own.
            losses = layer.losses if whole else [v for part in layer._flatten_layers() for v in part._get_own_losses()]
            return outputs, list(losses)

        traced = tf.function(call_with_losses, input_signature=specs, autograph=False)
        with losses_kept(model):
            traced.get_concrete_function()
        return traced

    functions = AutoTrackable()
    functions.inference = trace(False)
    trains = bool(layer._call_has_training_arg)
    if trains:
        functions.training = trace(True)
    holder.units[path or "model"] = functions

    output_names: tuple[str, ...] = ()
    if whole:
        outputs, _ = functions.inference.get_concrete_function().structured_outputs
        if not isinstance(outputs, dict):
            output_names = tuple(name_outputs(model, outputs))
    return Unit(
        path=path,
        name=layer.name,
        class_name=type(layer).__name__,
        needs=tuple(needs),
        variables=tuple(_describe_variable(v, paths[id(v)], whole) for v in layer.variables if id(v) in paths),
        inputs=call.to_json() if isinstance(call, Inputs) else None,
        output_names=output_names,
        trains=trains,
        supports_masking=bool(layer.supports_masking),
    )


def _describe_variable(variable: keras.Variable, path: str, whole: bool) -> UnitVariable:
    return UnitVariable(
        path,
        variable.name,
        None if whole else _serialize_native(variable.regularizer),
        _serialize_native(getattr(variable, "constraint", None)),
    )


def _serialize_native(value: Any) -> Config | None:
    if value is None:
        return None
    config: Config = keras.saving.serialize_keras_object(value)
    return config if not find_foreign_names(config) else None


def _knows_regularizers(layer: keras.layers.Layer) -> bool:
    return all(v.regularizer is None or _serialize_native(v.regularizer) is not None for v in layer.weights)


def _find_foreign_layers(model: keras.Model, config: Config) -> Iterator[tuple[str, Any, Config]]:
    """Finds the layers of Sequential and Functional models, nested ones too, whose configuration needs code."""
    addresses = {id(saveable.target): saveable.path for saveable in walk(model, include_optimizer=False)}

    def find(owner: Any, node: Config) -> Iterator[tuple[str, Any, Config]]:
        inner = node.get("config")
        listed = inner.get("layers") if isinstance(inner, dict) else None
        if node.get("module") != "keras" and not str(node.get("module")).startswith("keras."):
            return
        if not isinstance(listed, list) or type(owner)._obj_type(owner) not in ("Sequential", "Functional"):
            return
        by_name = {layer.name: layer for layer in owner.layers}
        for child in listed:
            layer = by_name.get(child.get("config", {}).get("name", child.get("name")))
            if layer is None or not find_foreign_names(child):
                continue
            native = str(child.get("module")).partition(".")[0] == "keras"
            if native and type(layer)._obj_type(layer) in ("Sequential", "Functional"):
                yield from find(layer, child)
            else:
                yield addresses[id(layer)], layer, child

    yield from find(model, config)


def _make_layer_call(layer: keras.layers.Layer) -> LayerCall | None:
    """Returns how a layer is called inside its model, or None if it is called in several ways.

    The tensors among its arguments become the function's parameters; other arguments are part of the function.
    """
    calls = [(node.arguments.args, node.arguments.kwargs) for node in layer._inbound_nodes]
    own_mask = type(layer).compute_mask is not keras.layers.Layer.compute_mask
    if not calls or own_mask or layer._call_has_mask_arg:
        return None
    flat = [keras.tree.flatten(call) for call in calls]
    first = flat[0]
    for other in flat[1:]:
        if len(other) != len(first):
            return None
    positions = [index for index, item in enumerate(first) if isinstance(item, keras.KerasTensor)]
    specs = []
    for position in positions:
        tensors = [call[position] for call in flat]
        if len({len(tensor.shape) for tensor in tensors}) > 1:
            return None
        shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*(t.shape for t in tensors), strict=True)]
        specs.append(tf.TensorSpec(shape, tensors[0].dtype))

    def make(training: bool) -> Callable[..., Any]:
        def call(*tensors: Any) -> Any:
            items = list(first)
            for position, tensor in zip(positions, tensors, strict=True):
                items[position] = tensor
            args, kwargs = keras.tree.pack_sequence_as(calls[0], items)
            if layer._call_has_training_arg:
                kwargs = {**kwargs, "training": training}
            return layer(*args, **kwargs)

        return call

    return specs, make


def _trace_steps(model: keras.Model, holder: Any) -> tuple[str, ...]:
    """Traces the training and the test step for data like that with which the model was trained."""
    saved = getattr(model, "saved_data", None)
    data = observe_data(model) if saved is None else saved.value
    if not data:
        return ()
    flat = [spec for spec in tf.nest.flatten(data) if spec is not None]

    def make(step: Callable[[Any], Any]) -> Any:
        def run(*leaves: Any) -> Any:
            remaining = iter(leaves)
            return step(tf.nest.map_structure(lambda spec: None if spec is None else next(remaining), data))

        traced = tf.function(run, input_signature=flat, autograph=False)
        with losses_kept(model):
            traced.get_concrete_function()
        return traced

    holder.train = make(model.train_step)
    holder.test = make(model.test_step)
    holder.reset = tf.function(model.reset_metrics, input_signature=[], autograph=False)
    holder.reset.get_concrete_function()
    holder.results = tf.function(model.get_metrics_result, input_signature=[], autograph=False)
    holder.results.get_concrete_function()
    return ("train", "test")
