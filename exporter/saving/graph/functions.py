"""The functions of a model that live on in a SavedModel without the code that defined it.

A part of the model whose configuration needs code from outside Keras (a custom layer, a subclassed model, a custom
activation) is traced as it behaves in inference and in training. If the loss, a metric, the optimizer or the
training step itself needs such code, the whole step is traced as well.
"""

import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.configuration.configurations import REVIVED_MODULE, Config, find_foreign_names
from exporter.saving.configuration.faults import tracing_explained
from exporter.saving.graph.signatures import (
    build_structure,
    calls_undone,
    describe_inputs,
    find_output_names,
    observe_data,
    takes_bare_data,
)
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.private_api import AutoTrackable
from exporter.saving.rebuilding.compilation import serialize_compile_config
from exporter.saving.state.collecting import State, join, walk
from exporter.saving.state.kinds import OPTIMIZER, Kind, find_kind, is_below
from exporter.saving.state.policies import find_policy
from exporter.text.showing import describe_if_possible, find_first_line

# The names of traced functions that are not those of a layer.
MODEL = "model"
LEARNING_RATE = f"{OPTIMIZER}/learning_rate"
STEP = "step: "

# What a user's model may define for itself, and then predicts or trains by itself.
_PREDICTION_METHODS = ("predict_step", "predict", "predict_on_batch", "make_predict_function")
_TRAINING_METHODS = ("train_step", "test_step", "compute_loss", "compute_metrics", "fit", "evaluate", "compile")


@dataclass(frozen=True, slots=True)
class UnitVariable:
    """One variable of a part that lives on as functions.

    Attributes:
        path: Its path in the state of the whole model.
        name: Its name.
        place: The name that tells it from others: Keras's `Variable.path`.
        regularizer: Its regulariser's configuration; one from outside Keras is traced as `<path>/regularizer`.
        constraint: Its constraint's configuration, likewise as `<path>/constraint`.
    """

    path: str
    name: str
    place: str
    regularizer: Config | None
    constraint: Config | None


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of those that a unit stands for: itself, and the layers inside it.

    Attributes:
        address: Its address in the state, or None if it has none.
        name: Its name.
        class_name: The name of its class.
        trainable: Its trainable flag.
        trained: The paths of the variables that its flag governs.
        kept: The paths of the variables that are never trained.
        seeds: The paths of the states of its seed generators.
        children: The positions of the layers inside it.
    """

    address: str | None
    name: str
    class_name: str
    trainable: bool
    trained: tuple[str, ...]
    kept: tuple[str, ...]
    seeds: tuple[str, ...]
    children: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a `call` method.

    Attributes:
        name: Its name.
        kind: Such as `POSITIONAL_OR_KEYWORD`.
        default: Its default as a list of one item; empty if it has none.
    """

    name: str
    kind: str
    default: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class CallForm:
    """One way in which a layer is called inside its model.

    Attributes:
        name: The name of its functions.
        constants: For each argument, None if it is a tensor, else its text.
        masked: For each tensor, whether it comes with a mask.
    """

    name: str
    constants: tuple[str | None, ...]
    masked: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the model that lives on as functions: the model itself (`""`), or one of its layers.

    Attributes:
        path: Its address.
        position: Where it stands in the model's configuration: positions in the lists of layers, from outside in.
        needs: The names of what its configuration needs.
        parts: The layers that it stands for, itself first.
        variables: Their variables.
        parameters: Those of its `call`.
        calls: For a layer: the ways in which it is called.
        inputs: For the whole model: what it takes.
        outputs: For the whole model: what it gives, as in `Inputs.structure`.
        output_names: For the whole model: the names of its outputs, if it knows them.
        trains: Whether inference and training differ.
        supports_masking: Whether it takes masks.
        supports_jit: Whether XLA can compile it.
        dtype_policy: The configuration of its dtype policy.
    """

    path: str
    position: tuple[int, ...]
    needs: tuple[str, ...]
    parts: tuple[Part, ...]
    variables: tuple[UnitVariable, ...]
    parameters: tuple[Parameter, ...]
    calls: tuple[CallForm, ...]
    inputs: Config | None
    outputs: Any
    output_names: tuple[str, ...]
    trains: bool
    supports_masking: bool
    supports_jit: bool
    dtype_policy: Config | str


@dataclass(frozen=True, slots=True)
class Functions:
    """What is known of the functions in the artifact.

    Attributes:
        units: The parts, the whole model first.
        steps: The steps that are there, `train` and `test`, both with the losses and metrics inside, and `results`:
            the names of what they log. Those called `exact` are for the size of batch that the model was trained
            with. `evaluation` has the order in which `evaluate` returns it.
        missing: What the compile configuration needs from outside Keras.
        methods: The methods of training that the model's own class defines.
        compile_config: The compile configuration, if the model has no other.
        prediction: What the model's own `predict_step` gives, as in `Inputs.structure`; None if it has none, or none
            that could be traced.
        lost: The model's own methods of prediction that live on in no function, and why, by name.
    """

    units: tuple[Unit, ...]
    steps: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...]
    methods: tuple[str, ...]
    compile_config: Config | None
    prediction: Any = None
    lost: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns JSON text for `from_json`."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Functions":
        """Reads what `to_json` returned.

        Raises:
            ArtifactError: The text is damaged.
        """
        try:
            return read_record(cls, parse_json(text, "The artifact's record of functions"))
        except RecordError as error:
            raise ArtifactError(f"The artifact's record of functions is damaged: {error}.") from error


def trace_functions(
    model: keras.Model,
    state: State,
    config: Config | None,
    include_optimizer: bool,
    traced_steps: Mapping[str, Callable[[Any], Any]] | None = None,
) -> tuple[Any, Functions] | None:
    """Traces what must live on without code.

    Args:
        model: A built model.
        state: Its state.
        config: Its configuration, or None if it has none.
        include_optimizer: Whether the training step is saved where it needs code.
        traced_steps: Steps that are traced already, by their names in `Functions.steps`: functions of the data.

    Returns:
        An object to attach to a SavedModel's root, and its description; None for a model that is Keras's own
        through and through.
    """
    compiled = include_optimizer and model.compiled
    own_config = serialize_compile_config(model) if config is None and compiled else None
    compile_config = own_config if config is None else config.get("compile_config")
    body = {key: value for key, value in (config or {}).items() if key != "compile_config"}
    needs = find_foreign_names(body) if config is not None else _find_foreign_classes(model)
    missing = find_foreign_names(compile_config) if compile_config else []
    methods = find_own_methods(model)
    if config is not None and not needs and not (compiled and (missing or methods)):
        return None

    tracer = _Tracer(model, state, traced_steps or {})
    units = [tracer.trace_model(needs)]
    if config is not None:
        for position, layer, node in _find_foreign_layers(model, config):
            unit = tracer.trace_layer(position, layer, find_foreign_names(node))
            if unit is not None:
                units.append(unit)
    if compiled:
        tracer.trace_learning_rate()
    # The step as a whole is the same to the last bit; revived parts may add gradients up in another order.
    steps = tracer.trace_steps() if compiled else {}
    prediction, lost = tracer.trace_prediction()
    functions = Functions(tuple(units), steps, tuple(missing), methods, own_config, prediction, lost)
    return tracer.holder, functions


def _find_foreign_classes(model: keras.Model) -> list[str]:
    kinds = [type(layer) for layer in model._flatten_layers()]
    return list(dict.fromkeys(kind.__name__ for kind in kinds if kind.__module__.partition(".")[0] != "keras"))


def find_own_methods(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of the methods with which a model trains by itself."""
    if hasattr(model, "saved_data"):  # it trains with the steps of another one
        return ("train_step",)
    return tuple(name for name in _TRAINING_METHODS if getattr(type(model), name) is not getattr(keras.Model, name))


def _find_own_prediction(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of the methods with which a model predicts by itself."""
    kept = getattr(model, "saved_prediction", None)
    if kept is not None:  # those of the model that a revived one stands for
        return tuple(kept.value)
    return tuple(name for name in _PREDICTION_METHODS if getattr(type(model), name) is not getattr(keras.Model, name))


def _find_foreign_layers(model: keras.Model, config: Config) -> Iterator[tuple[tuple[int, ...], Any, Config]]:
    """Finds the layers of Sequential and Functional models, nested ones too, whose configuration needs code."""

    def find(owner: Any, node: Config, position: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any, Config]]:
        by_name = {layer.name: layer for layer in owner.layers}
        for index, child in enumerate(list_layers(node)):
            layer = by_name.get(child.get("config", {}).get("name", child.get("name")))
            if layer is None or not find_foreign_names(child):
                continue
            if list_layers(child) and _is_graph(layer):
                yield from find(layer, child, (*position, index))
            else:
                yield (*position, index), layer, child

    if _is_graph(model):
        yield from find(model, config, ())


def list_layers(node: Config) -> list[Config]:
    """Returns the configurations of the layers of a Sequential or Functional model; none for anything else."""
    if str(node.get("module")).partition(".")[0] != "keras" or not isinstance(node.get("config"), dict):
        return []
    listed = node["config"].get("layers")
    return listed if isinstance(listed, list) else []


def _is_graph(layer: Any) -> bool:
    return type(layer)._obj_type(layer) in ("Sequential", "Functional")


class _Tracer:
    """Traces the parts of one model.

    Attributes:
        holder: Where the functions are: `units`, by name.
    """

    def __init__(self, model: keras.Model, state: State, steps: Mapping[str, Callable[[Any], Any]]) -> None:
        self._traced_steps = steps
        self.holder = AutoTrackable()
        self.holder.units = {}
        # What a model that was itself revived runs uses the lookup tables of the artifact that it came from.
        self.holder.resources = getattr(model, "loaded_resources", [])
        self._model = model
        self._paths = {id(variable): path for path, variable in state.variables.items()}
        self._variables = state.variables
        self._addresses: dict[int, str] = {}
        self._untracked: list[tuple[str, keras.layers.Layer]] = []
        for saveable in walk(model, include_optimizer=False):
            self._addresses.setdefault(id(saveable.target), saveable.path)
            if "/attributes/" in f"/{saveable.path}" and isinstance(saveable.target, keras.layers.Layer):
                self._untracked.append((saveable.path, saveable.target))
            for place, layer in getattr(saveable.target, "revived_parts", {}).items():
                self._addresses.setdefault(id(layer), join(saveable.path, place))

    def trace_model(self, needs: Sequence[str]) -> Unit:
        """Traces the whole model."""
        model = self._model
        inputs = describe_inputs(model)
        # Keras tells a model of training only if its `call` takes the argument.
        trains = bool(model._call_has_training_arg)

        def call(training: bool, *leaves: Any) -> Any:
            arguments = {"training": training} if trains else {}
            return model(*(build_structure(argument, leaves) for argument in inputs.structure), **arguments)

        functions = self._trace(MODEL, model, call, [leaf.to_spec() for leaf in inputs.leaves], trains)
        outputs, _ = functions.inference.get_concrete_function().structured_outputs
        names = () if isinstance(outputs, dict) else tuple(find_output_names(model))
        unit = self._describe("", (), model, needs, trains, _describe_parameters(model, ()), ())
        outputs = _describe_structure(_number_leaves(outputs))
        return replace(unit, inputs=inputs.to_json(), outputs=outputs, output_names=names)

    def trace_layer(self, position: tuple[int, ...], layer: keras.layers.Layer, needs: Sequence[str]) -> Unit | None:
        """Traces every way in which a layer is called; returns None for one that is never called."""
        path = self._addresses[id(layer)]
        trains = any(part._call_has_training_arg for part in layer._flatten_layers())
        forms: list[CallForm] = []
        for arguments, constants, specs, masks in _find_calls(layer):
            name = path if not forms else f"{path}#{len(forms)}"
            masked = tuple(mask is not None for mask in masks)
            call = partial(_call_layer, layer, arguments, constants, masked)
            self._trace(name, layer, call, [*specs, *(mask for mask in masks if mask is not None)], trains)
            forms.append(CallForm(name, constants, masked))
        if not forms:
            return None
        used = {name for node in layer._inbound_nodes for name in node.arguments.kwargs}
        return self._describe(path, position, layer, needs, trains, _describe_parameters(layer, used), tuple(forms))

    def trace_learning_rate(self) -> None:
        """Traces a learning-rate schedule that needs code."""
        optimizer = getattr(self._model.optimizer, "inner_optimizer", self._model.optimizer)
        schedule = getattr(optimizer, "_learning_rate", None)
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) and (
            find_foreign_names(_describe_object(schedule))
        ):
            spec = tf.TensorSpec((), optimizer._iterations.dtype)
            self._trace_function(LEARNING_RATE, schedule, spec)

    def trace_steps(self) -> Mapping[str, tuple[str, ...]]:
        """Traces the training and the test step for data like that with which the model was trained."""
        model = self._model
        data = getattr(model, "saved_data", None) or observe_data(model)
        if not data:
            return {}
        steps = {
            "train": self._trace_step("train", data),
            "reset": self._trace_plain("reset", model.reset_metrics, []),
            "results": self._trace_plain("results", model.get_metrics_result, []),
        }
        # A model that trains by code of its own may have no loss to evaluate.
        with suppress(ValueError):
            steps["test"] = self._trace_step("test", data)
        # TensorFlow's optimizer may compute the last bit otherwise where it knows the size of the batch.
        exact = getattr(model, "saved_exact_data", None) or observe_data(model, free_batch=False)
        if tf.nest.flatten(exact) != tf.nest.flatten(data):
            steps["exact train"] = self._trace_step("exact train", exact)
            if "test" in steps:
                steps["exact test"] = self._trace_step("exact test", exact)
        ordered = model._flatten_metrics_in_order({name: name for name in steps.get("test", ())})
        return {**steps, "evaluation": (ordered,) if isinstance(ordered, str) else tuple(ordered)}

    def trace_prediction(self) -> tuple[Any, Mapping[str, str]]:
        """Traces the model's own prediction step for batches of any size.

        Returns:
            What it gives, as in `Inputs.structure`, and why other methods of prediction live on in no function.
        """
        model = self._model
        own = _find_own_prediction(model)
        lost = dict.fromkeys((name for name in own if name != "predict_step"), "it is Python code around the steps")
        if "predict_step" not in own:
            return None, lost
        inputs = describe_inputs(model)
        if len(inputs.structure) != 1:
            return None, {**lost, "predict_step": "the model takes several arguments, and a step one"}

        def predict(*leaves: Any) -> Any:
            return model.predict_step(keras.utils.pack_x_y_sample_weight(build_structure(inputs.structure[0], leaves)))

        functions = AutoTrackable()
        specs = [leaf.to_spec() for leaf in inputs.leaves]
        functions.inference = tf.function(predict, input_signature=specs, autograph=False)
        try:
            with calls_undone(model):
                outputs = functions.inference.get_concrete_function().structured_outputs
        except Exception as error:  # the step is anybody's code
            return None, {**lost, "predict_step": f"it cannot be traced: {_name_fault(error)}"}
        self.holder.units[f"{STEP}predict"] = functions
        return _describe_structure(_number_leaves(outputs)), lost

    def _trace_step(self, name: str, data: Any) -> tuple[str, ...]:
        own = self._model.train_step if name.endswith("train") else self._model.test_step
        step = self._traced_steps.get(name, own)
        bare = len(data) == 1 and takes_bare_data(self._model)

        def run(*leaves: Any) -> Any:
            remaining = iter(leaves)
            given = tf.nest.map_structure(lambda spec: None if spec is None else next(remaining), data)
            return step(given[0] if bare else given)

        return self._trace_plain(name, run, [spec for spec in tf.nest.flatten(data) if spec is not None])

    def _trace_plain(self, name: str, function: Callable[..., Any], specs: Sequence[Any]) -> tuple[str, ...]:
        """Traces a function, and returns the names in the dict that it returns."""
        functions = AutoTrackable()
        functions.inference = tf.function(function, input_signature=specs, autograph=False)
        with calls_undone(self._model):
            outputs = functions.inference.get_concrete_function().structured_outputs
        self.holder.units[f"{STEP}{name}"] = functions
        return tuple(outputs) if isinstance(outputs, dict) else ()

    def _trace(
        self, name: str, layer: keras.layers.Layer, call: Callable[..., Any], specs: Sequence[Any], trains: bool
    ) -> Any:
        def make(training: bool) -> Any:
            def call_with_losses(*tensors: Any) -> Any:
                outputs = call(training, *tensors)
                # Regularisation is the variables' own affair.
                losses = [loss for part in layer._flatten_layers() for loss in part._get_own_losses()]
                masks = [getattr(tensor, "_keras_mask", None) for tensor in keras.tree.flatten(outputs)]
                return outputs, {"losses": losses, "masks": masks}

            traced = tf.function(call_with_losses, input_signature=specs, autograph=False)
            with tracing_explained(layer.name), calls_undone(self._model):
                traced.get_concrete_function()
            return traced

        functions = AutoTrackable()
        functions.inference = make(training=False)
        if trains:
            functions.training = make(training=True)
        self.holder.units[name] = functions
        return functions

    def _trace_function(self, name: str, function: Callable[[Any], Any], spec: tf.TensorSpec) -> None:
        functions = AutoTrackable()
        functions.inference = tf.function(lambda value: function(value), input_signature=[spec], autograph=False)
        functions.inference.get_concrete_function()
        self.holder.units[name] = functions

    def _describe(
        self,
        path: str,
        position: tuple[int, ...],
        layer: keras.layers.Layer,
        needs: Sequence[str],
        trains: bool,
        parameters: tuple[Parameter, ...],
        calls: tuple[CallForm, ...],
    ) -> Unit:
        own = {self._paths.get(id(variable)) for variable in layer.variables}
        # A layer also has what Keras does not track, and the whole model what its code keeps beside its layers, such as
        # a second optimizer's variables.
        places = [
            place
            for place in self._variables
            if place in own or (is_below(place, (path,)) if path else find_kind(place) is not Kind.OPTIMIZER)
        ]
        return Unit(
            path=path,
            position=position,
            needs=tuple(needs),
            parts=self._describe_parts(path, layer),
            variables=tuple(self._describe_variable(place) for place in places),
            parameters=parameters,
            calls=calls,
            inputs=None,
            outputs=None,
            output_names=(),
            trains=trains,
            supports_masking=bool(layer.supports_masking),
            supports_jit=all(part.supports_jit for part in layer._flatten_layers()),
            dtype_policy=keras.dtype_policies.serialize(find_policy(layer)),
        )

    def _describe_parts(self, path: str, layer: keras.layers.Layer) -> tuple[Part, ...]:
        # Layers in plain objects have no parent among the layers, as in the original.
        roots = [layer, *(each for place, each in self._untracked if is_below(place, (path,)) or not path)]
        layers = list({id(part): part for root in roots for part in root._flatten_layers()}.values())
        numbers = {id(part): number for number, part in enumerate(layers)}

        def find_paths(variables: Sequence[keras.Variable]) -> tuple[str, ...]:
            return tuple(self._paths[id(variable)] for variable in variables if id(variable) in self._paths)

        return tuple(
            Part(
                address=self._addresses.get(id(part)),
                name=part.name,
                class_name=type(part).__name__,
                trainable=bool(part.trainable),
                trained=find_paths(part._trainable_variables),
                kept=find_paths(part._non_trainable_variables),
                seeds=find_paths([generator.state for generator in part._seed_generators]),
                children=tuple(numbers[id(child)] for child in part._layers if id(child) in numbers),
            )
            for part in layers
        )

    def _describe_variable(self, path: str) -> UnitVariable:
        variable = self._variables[path]
        own: dict[str, Config | None] = {}
        for kind in ("regularizer", "constraint"):
            value = getattr(variable, kind, None)
            if value is None:
                own[kind] = None
                continue
            own[kind] = _describe_object(value)
            if find_foreign_names(own[kind]) and f"{path}/{kind}" not in self.holder.units:
                self._trace_function(f"{path}/{kind}", value, tf.TensorSpec(variable.shape, variable.dtype))
        return UnitVariable(path, variable.name, variable.path, own["regularizer"], own["constraint"])


def _number_leaves(outputs: Any) -> Any:
    return keras.tree.pack_sequence_as(outputs, list(range(len(keras.tree.flatten(outputs)))))


def _name_fault(error: Exception) -> str:
    text = describe_if_possible(lambda: find_first_line(error, ""))
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _describe_structure(indices: Any) -> Any:
    if isinstance(indices, dict):
        return {"dict": {key: _describe_structure(item) for key, item in indices.items()}}
    if isinstance(indices, (list, tuple)):
        return {"list" if isinstance(indices, list) else "tuple": [_describe_structure(item) for item in indices]}
    return indices


def _describe_object(value: Any) -> Config:
    """Returns the configuration of a regulariser, a constraint or a schedule; only its names if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            config: Config = keras.saving.serialize_keras_object(value)
    except NotImplementedError:
        kind = type(value)
        return {"module": kind.__module__, "class_name": kind.__name__, "config": {}, "registered_name": kind.__name__}
    return config if config["module"] != REVIVED_MODULE else config["config"]["original"]


def _describe_parameters(layer: keras.layers.Layer, used: Sequence[str] | set[str]) -> tuple[Parameter, ...]:
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


def _call_layer(
    layer: keras.layers.Layer,
    arguments: Any,
    constants: Sequence[str | None],
    masked: Sequence[bool],
    training: bool,
    *tensors: Any,
) -> Any:
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


def _find_calls(layer: keras.layers.Layer) -> list[tuple[Any, tuple[str | None, ...], list[Any], list[Any]]]:
    """Finds the ways in which a layer is called inside its model.

    Returns:
        For each way: its arguments; for each of them None if it is a tensor, else its text; the specs of the tensors;
        and the specs of their masks, None for a tensor without one.
    """
    ways: dict[Any, list[Any]] = {}
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


def _merge_specs(tensors: Sequence[Any]) -> Any:
    shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*(t.shape for t in tensors), strict=True)]
    kind = tf.SparseTensorSpec if getattr(tensors[0], "sparse", False) else tf.TensorSpec
    return kind(shape, tensors[0].dtype)
