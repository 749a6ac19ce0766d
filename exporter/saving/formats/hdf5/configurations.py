"""Configurations as the legacy layout and its stock reader know them."""

import copy
from typing import Any

import keras
import numpy as np

from exporter.typing.keras import Model
from exporter.typing.structures import Config

# `compile` understands these for itself, by the shape of the output.
_SHAPE_DEPENDENT_METRICS = ("accuracy", "acc", "crossentropy", "ce")

_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)


def legacy_model_config(config: Config, model: Model) -> Config:
    """Returns the configuration of a model with what the stock reader does not find elsewhere.

    It looks a class up by its name alone, also a registered one, and it has no place for the files of a layer.
    """
    legacy = {key: value for key, value in config.items() if key != "compile_config"}
    legacy["class_name"] = legacy.get("registered_name") or legacy["class_name"]
    if any(isinstance(layer, _LOOKUPS) for layer in model._flatten_layers()):
        legacy = copy.deepcopy(legacy)
        _include_vocabularies(legacy, model)
    return legacy


def _include_vocabularies(config: Config, model: Model) -> None:
    layers = {layer.name: layer for layer in model.layers}
    for node in config["config"].get("layers", ()):
        layer = layers.get(node["config"].get("name"))
        if isinstance(layer, keras.Model):
            _include_vocabularies(node, layer)
        elif isinstance(layer, _LOOKUPS) and node["config"].get("vocabulary") is None:
            vocabulary = layer.get_vocabulary(include_special_tokens=False)
            node["config"]["vocabulary"] = np.asarray(vocabulary).tolist() or None
            lookup = getattr(layer, "_lookup_layer", layer)
            if lookup.output_mode == "tf_idf":
                special = lookup.vocabulary_size() - len(vocabulary)
                node["config"]["idf_weights"] = lookup.idf_weights_const.numpy()[special:].tolist()


def legacy_training_config(config: Config) -> Config:
    """Returns the compile configuration with names that the stock reader resolves.

    It looks names up among objects, and fails on an alias such as `mse`, so each name becomes what it stands for.
    """
    loss = resolve_names(config.get("loss"), keras.losses)
    return {
        "optimizer_config": config.get("optimizer"),
        # The reader takes a lone name for a configuration.
        "loss": [loss] if isinstance(loss, str) else loss,
        "metrics": resolve_names(config.get("metrics"), keras.metrics),
        "weighted_metrics": resolve_names(config.get("weighted_metrics"), keras.metrics),
        "loss_weights": config.get("loss_weights"),
    }


def resolve_names(node: Any, module: Any) -> Any:
    """Puts what a name stands for in its place, in losses and metrics of any structure."""
    inner = node.get("config") if isinstance(node, dict) and node.get("class_name") == "function" else None
    if isinstance(inner, str) and hasattr(module, inner):
        node = inner  # the stock reader takes a function of Keras for the class of that name
    if isinstance(node, str):
        return node if node in _SHAPE_DEPENDENT_METRICS else module.serialize(module.get(node))
    if isinstance(node, dict) and "class_name" not in node:
        return {key: resolve_names(child, module) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [resolve_names(child, module) for child in node]
    return node
