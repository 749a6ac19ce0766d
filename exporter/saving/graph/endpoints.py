"""The endpoints of a SavedModel, read from its file."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from exporter.errors import ArtifactError
from exporter.saving.contents import Endpoint, Tensor
from exporter.saving.layout.names import GRAPH

_INTERNAL_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")


def read_meta_graph(path: Path) -> meta_graph_pb2.MetaGraphDef:
    """Reads the serving graph of a SavedModel directory, without loading it.

    Raises:
        ArtifactError: There is no SavedModel, it is damaged, or it has no graph for serving.
    """
    try:
        saved_model = saved_model_pb2.SavedModel.FromString((path / GRAPH).read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} is not a SavedModel: {error}.") from error
    except Exception as error:  # the protobuf library's own error type has changed between versions
        raise ArtifactError(f"{path / GRAPH} is damaged: {error}.") from error
    for meta_graph in saved_model.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return meta_graph
    raise ArtifactError(f"{path / GRAPH} has no graph with the tag 'serve'.")


def read_endpoints(path: Path) -> dict[str, Endpoint]:
    """Reads the endpoints of a SavedModel from its file.

    Args:
        path: The directory.

    Returns:
        Name -> endpoint, sorted by name.

    Raises:
        ArtifactError: There is no SavedModel, or it is damaged.
    """
    return describe_endpoints(read_meta_graph(path))


def describe_endpoints(meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, Endpoint]:
    """Describes the endpoints of a graph; returns name -> endpoint, sorted by name."""
    signatures = meta_graph.signature_def
    return {
        name: Endpoint(_describe(signatures[name].inputs), _describe(signatures[name].outputs))
        for name in sorted(signatures)
        if name not in _INTERNAL_SIGNATURES
    }


def _describe(tensors: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Tensor]:
    described = {}
    for name in sorted(tensors):
        info = tensors[name]
        dims = (
            None
            if info.tensor_shape.unknown_rank
            else tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
        )
        described[name] = Tensor(dims, tf.as_dtype(info.dtype).name)
    return described
