"""What of a model is code from outside Keras: its methods, its layers and their classes."""

from collections.abc import Iterator
from typing import TypeGuard

import keras

from exporter.saving.configuration.configurations import find_foreign_names
from exporter.typing.keras import Layer, Model
from exporter.typing.structures import Config

# What a user's model may define for itself, and then predicts or trains by itself.
_PREDICTION_METHODS = ("predict_step", "predict", "predict_on_batch", "make_predict_function")
_TRAINING_METHODS = ("train_step", "test_step", "compute_loss", "compute_metrics", "fit", "evaluate", "compile")


def find_foreign_classes(model: Model) -> list[str]:
    """Names the classes of layers that are not of Keras."""
    kinds = [type(layer) for layer in model._flatten_layers()]
    return list(dict.fromkeys(kind.__name__ for kind in kinds if kind.__module__.partition(".")[0] != "keras"))


def find_own_methods(model: Model) -> tuple[str, ...]:
    """Returns the names of the methods with which a model trains by itself."""
    if hasattr(model, "saved_data"):  # it trains with the steps of another one
        return ("train_step",)
    return tuple(name for name in _TRAINING_METHODS if getattr(type(model), name) is not getattr(keras.Model, name))


def find_own_prediction(model: Model) -> tuple[str, ...]:
    """Returns the names of the methods with which a model predicts by itself."""
    kept = getattr(model, "saved_prediction", None)
    if kept is not None:  # those of the model that a revived one stands for
        return tuple(kept.value)
    return tuple(name for name in _PREDICTION_METHODS if getattr(type(model), name) is not getattr(keras.Model, name))


def find_foreign_layers(model: Model, config: Config) -> Iterator[tuple[tuple[int, ...], Layer, Config]]:
    """Finds the layers of Sequential and Functional models, nested ones too, whose configuration needs code."""

    def find(owner: Model, node: Config, position: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Layer, Config]]:
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


def _is_graph(layer: Layer) -> TypeGuard[Model]:
    return type(layer)._obj_type(layer) in ("Sequential", "Functional")
