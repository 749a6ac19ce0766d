"""The vocabularies of lookup layers, which Keras 2 kept as tables of the graph."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.formats.saved_model.keras_2.metadata import Metadata
from exporter.typing.keras import Layer, Model

_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)
# What the layer inside of TextVectorization, the tables and the weights were called from TensorFlow 2.3 on.
_INNER = ("_lookup_layer", "_index_lookup_layer")
_TABLES = ("lookup_table", "_table", "_index_lookup_table")
_WEIGHTS = ("idf_weights", "tf_idf_weights")


def forget_files(node: Any) -> Any:
    """Returns a configuration without the files that vocabularies came from: the graph holds them."""
    if isinstance(node, list):
        return [forget_files(each) for each in node]
    if not isinstance(node, dict):
        return node
    is_file = isinstance(node.get("vocabulary"), str)
    return {key: None if is_file and key == "vocabulary" else forget_files(value) for key, value in node.items()}


def lacks_vocabulary(layer: Layer) -> bool:
    """Tells whether a layer was made without the vocabulary that it needs."""
    return isinstance(layer, _LOOKUPS) and getattr(layer, "_lookup_layer", layer).input_vocabulary is None


def find_lookups(model: Model, metadata: Metadata) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    """Finds the lookups of a model that need a vocabulary, with the names that lead to them in the SavedModel."""
    waiting: list[tuple[Model, int, tuple[str, ...]]] = [(model, 0, ())]
    while waiting:
        owner, number, place = waiting.pop()
        places = metadata.name_layers(number)
        children = metadata.children.get(number, {})
        for layer in owner.layers:
            child = places.get(layer.name) or _find_attribute(owner, layer)
            if child not in children:
                continue
            if isinstance(layer, keras.Model):
                waiting.append((layer, children[child], (*place, child)))
            elif lacks_vocabulary(layer):
                yield layer, (*place, child)


def _find_attribute(owner: Model, layer: Layer) -> str:
    return next((name for name, value in vars(owner).items() if value is layer), "")


def restore_vocabulary(layer: Any, loaded: Any) -> None:
    """Gives a lookup the vocabulary of a table.

    Args:
        layer: The layer.
        loaded: What TensorFlow loaded in its place.

    Raises:
        ArtifactError: It has no table that can be read.
    """
    lookup = getattr(layer, "_lookup_layer", layer)
    source = next((getattr(loaded, name) for name in _INNER if hasattr(loaded, name)), loaded)
    table = next((getattr(source, name) for name in _TABLES if hasattr(source, name)), None)
    keys, values = _export(layer, getattr(table, "_table", table))
    tokens, places = (values, keys) if keys.dtype.kind == "i" and values.dtype.kind != "i" else (keys, values)
    if lookup.invert and keys.dtype.kind == values.dtype.kind == "i":
        tokens, places = values, keys
    special = {lookup.mask_token, lookup.oov_token} - {None}
    ordered = [token.decode() if isinstance(token, bytes) else token.item() for token in tokens[np.argsort(places)]]
    vocabulary = [token for token in ordered if token not in special]
    if not vocabulary:
        return
    if lookup.output_mode == "tf_idf":
        weights = next((getattr(source, name) for name in _WEIGHTS if hasattr(source, name)), None)
        if weights is None:
            raise ArtifactError(f"The layer {layer.name!r} has no weights of its tokens.")
        layer.set_vocabulary(vocabulary, np.asarray(weights)[-len(vocabulary) :])
    else:
        layer.set_vocabulary(vocabulary)


def _export(layer: Any, table: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Reads the keys and the values of a table, of the types that its graph says: TensorFlow ends the process else."""
    makers = getattr(getattr(table, "_create_resource", None), "concrete_functions", ())
    for operation in (each for maker in makers for each in maker.graph.get_operations()):
        if "key_dtype" in operation.node_def.attr:
            keys, values = operation.get_attr("key_dtype"), operation.get_attr("value_dtype")
            exported = tf.raw_ops.LookupTableExportV2(table_handle=table.resource_handle, Tkeys=keys, Tvalues=values)
            return np.asarray(exported[0]), np.asarray(exported[1])
    raise ArtifactError(f"The vocabulary of the layer {layer.name!r} cannot be read: it has no table.")
