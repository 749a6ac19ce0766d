"""The weights of layers of older Keras, by their names in the file."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from exporter.errors import ArtifactError
from exporter.saving.legacy.conversions import convert_weights
from exporter.saving.legacy.parts.findings import warn_of_loss
from exporter.saving.legacy.parts.names import find_name, name_layers
from exporter.typing.keras import Layer, Model, Variable
from exporter.typing.structures import Config

Values = Sequence[tuple[str, Any]]

# The state of generators of random numbers, which Keras 3 has in another form, and what renormalization adds.
_GONE = {
    "StateVar": "The state of its generators of random numbers is gone: they begin anew.",
    "renorm_mean": "",
    "renorm_stddev": "",
    "renorm_mean_weight": "",
    "renorm_stddev_weight": "",
}


def list_layer_configs(config: Config) -> list[Config]:
    """Lists the layers of a model's configuration, as older Keras wrote it."""
    inner = config.get("config")
    layers = inner if isinstance(inner, list) else inner.get("layers") if isinstance(inner, dict) else None
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def find_layers(model: Model, config: Config) -> dict[str, tuple[Layer, Config]]:
    """Finds the layers of a model by their names in the file, with their configurations there."""
    listed = list_layer_configs(config)
    names = name_layers(listed)
    layers = {layer.name: layer for layer in model.layers}
    layers.update((layer.name, layer) for layer in getattr(model, "_operations", ()) if hasattr(layer, "weights"))
    found = {}
    for each in listed:
        name = find_name(each)
        if name in names and names[name] in layers:
            found[name] = (layers[names[name]], each)
    return found


def assign_weights(layer: Layer, config: Config, values: Values, version: str, backend: str) -> dict[str, Variable]:
    """Gives a layer, or a model inside of one, its weights.

    Args:
        layer: It, built.
        config: Its configuration in the file.
        values: The arrays by their names, in the order of the file: what is trained first.
        version: The version of Keras that wrote it.
        backend: What it computed with.

    Returns:
        The variables by the names in the file, as far as one array is one variable.

    Raises:
        ArtifactError: They do not fit.
    """
    kept = []
    for name, value in values:
        leaf = _split(name)[-1]
        if leaf not in _GONE:
            kept.append((name, value))
        elif _GONE[leaf]:
            warn_of_loss(f"{type(layer).__name__} {layer.name!r}: {_GONE[leaf]}")
    if isinstance(layer, keras.layers.Discretization) and len(kept) == 1:
        layer.summary = np.asarray(kept[0][1])  # of what was adapted; the bounds follow from it
        layer.finalize_state()
        return {}
    targets = [*layer.trainable_weights, *layer.non_trainable_weights]
    arrays = convert_weights(config, [value for _, value in kept], version, backend)
    is_same = len(arrays) == len(kept) and all(new is old for new, (_, old) in zip(arrays, kept, strict=True))
    if len(arrays) != len(targets):
        raise ArtifactError(
            f"{type(layer).__name__} {layer.name!r} has {len(targets)} weights, and the file has {len(arrays)} for it."
        )
    if is_same:
        targets = _match([name for name, _ in kept], targets)
    wrong = [
        f"{variable.path} has the shape {tuple(variable.shape)}, and the file has {np.shape(array)} for it"
        for variable, array in zip(targets, arrays, strict=True)
        if tuple(variable.shape) != np.shape(array)
    ]
    if wrong:
        raise ArtifactError("; ".join(wrong) + ".")
    for variable, array in zip(targets, arrays, strict=True):
        variable.assign(array)
    return {name: variable for (name, _), variable in zip(kept, targets, strict=True)} if is_same else {}


def finish_layers(model: Model) -> None:
    """Lets layers compute what follows from their weights, such as a scale from a variance."""
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state") and layer.weights:
            layer.finalize_state()


def _split(name: str) -> list[str]:
    return name.partition(":")[0].split("/")


def _match(names: list[str], variables: list[Variable]) -> list[Variable]:
    """Puts variables into the order of the names: by name, if layer and variable say it; else they are in it."""
    ours = {tuple(variable.path.split("/")[-2:]): variable for variable in variables}
    theirs = [tuple(part.replace(":", "") for part in _split(name)[-2:]) for name in names]
    if len(set(theirs)) == len(ours) == len(variables) and set(theirs) == set(ours):
        return [ours[key] for key in theirs]
    return variables


def list_trainable(model: Model, config: Config) -> list[Variable]:
    """Lists the variables that are trained in the order of the layers in the file."""
    found = find_layers(model, config)
    if not found:
        return list(model.trainable_variables)
    listed: dict[int, Variable] = {}
    for layer, inner in found.values():
        own = list_trainable(layer, inner) if isinstance(layer, keras.Model) else layer.trainable_variables
        listed.update((id(variable), variable) for variable in own)
    listed.update((id(variable), variable) for variable in model.trainable_variables)
    trained = {id(variable) for variable in model.trainable_variables}
    return [variable for key, variable in listed.items() if key in trained]
