"""The weights of a TensorFlow checkpoint, as `Model.save_weights` of Keras 2 and `tf.train.Checkpoint` write it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from exporter.errors import ArtifactError
from exporter.saving.formats.saved_model.keras_2.variables import Stored, pair_attributes, read_all
from exporter.typing.keras import Layer, Model, Variable

# What Keras 2 calls the layers of a Functional or Sequential model that have weights, in their order.
_LAYER = "layer_with_weights-{}"


def load_checkpoint(model: Model, prefix: Path) -> None:
    """Gives a model the weights of a checkpoint.

    Args:
        model: A built model.
        prefix: The path of the checkpoint's files without `.index`.

    Raises:
        ArtifactError: It is damaged, or holds no weights of this model.
    """
    stored = Stored.open_prefix(prefix)
    found = [dict(_pair_layer(model, stored, root)) for root in _list_roots(stored)]
    pairs = max(found, key=len)
    known = {id(variable) for variable in pairs.values()}
    lacking = [variable.path for variable in model.weights if id(variable) not in known]
    if lacking:
        raise ArtifactError(
            f"The checkpoint {prefix} has no value for {len(lacking)} of the {len(model.weights)} weights of the model "
            f"{model.name!r}, such as {lacking[0]!r}. Give a checkpoint that was written for exactly this network."
        )
    read_all(pairs, stored)


def _list_roots(stored: Stored) -> list[int]:
    """Lists the objects that may be the model: the root, or what a `tf.train.Checkpoint` was given."""
    return [0, *stored.list_children(0).values()]


def _pair_layer(layer: Layer, stored: Stored, number: int) -> Iterator[tuple[int, Variable]]:
    children = stored.list_children(number)
    if isinstance(layer, keras.Model) and _LAYER.format(0) in children:
        inner: list[Any] = [each for each in layer.layers if each.weights]
        for position, each in enumerate(inner):
            child = children.get(_LAYER.format(position))
            if child is not None:
                yield from _pair_layer(each, stored, child)
        return
    yield from pair_attributes(layer, stored, number, {number})
