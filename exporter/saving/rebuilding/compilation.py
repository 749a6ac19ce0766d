"""How a model was compiled, to and from JSON: part by part, so that one that cannot be said costs itself alone."""

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras

from exporter.errors import ArtifactError
from exporter.saving.configuration.configurations import settle
from exporter.saving.configuration.faults import LOAD_FAULTS, explain
from exporter.saving.contents import Omission
from exporter.saving.private_api import LossFunctionWrapper, MeanMetricWrapper, ObjectSharingScope, SafeModeScope
from exporter.saving.requests import LoadRequest
from exporter.saving.state.optimizers import explain_loss, find_lost_schedule, hold_rate, is_lost, rate_held
from exporter.typing.keras import Model, Optimizer
from exporter.typing.structures import Config

# The remedy for whoever loads.
UNCOMPILED = "With compile=False the model is loaded without it."

_OPTIMIZER = "optimizer"
ARGUMENTS = "arguments"
_HANDED_ON = "handed_on"
_SETTINGS_KEY = "settings"
# How a model is run, which can be set at any time.
_SETTINGS = ("run_eagerly", "steps_per_execution", "jit_compile")
_ATTRIBUTES = "attributes"
# The parts of `compile` that consist of objects, each with what one such object is called.
_NOUNS = {_OPTIMIZER: "optimizer", "loss": "loss", "metrics": "metric", "weighted_metrics": "metric"}
_REMEDY = (
    "Give its class a `get_config` that returns the arguments of its constructor, or compile the loaded model anew."
)
_FUNCTION_REMEDY = "Use a named function of a module, or compile the loaded model anew."

_LOST = object()
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def serialize_compile_config(model: Model, lost: dict[str, str] | None = None) -> Config | None:
    """Returns how a model was compiled, in Keras's own format.

    Args:
        model: A compiled model.
        lost: Is told which parts cannot be made again, and why.

    Returns:
        What `serialize_model` puts under `compile_config`, without the parts that are lost; None if none can be said.
    """
    lost = {} if lost is None else lost
    with ObjectSharingScope(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
        config = make_compile_config(model, lost)
        config = None if config is None else settle(config, {})
    complete_compile_config(model, config)
    return config


def make_compile_config(model: Model, lost: dict[str, str]) -> Config | None:
    """Serializes the arguments of `compile`, inside of the scope in which the model is serialized; see above."""
    saved = getattr(model, "saved_compile_config", None)
    if saved is not None:
        kept: Config = copy.deepcopy(saved.value)  # what its saved training step stands for
        return kept
    if type(model).get_compile_config is not keras.Model.get_compile_config:
        try:
            own: Config = model.get_compile_config()
        except Exception as error:  # it is the user's code
            lost["compile configuration"] = (
                f"`get_compile_config` of {type(model).__name__} fails: {explain(error)} The optimizer, the loss and "
                "the metrics are left out. Repair it, or compile the loaded model anew"
            )
            return None
        return own
    compiled = getattr(model, "_compile_config", None)
    if not model.compiled or compiled is None:
        return None
    given = dict(compiled.config)
    # Keras's own HDF5 writer takes the optimizer out of the live model's compile configuration.
    given.setdefault(_OPTIMIZER, model.optimizer)
    return {name: _serialize_part(name, value, lost) for name, value in given.items()}


def _serialize_part(name: str, value: object, lost: dict[str, str]) -> object:
    if name not in _NOUNS:
        return keras.saving.serialize_keras_object(value)
    serialized = _serialize(_NOUNS[name], value, lost)
    return None if serialized is _LOST else serialized


def _serialize(noun: str, value: object, lost: dict[str, str]) -> object:
    """Serializes one object, or those in lists and dicts; what cannot be made again is left out."""
    if isinstance(value, dict):
        items = {key: _serialize(noun, item, lost) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not _LOST}
    if isinstance(value, (list, tuple)):
        listed = [_serialize(noun, item, lost) for item in value]
        if noun == "metric":
            return [item for item in listed if item is not _LOST]
        return [None if item is _LOST else item for item in listed]
    if isinstance(value, keras.optimizers.Optimizer):
        return _serialize_optimizer(value, lost)
    why = explain_loss(value)
    if why is not None:
        name = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
        remedy = _REMEDY if hasattr(value, "get_config") else _FUNCTION_REMEDY
        lost[f"{noun} {name}"] = f"it cannot be made again: {why} {remedy}"
        return _LOST
    return keras.saving.serialize_keras_object(value)


def _serialize_optimizer(optimizer: Optimizer, lost: dict[str, str]) -> object:
    schedule = find_lost_schedule(optimizer)
    if schedule is not None:
        rate = float(hold_rate(optimizer).numpy())
        lost[f"learning-rate schedule {type(schedule).__name__}"] = (
            f"it cannot be made again: {explain_loss(schedule)} The optimizer goes on with the rate of this step, "
            f"{rate:.6g}. {_REMEDY}"
        )
    with rate_held(optimizer):
        if is_lost(optimizer):
            lost[f"optimizer {type(optimizer).__name__}"] = (
                f"it cannot be made again: {explain_loss(optimizer)} {_REMEDY}"
            )
            return _LOST
        return keras.saving.serialize_keras_object(optimizer)


def complete_compile_config(model: Model, config: Config | None) -> None:
    """Adds the arguments of losses and metrics that Keras's configurations of them forget, such as Huber's delta."""
    compiled = getattr(model, "_compile_config", None)
    if config and compiled is not None:
        for key in ("loss", "metrics", "weighted_metrics"):
            _complete_arguments(config.get(key), compiled.config.get(key))


def _complete_arguments(node: object, value: object) -> None:
    if isinstance(value, (LossFunctionWrapper, MeanMetricWrapper)):
        takes = inspect.signature(type(value).__init__).parameters
        if isinstance(node, dict) and type(value).__module__.partition(".")[0] == "keras":
            for name, argument in value._fn_kwargs.items():
                if name in takes:
                    node["config"].setdefault(name, keras.saving.serialize_keras_object(argument))
    elif isinstance(value, dict) and isinstance(node, dict):
        for key in value.keys() & node.keys():
            _complete_arguments(node[key], value[key])
    elif isinstance(value, (list, tuple)) and isinstance(node, (list, tuple)) and len(node) == len(value):
        for child, item in zip(node, value, strict=True):
            _complete_arguments(child, item)


def serialize_compile_extras(model: Model, lost: dict[str, str] | None = None) -> Config | None:
    """Returns what Keras's own compile configuration forgets, or None for a model that is not compiled.

    Args:
        model: A built model.
        lost: Is told what cannot be made again, and why.

    Returns:
        `auto_scale_loss`; and for a class that has a `compile` of its own and no `compile_from_config`: its
        `arguments`, what it may have `handed_on` to Keras, and the `settings` that it runs with; or, where not all of
        the arguments can be told, the optimizers that it keeps as `attributes`.
    """
    if not model.compiled:
        return None
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    # `compile` wraps the optimizer of a mixed_float16 model by itself unless it is told not to.
    extras: Config = {"auto_scale_loss": scaled or model.dtype_policy.name != "mixed_float16"}
    if compiles_itself(type(model)) and not hasattr(model, "saved_compile_config"):
        with ObjectSharingScope(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            extras.update(settle(_describe_call(model, {} if lost is None else lost), {}))
    return extras


def compiles_itself(kind: type) -> bool:
    """Returns whether a class has a `compile` of its own, and leaves it to others to call that again."""
    return (
        kind.compile is not keras.Model.compile and kind.compile_from_config is keras.Model.compile_from_config  # type: ignore[attr-defined]
    )


def _describe_call(model: Model, lost: dict[str, str]) -> Config:
    """Finds the arguments of a class's own `compile`: its attributes of their names, and what it handed on to Keras."""
    arguments: Config = {}
    unknown = []
    told = _ask_own_config(model)
    parameters = dict(list(inspect.signature(type(model).compile).parameters.items())[1:])
    for name, parameter in parameters.items():
        if parameter.kind in _VARIADIC:
            continue
        found = _find_argument(model, name)
        if name in told:
            arguments[name] = told[name]
        elif found is not _LOST and (serialized := _serialize(_NOUNS.get(name, name), found, lost)) is not _LOST:
            arguments[name] = serialized
        elif parameter.default is inspect.Parameter.empty:
            unknown.append(name)
        elif found is _LOST:
            lost[f"argument {name} of compile"] = (
                f"the model has no attribute {name!r} that tells it, so the loaded model is compiled with its default. "
                "Keep it as an attribute of its name"
            )
    if not unknown:
        settings = {name: getattr(model, name) for name in _SETTINGS}
        return {ARGUMENTS: arguments, _HANDED_ON: _list_handed_on(model, arguments, lost), _SETTINGS_KEY: settings}
    lost[f"compile of {type(model).__name__}"] = (
        f"it needs {', '.join(unknown)}, and the model has no attribute of that name that can be saved. The loaded "
        "model gets its optimizers, and its own `compile` is not called. Keep each argument as an attribute of its "
        "name, or give the class `get_compile_config` and `compile_from_config`"
    )
    held = {name: value for name, value in vars(model).items() if isinstance(value, keras.optimizers.Optimizer)}
    described = {name: _serialize_optimizer(value, lost) for name, value in held.items() if name != _OPTIMIZER}
    return {_ATTRIBUTES: {name: value for name, value in described.items() if value is not _LOST}}


def _ask_own_config(model: Model) -> Config:
    """Asks a class that has a `get_compile_config` of its own, which may say the arguments of its `compile`."""
    if type(model).get_compile_config is keras.Model.get_compile_config:
        return {}
    return make_compile_config(model, {}) or {}


def _find_argument(model: Model, name: str) -> object:
    own = vars(model)
    compiled = getattr(model, "_compile_config", None)
    handed_on = compiled.config if compiled is not None else {}
    if name in handed_on and name not in (_OPTIMIZER, "loss"):
        return handed_on[name]
    for place in (name, f"_{name}"):
        if own.get(place) is not None:
            return own[place]
    return handed_on.get(name, own.get(name, _LOST))


def _list_handed_on(model: Model, arguments: Config, lost: dict[str, str]) -> Config:
    """Lists what a class's own `compile` may have taken as other keywords, and handed on to Keras."""
    parameters = inspect.signature(type(model).compile).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return {}
    compiled = getattr(model, "_compile_config", None)
    handed_on = compiled.config if compiled is not None else {}
    others = {name: value for name, value in handed_on.items() if name not in (*arguments, *_SETTINGS, _OPTIMIZER)}
    serialized = {name: _serialize_part(name, value, lost) for name, value in others.items() if value is not None}
    return {name: value for name, value in serialized.items() if value is not None}


def _list_parameters() -> list[str]:
    return list(inspect.signature(keras.Model.compile).parameters)


def list_lost_parts(lost: Mapping[str, str]) -> tuple[Omission, ...]:
    """Returns what was lost as lines of a summary."""
    return tuple(Omission(what, why) for what, why in lost.items())


@contextmanager
def compile_configs_replaced(model: Model, lost: dict[str, str] | None) -> Iterator[None]:
    """Lets a model, and models inside it, say what `make_compile_config` makes of their compile configurations.

    Args:
        model: The model.
        lost: Is told what cannot be made again; None if no compile configuration is wanted.
    """
    models = {id(layer): layer for layer in model._flatten_layers() if isinstance(layer, keras.Model)}.values()
    for each in models:
        vars(each)["get_compile_config"] = lambda each=each: None if lost is None else _make_own_config(each, lost)
    try:
        yield
    finally:
        for each in models:
            vars(each).pop("get_compile_config", None)


def _make_own_config(model: Model, lost: dict[str, str]) -> Config | None:
    replaced = vars(model).pop("get_compile_config")
    try:
        return make_compile_config(model, lost)
    finally:
        vars(model)["get_compile_config"] = replaced


def compile_model(model: Model, config: Config, extras: Config, request: LoadRequest) -> None:
    """Compiles a rebuilt model as it was; the optimizer is not built yet.

    Args:
        model: The model.
        config: The `compile_config` of the model's configuration.
        extras: What `serialize_compile_extras` returned.
        request: What is asked of the load.

    Raises:
        ArtifactError: A loss, a metric or the optimizer cannot be found.
    """
    request.check([config, extras])
    extras = dict(extras)
    own, attributes = extras.pop(ARGUMENTS, None), extras.pop(_ATTRIBUTES, {})
    handed_on, settings = extras.pop(_HANDED_ON, {}), extras.pop(_SETTINGS_KEY, {})
    try:
        with (
            keras.saving.custom_object_scope(dict(request.custom_objects)),
            SafeModeScope(request.safe_mode),
            _unlocked(model),
        ):
            if type(model).compile_from_config is not keras.Model.compile_from_config:
                model.compile_from_config(config)
            elif own is not None and compiles_itself(type(model)):
                _call_own_compile(model, _deserialize(own, request), _deserialize(handed_on, request))
                for name in _SETTINGS:
                    if name in settings and getattr(model, name) != settings[name]:
                        setattr(model, name, settings[name])
            else:
                known = {name: value for name, value in config.items() if name in _list_parameters()}
                keras.Model.compile(model, **_deserialize(known, request), **extras)
                for name, value in _deserialize(attributes, request).items():
                    setattr(model, name, value)
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"The compile configuration cannot be rebuilt: {explain(error)} {UNCOMPILED}") from error


def _call_own_compile(model: Model, arguments: Mapping[str, object], handed_on: Mapping[str, object]) -> None:
    """Calls a class's own `compile`, with what it may have handed on, unless it gives Keras that by itself."""
    try:
        model.compile(**arguments, **handed_on)
    except TypeError as error:
        if not handed_on or "multiple values for keyword argument" not in str(error):
            raise
        model.compile(**arguments)


@contextmanager
def _unlocked(model: Model) -> Iterator[None]:
    """Lets a class's own `compile` make metrics and variables, which Keras forbids once a model is built."""
    locked = model._tracker.locked
    model._tracker.unlock()
    try:
        yield
    finally:
        model._tracker.locked = locked


def _deserialize(config: Config, request: LoadRequest) -> dict[str, object]:
    made: dict[str, object] = request.deserialize(copy.deepcopy(config))
    return made
