"""The functions of a model that live on in a SavedModel without the code that defined it.

A part of the model whose configuration needs code from outside Keras (a custom layer, a subclassed model, a custom
activation) is traced as it behaves in inference and in training. If the loss, a metric, the optimizer or the
training step itself needs such code, the whole step is traced as well.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from exporter.saving.configuration.configurations import REVIVED_MODULE, find_foreign_names
from exporter.saving.configuration.faults import tracing_explained
from exporter.saving.functions.layer_calls import call_layer, describe_parameters, find_calls
from exporter.saving.functions.own_code import (
    find_foreign_classes,
    find_foreign_layers,
    find_own_methods,
    find_own_prediction,
)
from exporter.saving.functions.records import (
    LEARNING_RATE,
    MODEL,
    STEP,
    CallForm,
    Functions,
    FunctionsHolder,
    Parameter,
    Part,
    Unit,
    UnitFunctions,
    UnitVariable,
)
from exporter.saving.graph.inputs import build_structure, describe_inputs
from exporter.saving.graph.observations import observe_data, takes_bare_data
from exporter.saving.graph.signatures import find_output_names, kept_to_its_weights, undo_call_effects
from exporter.saving.private_api import AutoTrackable
from exporter.saving.rebuilding.compilation import serialize_compile_config
from exporter.saving.requests import SaveRequest
from exporter.saving.state.collecting import State
from exporter.saving.state.kinds import Kind, find_kind, is_below
from exporter.saving.state.policies import find_policy
from exporter.saving.state.tree import join, walk
from exporter.text.showing import describe_if_possible, find_first_line
from exporter.typing.keras import Layer, Model, Variable
from exporter.typing.structures import JSON, Config, Nested
from exporter.typing.tensorflow import Step, Tensor, TensorSpec, TFFunction


def trace_functions(
    request: SaveRequest, state: State, config: Config | None
) -> tuple[FunctionsHolder, Functions] | None:
    """Traces what must live on without code.

    Args:
        request: What is asked of the save.
        state: The state of the model.
        config: Its configuration, or None if it has none.

    Returns:
        An object to attach to a SavedModel's root, and its description; None for a model that is Keras's own
        through and through.
    """
    model = request.model
    compiled = request.include_optimizer and model.compiled
    own_config = serialize_compile_config(model) if config is None and compiled else None
    compile_config = own_config if config is None else config.get("compile_config")
    body = {key: value for key, value in (config or {}).items() if key != "compile_config"}
    needs = find_foreign_names(body) if config is not None else find_foreign_classes(model)
    missing = find_foreign_names(compile_config) if compile_config else []
    methods = find_own_methods(model)
    if config is not None and not needs and not (compiled and (missing or methods)):
        return None

    tracer = _Tracer(model, state, request.steps)
    units = [tracer.trace_model(needs)]
    if config is not None:
        for position, layer, node in find_foreign_layers(model, config):
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


class _Tracer:
    """Traces the parts of one model.

    Attributes:
        holder: Where the functions are: `units`, by name.
    """

    def __init__(self, model: Model, state: State, steps: Mapping[str, Step]) -> None:
        self._traced_steps = steps
        self.holder: FunctionsHolder = AutoTrackable()
        self.holder.units = {}
        # What a model that was itself revived runs uses the lookup tables of the artifact that it came from.
        self.holder.resources = getattr(model, "loaded_resources", [])
        self._model = model
        self._paths = {id(variable): path for path, variable in state.variables.items()}
        self._variables = state.variables
        self._addresses: dict[int, str] = {}
        self._untracked: list[tuple[str, Layer]] = []
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

        def call(training: bool, *leaves: Tensor) -> Nested[Tensor]:
            arguments = {"training": training} if trains else {}
            return model(*(build_structure(argument, leaves) for argument in inputs.structure), **arguments)

        functions = self._trace(MODEL, model, call, [leaf.to_spec() for leaf in inputs.leaves], trains)
        outputs, _ = functions.inference.get_concrete_function().structured_outputs
        names = () if isinstance(outputs, dict) else tuple(find_output_names(model))
        unit = self._describe("", (), model, needs, trains, describe_parameters(model, ()), ())
        outputs = _describe_structure(_number_leaves(outputs))
        return replace(unit, inputs=inputs.to_json(), outputs=outputs, output_names=names)

    def trace_layer(self, position: tuple[int, ...], layer: Layer, needs: Sequence[str]) -> Unit | None:
        """Traces every way in which a layer is called; returns None for one that is never called."""
        path = self._addresses[id(layer)]
        trains = any(part._call_has_training_arg for part in layer._flatten_layers())
        forms: list[CallForm] = []
        for arguments, constants, specs, masks in find_calls(layer):
            name = path if not forms else f"{path}#{len(forms)}"
            masked = tuple(mask is not None for mask in masks)
            call = partial(call_layer, layer, arguments, constants, masked)
            self._trace(name, layer, call, [*specs, *(mask for mask in masks if mask is not None)], trains)
            forms.append(CallForm(name, constants, masked))
        if not forms:
            return None
        used = {name for node in layer._inbound_nodes for name in node.arguments.kwargs}
        return self._describe(path, position, layer, needs, trains, describe_parameters(layer, used), tuple(forms))

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

    def trace_prediction(self) -> tuple[JSON, Mapping[str, str]]:
        """Traces the model's own prediction step for batches of any size.

        Returns:
            What it gives, as in `Inputs.structure`, and why other methods of prediction live on in no function.
        """
        model = self._model
        own = find_own_prediction(model)
        lost = dict.fromkeys((name for name in own if name != "predict_step"), "it is Python code around the steps")
        if "predict_step" not in own:
            return None, lost
        inputs = describe_inputs(model)
        if len(inputs.structure) != 1:
            return None, {**lost, "predict_step": "the model takes several arguments, and a step one"}

        def predict(*leaves: Tensor) -> Nested[Tensor]:
            return model.predict_step(keras.utils.pack_x_y_sample_weight(build_structure(inputs.structure[0], leaves)))

        functions: UnitFunctions = AutoTrackable()
        specs = [leaf.to_spec() for leaf in inputs.leaves]
        functions.inference = tf.function(predict, input_signature=specs, autograph=False)
        try:
            with undo_call_effects(model):
                outputs = functions.inference.get_concrete_function().structured_outputs
        except Exception as error:  # the step is anybody's code
            return None, {**lost, "predict_step": f"it cannot be traced: {_name_fault(error)}"}
        self.holder.units[f"{STEP}predict"] = functions
        return _describe_structure(_number_leaves(outputs)), lost

    def _trace_step(self, name: str, data: Sequence[Nested[TensorSpec]]) -> tuple[str, ...]:
        own = self._model.train_step if name.endswith("train") else self._model.test_step
        step = self._traced_steps.get(name, own)
        bare = len(data) == 1 and takes_bare_data(self._model)

        def run(*leaves: Tensor) -> Nested[Tensor]:
            remaining = iter(leaves)
            given = tf.nest.map_structure(lambda spec: None if spec is None else next(remaining), data)
            return step(given[0] if bare else given)

        return self._trace_plain(name, run, [spec for spec in tf.nest.flatten(data) if spec is not None])

    def _trace_plain(self, name: str, function: Callable[..., object], specs: Sequence[TensorSpec]) -> tuple[str, ...]:
        """Traces a function, and returns the names in the dict that it returns."""
        functions: UnitFunctions = AutoTrackable()
        functions.inference = tf.function(function, input_signature=specs, autograph=False)
        with undo_call_effects(self._model):
            outputs = functions.inference.get_concrete_function().structured_outputs
        self.holder.units[f"{STEP}{name}"] = functions
        return tuple(outputs) if isinstance(outputs, dict) else ()

    def _trace(
        self, name: str, layer: Layer, call: Callable[..., Nested[Tensor]], specs: Sequence[TensorSpec], trains: bool
    ) -> UnitFunctions:
        def make(training: bool) -> TFFunction:
            def call_with_losses(*tensors: Tensor) -> tuple[Nested[Tensor], Mapping[str, Sequence[Tensor | None]]]:
                outputs = call(training, *tensors)
                # Regularisation is the variables' own affair.
                losses = [loss for part in layer._flatten_layers() for loss in part._get_own_losses()]
                masks = [getattr(tensor, "_keras_mask", None) for tensor in keras.tree.flatten(outputs)]
                return outputs, {"losses": losses, "masks": masks}

            traced: TFFunction = tf.function(call_with_losses, input_signature=specs, autograph=False)
            with tracing_explained(layer.name), undo_call_effects(self._model), kept_to_its_weights(self._model):
                traced.get_concrete_function()
            return traced

        functions: UnitFunctions = AutoTrackable()
        functions.inference = make(training=False)
        if trains:
            functions.training = make(training=True)
        self.holder.units[name] = functions
        return functions

    def _trace_function(self, name: str, function: Callable[[Tensor], object], spec: TensorSpec) -> None:
        functions: UnitFunctions = AutoTrackable()
        functions.inference = tf.function(lambda value: function(value), input_signature=[spec], autograph=False)
        functions.inference.get_concrete_function()
        self.holder.units[name] = functions

    def _describe(
        self,
        path: str,
        position: tuple[int, ...],
        layer: Layer,
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

    def _describe_parts(self, path: str, layer: Layer) -> tuple[Part, ...]:
        # Layers in plain objects have no parent among the layers, as in the original.
        roots = [layer, *(each for place, each in self._untracked if is_below(place, (path,)) or not path)]
        layers = list({id(part): part for root in roots for part in root._flatten_layers()}.values())
        numbers = {id(part): number for number, part in enumerate(layers)}

        def find_paths(variables: Sequence[Variable]) -> tuple[str, ...]:
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


def _number_leaves(outputs: Nested[Tensor]) -> Nested[int]:
    numbers: Nested[int] = keras.tree.pack_sequence_as(outputs, list(range(len(keras.tree.flatten(outputs)))))
    return numbers


def _name_fault(error: Exception) -> str:
    # Without its place: this is kept in the artifact, which is the same wherever it is made.
    text = describe_if_possible(lambda: find_first_line(error, ""))
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _describe_structure(indices: Any) -> JSON:
    if isinstance(indices, dict):
        return {"dict": {key: _describe_structure(item) for key, item in indices.items()}}
    if isinstance(indices, (list, tuple)):
        return {"list" if isinstance(indices, list) else "tuple": [_describe_structure(item) for item in indices]}
    number: int = indices
    return number


def _describe_object(value: object) -> Config:
    """Returns the configuration of a regulariser, a constraint or a schedule; only its names if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            config: Config = keras.saving.serialize_keras_object(value)
    except NotImplementedError:
        kind = type(value)
        return {"module": kind.__module__, "class_name": kind.__name__, "config": {}, "registered_name": kind.__name__}
    return config if config["module"] != REVIVED_MODULE else config["config"]["original"]
