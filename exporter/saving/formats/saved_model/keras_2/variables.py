"""The variables of a checkpoint by the objects that own them, and which of a model's variables each of them is."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS
from exporter.saving.formats.saved_model.keras_2.metadata import Metadata
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.layout.messages import TrackableObjectGraph
from exporter.saving.layout.names import VARIABLES
from exporter.saving.layout.tensor_bundle import OBJECT_GRAPH
from exporter.typing import messages
from exporter.typing.keras import Layer, Model, Variable

Array = np.ndarray[Any, np.dtype[Any]]

_VALUE = "VARIABLE_VALUE"
# What Keras 2 called the variables of a normalization that was adapted.
_ADAPTED = {"mean": "adapt_mean", "variance": "adapt_variance"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint of TensorFlow.

    Attributes:
        path: The SavedModel that it is in, or the path of its files.
        nodes: Its objects by number; the first one is the root.
        reader: TensorFlow's reader of its tensors.
    """

    path: Path
    nodes: tuple[messages.TrackableObject, ...]
    reader: Any

    @classmethod
    def open(cls, path: Path) -> "Stored":
        """Opens the checkpoint of a SavedModel."""
        return cls._open(path, path / VARIABLES / VARIABLES)

    @classmethod
    def open_prefix(cls, prefix: Path) -> "Stored":
        """Opens a checkpoint by the path of its files without `.index`."""
        return cls._open(prefix, prefix)

    @classmethod
    def _open(cls, path: Path, prefix: Path) -> "Stored":
        with damage_explained(path, prefix.name, LOAD_FAULTS):
            reader = tf.train.load_checkpoint(os.fspath(prefix))
            graph = TrackableObjectGraph.FromString(reader.get_tensor(OBJECT_GRAPH))
        return cls(path, tuple(graph.nodes), reader)

    def list_children(self, number: int) -> dict[str, int]:
        """Lists the objects inside of one, by name."""
        children = self.nodes[number].children
        return {each.local_name: each.node_id for each in children if 0 <= each.node_id < len(self.nodes)}

    def list_items(self, number: int | None) -> list[int]:
        """Lists the items of a list in their order; what is no variable leaves its place out."""
        children = {} if number is None else self.list_children(number)
        return [children[name] for name in sorted((name for name in children if name.isdigit()), key=int)]

    def has_value(self, number: int) -> bool:
        """Tells whether an object is a variable."""
        return self._find_key(number) is not None

    def read(self, number: int) -> Array:
        """Reads a variable.

        Raises:
            ArtifactError: The object is none, or its value is damaged.
        """
        key = self._find_key(number)
        if key is None:
            raise ArtifactError(f"The checkpoint of {self.path} has no value of the object {number}.")
        with damage_explained(self.path, key, LOAD_FAULTS):
            return np.asarray(self.reader.get_tensor(key))

    def _find_key(self, number: int) -> str | None:
        attributes = self.nodes[number].attributes if 0 <= number < len(self.nodes) else ()
        return next((each.checkpoint_key for each in attributes if each.name == _VALUE), None)


def pair_variables(model: Model, stored: Stored, metadata: Metadata) -> dict[int, Variable]:
    """Finds the variable of a model that each variable of a checkpoint is.

    Args:
        model: The model, rebuilt.
        stored: The checkpoint.
        metadata: What Keras 2 noted of its objects.

    Returns:
        The variables by the numbers of the objects.

    Raises:
        ArtifactError: The model has variables that are not there, or of another shape.
    """
    pairs = dict(_pair_layer(model, stored, metadata, 0, 0))
    unread = [each for each in stored.list_items(stored.list_children(0).get("variables")) if each not in pairs]
    if any(map(stored.has_value, unread)):
        raise ArtifactError(f"{len(unread)} variables of {stored.path} have no place in the rebuilt model.")
    found = {id(variable) for variable in pairs.values()}
    lacking = [variable.path for variable in model.weights if id(variable) not in found]
    if lacking:
        raise ArtifactError(f"The checkpoint of {stored.path} has no value of {lacking[0]!r}.")
    return pairs


def _pair_layer(
    layer: Layer, stored: Stored, metadata: Metadata, number: int, noted: int
) -> Iterator[tuple[int, Variable]]:
    """Pairs the variables of a layer with those of an object, which has another number among the notes."""
    children = stored.list_children(number)
    if isinstance(layer, keras.Model) and type(layer)._obj_type(layer) in ("Functional", "Sequential"):
        places = metadata.name_layers(noted)
        for inner in layer.layers:
            child = places.get(inner.name)
            if child in children:
                yield from _pair_layer(inner, stored, metadata, children[child], metadata.children[noted][child])
            elif inner.weights:
                raise ArtifactError(f"The checkpoint of {stored.path} has no layer {inner.name!r}.")
        return
    by_name = dict(pair_attributes(layer, stored, number, {number}))
    own = {id(variable) for variable in layer.weights}
    if {id(variable) for variable in by_name.values()} >= own:
        yield from by_name.items()
        return
    trained = stored.list_items(children.get("trainable_variables"))
    listed = [*trained, *(each for each in stored.list_items(children.get("variables")) if each not in trained)]
    weights = [*layer.trainable_weights, *layer.non_trainable_weights]
    shapes = [stored.read(each).shape for each in listed]
    if shapes != [tuple(variable.shape) for variable in weights]:
        raise ArtifactError(
            f"The layer {layer.name!r} has variables of the shapes {shapes} in {stored.path}, and of "
            f"{[tuple(variable.shape) for variable in weights]} when it is rebuilt."
        )
    yield from zip(listed, weights, strict=True)


def pair_attributes(owner: Any, stored: Stored, number: int, visited: set[int]) -> Iterator[tuple[int, Variable]]:
    """Pairs variables that are attributes of the same names, also of the layers inside."""
    for name, child in stored.list_children(number).items():
        value = _get_part(owner, name)
        if isinstance(value, keras.Variable) and stored.has_value(child):
            if stored.read(child).shape == tuple(value.shape):
                yield child, value
        elif isinstance(value, (keras.Layer, list, tuple, dict)) and child not in visited:
            visited.add(child)
            yield from pair_attributes(value, stored, child, visited)


def _get_part(owner: Any, name: str) -> object:
    if isinstance(owner, (list, tuple)):
        return owner[int(name)] if name.isdigit() and int(name) < len(owner) else None
    if isinstance(owner, dict):
        return owner.get(name)
    own = vars(owner)
    if isinstance(owner, keras.layers.Normalization):
        name = _ADAPTED.get(name, name)
    # Keras has the kernels of some layers behind a property; no other is asked for, whatever name a file has.
    return own.get(name, own.get(f"_{name}"))


def read_all(pairs: Mapping[int, Variable], stored: Stored) -> None:
    """Gives variables their values."""
    for number, variable in pairs.items():
        variable.assign(stored.read(number))
