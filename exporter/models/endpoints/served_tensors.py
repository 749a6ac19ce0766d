"""Tensors as an endpoint takes and gives them: dense ones by name, whatever they are inside.

TensorFlow's SignatureDef is flat. A ragged tensor is served as its values and its row splits, a sparse one as its
indices, values and dense shape, and a nested one by the names on the way to it, joined by `_`.
"""

from collections.abc import Iterable, Mapping

import tensorflow as tf

from exporter.models.endpoints.declarations import name_components
from exporter.saving.graph.inputs import InputLeaf
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Tensor


def flatten_leaf(leaf: InputLeaf) -> tuple[InputLeaf, ...]:
    """Returns the dense tensors by which one is served.

    A ragged one is served as its values and its row splits, as `tf.RaggedTensor.from_nested_row_splits` takes them; a
    sparse one as its indices, values and dense shape, as `tf.SparseTensor` takes them.
    """
    if leaf.ragged_rank:
        values, *splits = name_components(leaf.name, leaf.ragged_rank)
        batch = leaf.shape[0]
        rows = [None if batch is None else batch + 1, *[None] * (leaf.ragged_rank - 1)]
        return (
            InputLeaf(values, (None, *leaf.shape[leaf.ragged_rank + 1 :]), leaf.dtype),
            *(InputLeaf(name, (size,), "int64") for name, size in zip(splits, rows, strict=True)),
        )
    if leaf.sparse:
        rank = len(leaf.shape)
        return (
            InputLeaf(f"{leaf.name}_indices", (None, rank), "int64"),
            InputLeaf(f"{leaf.name}_values", (None,), leaf.dtype),
            InputLeaf(f"{leaf.name}_dense_shape", (rank,), "int64"),
        )
    return (leaf,)


def flatten_leaves(leaves: Iterable[InputLeaf]) -> tuple[InputLeaf, ...]:
    """Returns the dense tensors by which several are served; see `flatten_leaf`."""
    return tuple(part for leaf in leaves for part in flatten_leaf(leaf))


def join_leaf(leaf: InputLeaf, served: Mapping[str, Tensor]) -> Tensor:
    """Makes the tensor of those by which it is served."""
    parts = [served[part.name] for part in flatten_leaf(leaf)]
    if leaf.ragged_rank:
        ragged: Tensor = tf.RaggedTensor.from_nested_row_splits(parts[0], parts[1:])
        return ragged
    if leaf.sparse:
        sparse = tf.SparseTensor(*parts)
        sparse.dense_shape.set_shape([len(leaf.shape)])
        joined: Tensor = sparse
        return joined
    return parts[0]


def flatten_outputs(results: Mapping[str, Nested[Tensor]]) -> dict[str, Tensor]:
    """Takes nested, ragged and sparse results apart: an endpoint gives dense tensors by name."""
    flat: dict[str, Tensor] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update(flatten_outputs({f"{name}_{key}": item for key, item in value.items()}))
        elif isinstance(value, (list, tuple)):
            flat.update(flatten_outputs({f"{name}_{index}": item for index, item in enumerate(value)}))
        elif isinstance(value, tf.RaggedTensor):
            parts = [value.flat_values, *value.nested_row_splits]
            flat.update(zip(name_components(name, value.ragged_rank), parts, strict=True))
        elif isinstance(value, tf.SparseTensor):
            flat[f"{name}_indices"] = value.indices
            flat[f"{name}_values"] = value.values
            flat[f"{name}_dense_shape"] = value.dense_shape
        else:
            flat[name] = tf.identity(value)
    return flat
