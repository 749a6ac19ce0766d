"""What `saved_model.pb` says, read without TensorFlow."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.saving.compatibility.graphs import find_oldest_tensorflow
from exporter.saving.compatibility.history import show_version
from exporter.saving.contents import Endpoint, Tensor
from exporter.saving.layout.messages import DTYPES, SavedMetadata
from exporter.saving.safety.graphs.operations import find_harms, read_graphs
from exporter.typing.messages import TensorInfo, TensorInfoEntry
from exporter.typing.structures import Config

# TensorFlow keeps its initialisation among the signatures.
_INTERNAL = "__saved_model_init_op"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One graph of a SavedModel, without the values of its variables.

    Attributes:
        tags: By which it is chosen.
        graphs: How many graphs the SavedModel has; this is the first.
        signatures: Its endpoints by name.
        method_names: What TF Serving calls each of them.
        operations: How often each operation stands in the graph and its functions.
        reaching_out: What a load in safe mode refuses, and the operations that TensorFlow does not come with.
        functions: The names of its functions.
        aliases: Names that were given to functions: alias -> the function's name.
        has_gradients: Whether gradients of its own are kept.
        has_saver: Whether servers can restore its variables.
        assets: The names of its assets.
        tensorflow_version: Of the TensorFlow that wrote it.
        oldest_tensorflow: The oldest release that computes all of it.
    """

    tags: tuple[str, ...]
    graphs: int
    signatures: Mapping[str, Endpoint]
    method_names: Mapping[str, str]
    operations: Mapping[str, int]
    reaching_out: tuple[str, ...]
    functions: tuple[str, ...]
    aliases: Mapping[str, str]
    has_gradients: bool
    has_saver: bool
    assets: tuple[str, ...]
    tensorflow_version: str
    oldest_tensorflow: str


def read_graph(path: Path) -> Graph:
    """Reads `saved_model.pb`.

    Args:
        path: The file.

    Returns:
        Its first graph.

    Raises:
        ArtifactError: The file is damaged, or holds no graph.
    """
    with read_graphs(path) as message:
        harms = find_harms(message)
    if not message.meta_graphs:
        raise ArtifactError(f"{path} is damaged: it holds no graph.")
    graph = message.meta_graphs[0]
    info, library = graph.meta_info_def, graph.graph_def.library
    operations = Counter(node.op for node in graph.graph_def.node)
    for function in library.function:
        operations.update(node.op for node in function.node_def)
    signatures = {entry.key: entry.value for entry in graph.signature_def if entry.key != _INTERNAL}
    return Graph(
        tags=tuple(info.tags),
        graphs=len(message.meta_graphs),
        signatures={
            name: Endpoint(_read_tensors(signatures[name].inputs), _read_tensors(signatures[name].outputs))
            for name in sorted(signatures)
        },
        method_names={name: signatures[name].method_name for name in sorted(signatures)},
        operations=dict(sorted(operations.items())),
        reaching_out=tuple(sorted({harm.operation for harm in harms} | {name for name in operations if ">" in name})),
        functions=tuple(sorted(function.signature.name for function in library.function)),
        aliases={entry.value: entry.key for entry in info.function_aliases},
        has_gradients=bool(library.gradient or library.registered_gradients),
        has_saver=bool(graph.saver_def.filename_tensor_name),
        assets=tuple(sorted(asset.filename for asset in graph.asset_file_def)),
        tensorflow_version=info.tensorflow_version,
        oldest_tensorflow=show_version(max(find_oldest_tensorflow(each.graph_def) for each in message.meta_graphs)),
    )


def _read_tensors(entries: Iterable[TensorInfoEntry]) -> dict[str, Tensor]:
    return {entry.key: _read_tensor(entry.value) for entry in sorted(entries, key=lambda entry: str(entry.key))}


def _read_tensor(info: TensorInfo) -> Tensor:
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(None if dim.size < 0 else int(dim.size) for dim in shape.dim)
    return Tensor(shape=sizes, dtype=DTYPES.get(info.dtype, f"dtype {info.dtype}"))


def read_keras_2_config(path: Path) -> Config | None:
    """Reads the model's configuration from `keras_metadata.pb`, which Keras 2 wrote beside a SavedModel.

    Args:
        path: The file.

    Returns:
        The metadata of the model, or None if the file holds none.

    Raises:
        ArtifactError: The file is damaged.
    """
    try:
        nodes = SavedMetadata.FromString(path.read_bytes()).nodes
        metadata = next((node.metadata for node in nodes if node.node_path == "root"), None)
        config: Config | None = json.loads(metadata) if metadata else None
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged: {error}.") from error
    return config
