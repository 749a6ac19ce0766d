"""The model's and the compile configuration, to and from JSON."""

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.errors import ArtifactError, ModelError
from exporter.safety.configurations import check_configuration
from exporter.saving.internals import LossFunctionWrapper, MeanMetricWrapper, ObjectSharingScope, SafeModeScope
from exporter.saving.keras_internals import values_come_later

Config = dict[str, Any]

# What Keras, and the constructors that it calls, raise when a configuration is not what they expect.
LOAD_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError),
    *(TypeError, ValueError, tf.errors.OpError),
)


@contextmanager
def keras_explained(place: object, faults: tuple[type[Exception], ...] = LOAD_FAULTS) -> Iterator[None]:
    """Makes an ArtifactError of what Keras raises inside, which is all that should be done there.

    Args:
        place: The artifact.
        faults: What Keras may raise.

    Raises:
        ArtifactError: It did.
    """
    try:
        yield
    except ArtifactError:
        raise
    except faults as error:
        raise ArtifactError(f"Keras cannot load {place}: {error}") from error


_NESTED = (dict, list, tuple)

_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)

# Where the classes of revived layers and models say that they are from.
REVIVED_MODULE = "exporter.saving.revival"


def serialize_model(model: keras.Model, include_optimizer: bool = True) -> Config:
    """Returns a model's configuration in Keras's own format.

    Args:
        model: A built model.
        include_optimizer: Whether the compile configuration (optimizer, loss, metrics) is part of it.

    Returns:
        What `config.json` of a Keras archive holds. Objects that are shared are numbered in order of appearance,
        where Keras itself uses memory addresses.

    Raises:
        ModelError: The model, or one of its layers, has no configuration.
    """
    try:
        with ObjectSharingScope(), warnings.catch_warnings():
            # Keras warns about lambdas; what is said about them is the format's business, and said there.
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            config: Config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ModelError(
            f"The model {model.name!r} has no configuration: {_first_line(error)} "
            "Give each of its own classes a `get_config` method that returns its constructor's arguments."
        ) from error
    if not include_optimizer:
        config.pop("compile_config", None)
    elif (
        config.get("compile_config")
        and "optimizer" not in config["compile_config"]
        and type(model).get_compile_config is keras.Model.get_compile_config
    ):
        # Keras's own HDF5 writer takes the optimizer out of the live model's compile configuration.
        config["compile_config"]["optimizer"] = keras.saving.serialize_keras_object(model.optimizer)
    _complete_compile_config(model, config.get("compile_config"))
    saved = getattr(model, "saved_compile_config", None)
    if saved is not None and include_optimizer:
        config["compile_config"] = copy.deepcopy(saved.value)  # what its saved training step stands for
    settled: Config = _settle(config, {})
    _include_vocabularies(settled, model)
    return settled


def _include_vocabularies(config: Config, model: keras.Model) -> None:
    """Puts the vocabulary itself in the place of the file that a lookup layer read it from."""
    named = [node for node in _list_nodes(config) if isinstance(node.get("vocabulary"), str)]
    for layer in model._flatten_layers() if named else ():
        lookup = getattr(layer, "_lookup_layer", layer)
        if isinstance(layer, _LOOKUPS) and isinstance(lookup.input_vocabulary, str):
            for node in named:
                if (node.get("name"), node["vocabulary"]) == (layer.name, lookup.input_vocabulary):
                    node["vocabulary"] = np.asarray(layer.get_vocabulary(include_special_tokens=False)).tolist()


def _list_nodes(config: Config) -> Iterator[Config]:
    pending: list[Any] = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending += node.values()
        elif isinstance(node, list):
            pending += node


def serialize_compile_config(model: keras.Model) -> Config | None:
    """Returns the compile configuration alone, of a model that has no configuration of its own.

    Args:
        model: A compiled model.

    Returns:
        What `serialize_model` puts under `compile_config`; None if it cannot be said.
    """
    saved = getattr(model, "saved_compile_config", None)
    if saved is not None:
        kept: Config = copy.deepcopy(saved.value)
        return kept
    try:
        with ObjectSharingScope(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            config: Config = _settle(model.get_compile_config(), {})
    except (NotImplementedError, TypeError, ValueError):
        return None
    _complete_compile_config(model, config)
    return config


def _complete_compile_config(model: keras.Model, config: Config | None) -> None:
    compiled = getattr(model, "_compile_config", None)
    if config and compiled is not None:
        for key in ("loss", "metrics", "weighted_metrics"):
            _complete_arguments(config.get(key), compiled.config.get(key))


def _complete_arguments(node: Any, value: Any) -> None:
    """Adds the arguments of a loss or a metric that Keras's own configuration of it forgets, such as Huber's delta."""
    if isinstance(value, (LossFunctionWrapper, MeanMetricWrapper)):
        takes = inspect.signature(type(value).__init__).parameters
        if isinstance(node, dict) and type(value).__module__.partition(".")[0] == "keras":
            for name, argument in value._fn_kwargs.items():
                if name in takes:
                    node["config"].setdefault(name, keras.saving.serialize_keras_object(argument))
    elif isinstance(value, dict) and isinstance(node, dict):
        for key in value.keys() & node.keys():
            _complete_arguments(node[key], value[key])
    elif isinstance(value, (list, tuple)) and isinstance(node, (list, tuple)):
        for child, item in zip(node, value, strict=True):
            _complete_arguments(child, item)


def _first_line(error: BaseException | str) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if text.endswith(".") else f"{text}."


def _settle(node: Any, numbers: dict[int, int]) -> Any:
    """Returns a configuration as it is saved.

    The configuration of what a revived layer or model stands for takes the place of its own, and shared objects are
    numbered.

    Args:
        node: The configuration, or a part of it.
        numbers: The number of each shared object that has appeared, by Keras's number of it.
    """
    if isinstance(node, dict):
        if node.get("module") == REVIVED_MODULE:
            kept = {key: node[key] for key in ("name", "inbound_nodes", "compile_config") if key in node}
            node = {**node["config"]["original"], **kept}
        shared = node.get("shared_object_id")
        if isinstance(shared, int):
            node = {**node, "shared_object_id": numbers.setdefault(shared, len(numbers))}
        return {key: _settle(child, numbers) if isinstance(child, _NESTED) else child for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [_settle(child, numbers) if isinstance(child, _NESTED) else child for child in node]
    return node


def serialize_compile_extras(model: keras.Model) -> Config | None:
    """Returns the arguments of `compile` that Keras's own compile configuration forgets, or None if uncompiled."""
    if not model.compiled:
        return None
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    # `compile` wraps the optimizer of a mixed_float16 model by itself unless it is told not to.
    return {"auto_scale_loss": scaled or model.dtype_policy.name != "mixed_float16"}


def rebuild_model(
    config: Config, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True
) -> keras.Model:
    """Builds a model from its configuration, uncompiled.

    Args:
        config: What `serialize_model` returned.
        custom_objects: Classes and functions by the name under which they were saved.
        safe_mode: Refuses marshalled lambdas.

    Returns:
        The model, with freshly initialised weights.

    Raises:
        ArtifactError: The configuration names a class that cannot be found, or cannot be built.
    """
    if not isinstance(config, dict):
        raise ArtifactError(f"The model's configuration is damaged: it is a {type(config).__name__}, not a mapping.")
    config = {key: value for key, value in config.items() if key != "compile_config"}
    if safe_mode:
        check_configuration(config, custom_objects)
    later = values_come_later(_count_layers(config))
    given = dict(custom_objects or {})
    try:
        with ObjectSharingScope(), later:
            model = keras.saving.deserialize_keras_object(config, given, safe_mode=safe_mode)
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"The model's configuration cannot be rebuilt: {_explain(error)}") from error
    if not isinstance(model, keras.Model):
        raise ArtifactError(f"The configuration describes a {type(model).__name__}, not a keras.Model.")
    return model


def _count_layers(config: Config) -> int:
    listed = (node.get("layers") for node in _list_nodes(config))
    return sum(len(layers) for layers in listed if isinstance(layers, list))


def _explain(error: Exception) -> str:
    # Keras wraps a fault once for every level of nesting; the innermost one says what is wrong.
    _, nested, reason = str(error).rpartition("Exception encountered: ")
    text = " ".join(reason.split())
    if "safe_mode" in text or "unsafe" in text:
        return f"{_first_line(reason)} Load it with safe_mode=False only if you trust where the file comes from."
    if "Could not locate" in text:
        head = text.split(". ")[0]
        return (
            f"{head}. Import the module that defines it, register it with "
            "`@keras.saving.register_keras_serializable()`, or name it in `custom_objects`."
        )
    if not nested:
        return _first_line(error)
    return (
        f"{_first_line(reason)} Check the class that is named here, and that the `from_config` of each class rebuilds "
        "the objects that its `get_config` holds."
    )


def compile_model(
    model: keras.Model,
    config: Config,
    extras: Config,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> None:
    """Compiles a rebuilt model as it was; the optimizer is not built yet.

    Args:
        model: The model.
        config: The `compile_config` of the model's configuration.
        extras: What `serialize_compile_extras` returned.
        custom_objects: Classes and functions by the name under which they were saved.
        safe_mode: Refuses marshalled lambdas.

    Raises:
        ArtifactError: A loss, a metric or the optimizer cannot be found.
    """
    if safe_mode:
        check_configuration(config, custom_objects)
    try:
        with keras.saving.custom_object_scope(dict(custom_objects or {})), SafeModeScope(safe_mode):
            if type(model).compile is not keras.Model.compile:
                model.compile_from_config(config)
                return
            arguments = keras.saving.deserialize_keras_object(config, safe_mode=safe_mode)
            model.compile(**arguments, **extras)
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(
            f"The compile configuration cannot be rebuilt: {_explain(error)} "
            "With compile=False the model is loaded without it."
        ) from error
