"""The operations of a graph that touch files or run Python, found without TensorFlow.

The tables follow the registry of TensorFlow 2.21 (`tensorflow/core/ops/*.cc`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.saving.messages import SavedModel

_PYTHON = "runs Python"
_READS = "reads files"
_WRITES = "writes files"
_LISTS = "lists files"
_SERVES = "talks to other machines"

HARMFUL: Mapping[str, str] = {
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc"), _PYTHON),
    **dict.fromkeys(("MatchingFiles", "MatchingFilesDataset", "ExperimentalMatchingFilesDataset"), _LISTS),
    **dict.fromkeys(
        (
            *("ReadFile", "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2"),
            *("FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2"),
            *("LMDBReader", "LMDBDataset", "ExperimentalLMDBDataset", "RecordInput"),
            *("TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "CSVDataset", "CSVDatasetV2"),
            *("ExperimentalCSVDataset", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2"),
            *("SqlDataset", "ExperimentalSqlDataset", "LoadDataset", "SnapshotDatasetReader"),
            *("SnapshotNestedDatasetReader", "SnapshotChunkDataset", "ListSnapshotChunksDataset"),
            *("LoadAndRemapMatrix", "GenerateVocabRemapping", "ImmutableConst"),
        ),
        _READS,
    ),
    **dict.fromkeys(
        (
            *("WriteFile", "SaveDataset", "SaveDatasetV2", "DistributedSave", "SnapshotDataset", "SnapshotDatasetV2"),
            *("CacheDataset", "CacheDatasetV2", "DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "DumpTensor"),
            *("CreateSummaryFileWriter", "CreateSummaryDbWriter"),
            *("DebugIdentity", "DebugIdentityV2", "DebugIdentityV3"),
        ),
        _WRITES,
    ),
    **dict.fromkeys(
        (
            *("RpcCall", "RpcClient", "RpcServer", "RpcServerRegister", "RpcServerStart"),
            *("DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4"),
            *("RegisterDataset", "RegisterDatasetV2", "FileSystemSetConfiguration"),
        ),
        _SERVES,
    ),
}

# What restores and saves variables: at home in the saver, which nothing but a checkpoint calls.
_SAVER: Mapping[str, str] = {
    **dict.fromkeys(("Restore", "RestoreSlice", "RestoreV2", "DTensorRestoreV2"), _READS),
    **dict.fromkeys(("Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"), _WRITES),
}

# Harmless unless an attribute names a file.
_BY_ATTRIBUTE: Mapping[str, tuple[str, Callable[[bytes], bool], str]] = {
    "PrintV2": ("output_stream", lambda value: value.startswith(b"file:"), _WRITES),
    "FixedUnigramCandidateSampler": ("vocab_file", bool, _READS),
    "EncodeProto": ("descriptor_source", lambda value: not value.startswith((b"local://", b"bytes://")), _READS),
    "DecodeProtoV2": ("descriptor_source", lambda value: not value.startswith((b"local://", b"bytes://")), _READS),
}

# The second input is the name of the file: an asset, which TensorFlow hands over from outside of the function.
_TABLES = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Harm:
    """One operation that reaches outside of the graph.

    Attributes:
        operation: Its name in TensorFlow's registry.
        place: The function that it is in; empty for the graph itself.
        reason: What it does.
    """

    operation: str
    place: str
    reason: str


def find_harms(saved_model: Any) -> tuple[Harm, ...]:
    """Finds the operations that touch files, run Python or talk to other machines.

    The saver, which every SavedModel has, may restore and save variables; nothing that is called otherwise may.

    Args:
        saved_model: The message `SavedModel`.

    Returns:
        Each operation once for every function that it is in.
    """
    found: dict[Harm, None] = {}
    for graph in saved_model.meta_graphs:
        for harm in _find_in(graph):
            found.setdefault(harm)
    return tuple(found)


def _find_in(graph: Any) -> Iterator[Harm]:
    assets = {asset.tensor_info.name.partition(":")[0] for asset in graph.asset_file_def}
    bodies = {"": graph.graph_def.node}
    bodies.update((function.signature.name, function.node_def) for function in graph.graph_def.library.function)
    called = _find_called(graph, bodies)
    for place, nodes in bodies.items():
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            reason = HARMFUL.get(node.op)
            if reason is None and node.op in _SAVER and (place or node.name) in called:
                reason = _SAVER[node.op]
            if reason is None and node.op in _BY_ATTRIBUTE:
                name, is_harmful, why = _BY_ATTRIBUTE[node.op]
                if any(entry.key == name and is_harmful(entry.value.s) for entry in node.attr):
                    reason = why
            if reason is None and node.op in _TABLES and not _takes_asset(node, by_name, assets if not place else ()):
                reason = "reads a file that is no asset of the artifact"
            if reason is not None:
                yield Harm(node.op, place, reason)


def _find_called(graph: Any, bodies: Mapping[str, Iterable[Any]]) -> set[str]:
    """Names what an endpoint, a function of the object graph or an initialisation reaches: functions, and nodes."""
    nodes = {node.name: node for node in bodies[""]}
    called: set[str] = set()
    waiting = [entry.key for entry in graph.object_graph_def.concrete_functions]
    heads = [
        _name_node(tensor.value.name)
        for entry in graph.signature_def
        for tensor in (*entry.value.outputs, *entry.value.inputs)
    ]
    while heads:
        name = heads.pop()
        if name in nodes and name not in called:
            called.add(name)
            heads += [_name_node(source) for source in nodes[name].input]
            waiting += _list_functions(nodes[name])
    while waiting:
        name = waiting.pop()
        if name in bodies and name not in called:
            called.add(name)
            for node in bodies[name]:
                waiting += _list_functions(node)
    return called


def _name_node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _list_functions(node: Any) -> list[str]:
    names = [node.op]  # an operation may be called by the name of a function
    for entry in node.attr:
        names += [entry.value.func.name, *(function.name for function in entry.value.list.func)]
    return [name for name in names if name]


def _takes_asset(node: Any, by_name: Mapping[str, Any], assets: Iterable[str]) -> bool:
    source = _name_node(node.input[1]) if len(node.input) > 1 else ""
    for _ in range(len(by_name)):
        origin = by_name.get(source)
        if origin is None or origin.op in ("Placeholder", "Arg", "_Arg"):
            return True  # an argument of the function
        if origin.op != "Identity" or not origin.input:
            return source in assets
        source = _name_node(origin.input[0])
    return False


def check_graph(path: Path) -> None:
    """Refuses a SavedModel whose graph touches files or runs Python, before TensorFlow has read it.

    Args:
        path: Its `saved_model.pb`.

    Raises:
        ArtifactError: It holds such an operation, names an asset outside of itself, or is damaged.
    """
    try:
        saved_model = SavedModel.FromString(path.read_bytes())
    except (DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged: it is not a SavedModel of TensorFlow ({error}).") from error
    for graph in saved_model.meta_graphs:
        for asset in graph.asset_file_def:
            name = Path(asset.filename)
            if name.is_absolute() or ".." in name.parts:
                raise ArtifactError(f"{path} is refused: its asset {asset.filename!r} lies outside of the artifact.")
    harms = find_harms(saved_model)
    if harms:
        shown = [
            f"{harm.operation} {'in ' + harm.place if harm.place else 'in the graph'} {harm.reason}"
            for harm in harms[:_SHOWN]
        ]
        more = f", and {len(harms) - _SHOWN} more" if len(harms) > _SHOWN else ""
        raise ArtifactError(
            f"{path} is refused: {'; '.join(shown)}{more}. "
            "Load it with safe_mode=False only if you trust where the file comes from."
        )
