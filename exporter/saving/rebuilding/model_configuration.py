"""A model's configuration, to and from JSON."""

import warnings

import keras
import numpy as np

from exporter.errors import ArtifactError, ModelError
from exporter.saving.compatibility.defaults import leave_out_new_defaults
from exporter.saving.configuration.configurations import settle
from exporter.saving.configuration.faults import LOAD_FAULTS, explain, first_line
from exporter.saving.layout.documents import list_mappings
from exporter.saving.private_api import ObjectSharingScope
from exporter.saving.rebuilding.compilation import compile_configs_replaced, complete_compile_config
from exporter.saving.rebuilding.deferral import defer_initialization
from exporter.saving.requests import LoadRequest
from exporter.saving.state.policies import complete_policy_maps, policies_kept
from exporter.text.failures import name_origin
from exporter.typing.keras import Model
from exporter.typing.structures import Config

_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)


def serialize_model(model: Model, include_optimizer: bool = True, lost: dict[str, str] | None = None) -> Config:
    """Returns a model's configuration in Keras's own format.

    Args:
        model: A built model.
        include_optimizer: Whether the compile configuration (optimizer, loss, metrics) is part of it.
        lost: Is told which parts of the compile configuration cannot be made again, and why.

    Returns:
        What `config.json` of a Keras archive holds. Objects that are shared are numbered in order of appearance,
        where Keras itself uses memory addresses.

    Raises:
        ModelError: The model, or one of its layers, has no configuration.
    """
    told = {} if lost is None else lost
    try:
        with (
            ObjectSharingScope(),
            policies_kept(model),
            compile_configs_replaced(model, told if include_optimizer else None),
            warnings.catch_warnings(),
        ):
            # Keras warns about lambdas; what is said about them is the format's business, and said there.
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            config: Config = keras.saving.serialize_keras_object(model)
    except Exception as error:  # `get_config` is the user's code, and may raise anything
        raise ModelError(
            f"The model {model.name!r} has no configuration: {first_line(error)}{name_origin(error)} "
            "Give each of its own classes a `get_config` method that returns its constructor's arguments."
        ) from error
    complete_policy_maps(config, model)
    complete_compile_config(model, config.get("compile_config"))
    settled: Config = settle(config, {})
    _include_vocabularies(settled, model)
    leave_out_new_defaults(settled)
    return settled


def _include_vocabularies(config: Config, model: Model) -> None:
    """Puts the vocabulary itself in the place of the file that a lookup layer read it from."""
    named = [node for node in list_mappings(config) if isinstance(node.get("vocabulary"), str)]
    lookups = (layer for layer in model._flatten_layers() if isinstance(layer, _LOOKUPS)) if named else ()
    for layer in lookups:
        lookup = getattr(layer, "_lookup_layer", layer)
        if isinstance(lookup.input_vocabulary, str):
            for node in named:
                if (node.get("name"), node["vocabulary"]) == (layer.name, lookup.input_vocabulary):
                    node["vocabulary"] = np.asarray(layer.get_vocabulary(include_special_tokens=False)).tolist()


def rebuild_model(config: Config, request: LoadRequest) -> Model:
    """Builds a model from its configuration, uncompiled.

    Args:
        config: What `serialize_model` returned.
        request: What is asked of the load.

    Returns:
        The model, with freshly initialised weights.

    Raises:
        ArtifactError: The configuration names a class that cannot be found, or cannot be built.
    """
    if not isinstance(config, dict):
        raise ArtifactError(f"The model's configuration is damaged: it is a {type(config).__name__}, not a mapping.")
    config = {key: value for key, value in config.items() if key != "compile_config"}
    request.check(config)
    later = defer_initialization(count_layers(config))
    try:
        with ObjectSharingScope(), later:
            model = request.deserialize(config)
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"The model's configuration cannot be rebuilt: {explain(error)}") from error
    if not isinstance(model, keras.Model):
        raise ArtifactError(f"The configuration describes a {type(model).__name__}, not a keras.Model.")
    built: Model = model
    return built


def count_layers(config: Config) -> int:
    """Counts the layers that a configuration lists."""
    listed = (node.get("layers") for node in list_mappings(config))
    return sum(len(layers) for layers in listed if isinstance(layers, list))
