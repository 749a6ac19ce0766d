"""What TensorFlow reads of a SavedModel: its graph, its variables and its fingerprint."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_debug_info_pb2
from tensorflow.core.protobuf import fingerprint_pb2, meta_graph_pb2, saved_model_pb2, trackable_object_graph_pb2

from exporter.saving.formats.parts.weights_file import write_weights
from exporter.saving.formats.saved_model.save_options import keeps_replicas
from exporter.saving.graph.gradients import settle_gradients
from exporter.saving.graph.names import canonicalize_names
from exporter.saving.graph.saver import add_saver
from exporter.saving.layout.checksums import Checksums
from exporter.saving.layout.datasets import Stored, lay_out_file, write_file
from exporter.saving.layout.names import DATA, DEBUG_INFO, FINGERPRINT, GRAPH, INDEX
from exporter.saving.layout.tensor_bundle import KEY_SUFFIX, OBJECT_GRAPH, BundleEntry, encode_string, write_index
from exporter.saving.private_api import Trackable, make_fingerprint, write_graph
from exporter.saving.state.collecting import State
from exporter.typing.tensorflow import ConcreteFunction, SaveOptions, TFVariable


def write_graph_and_variables(
    build_root: Callable[..., object],
    staged: Path,
    endpoints: Mapping[str, ConcreteFunction],
    options: SaveOptions,
    state: State,
    checksums: Checksums,
) -> str | None:
    """Writes what TensorFlow reads. Returns why the variables are not one HDF5 file, or None if they are."""
    reason = _find_reason_for_tensorflow(options)
    if reason is None:
        nodes = write_graph(build_root(whole=False), staged, endpoints, _without_saver(options)) or []
        strange = [node for node in nodes if not isinstance(node, tf.Variable) and _serializes_itself(node)]
        if not nodes:
            reason = f"TensorFlow {tf.__version__} writes them in its own way only"
        elif strange:
            reason = f"{type(strange[0]).__name__} is saved by TensorFlow's own code"
    if reason is not None:
        tf.saved_model.save(build_root(whole=True), str(staged), endpoints, options)

    saved_model = saved_model_pb2.SavedModel.FromString((staged / GRAPH).read_bytes())
    meta_graph = saved_model.meta_graphs[0]
    settle_gradients(meta_graph)
    _canonicalize(meta_graph, staged)
    if reason is None:
        paths = {id(variable.value): path for path, variable in state.variables.items()}
        variables = {
            number: (paths.get(id(node), f"captured/{number}"), node)
            for number, node in enumerate(nodes)
            if isinstance(node, tf.Variable)
        }
        if not options.experimental_skip_saver:
            add_saver(meta_graph, {number: path + KEY_SUFFIX for number, (path, _) in variables.items()})
        object_graph = _describe_checkpoint(meta_graph.object_graph_def, variables)
        _write_checkpoint(staged / "variables", state, variables, object_graph, checksums)
    (staged / GRAPH).write_bytes(saved_model.SerializeToString(deterministic=True))
    return reason


def _canonicalize(meta_graph: meta_graph_pb2.MetaGraphDef, staged: Path) -> None:
    """Gives functions names that do not depend on what was traced before, in the graph and in its debug information."""
    file = staged / DEBUG_INFO
    if not file.is_file():
        canonicalize_names(meta_graph)
        return
    debug_info = graph_debug_info_pb2.GraphDebugInfo.FromString(file.read_bytes())
    canonicalize_names(meta_graph, debug_info)
    file.write_bytes(debug_info.SerializeToString(deterministic=True))


def _without_saver(options: SaveOptions) -> SaveOptions:
    fields = {name: getattr(options, name) for name in options.__slots__}
    options = tf.saved_model.SaveOptions(**{**fields, "experimental_skip_saver": True})
    return options


def _find_reason_for_tensorflow(options: SaveOptions) -> str | None:
    if options.experimental_sharding_callback is not None:
        return "experimental_sharding_callback spreads the variables over several"
    if options.experimental_io_device is not None:
        return "experimental_io_device lets TensorFlow write them on another device"
    if keeps_replicas(options):
        return "experimental_variable_policy writes every replica's variables"
    return None


def _serializes_itself(node: object) -> bool:
    """Whether a checkpoint holds something of the object beyond variables, such as a mutable table's rows."""
    if not isinstance(node, Trackable):
        return False
    own = type(node)
    return (
        own._serialize_to_tensors is not Trackable._serialize_to_tensors
        or own._gather_saveables_for_checkpoint is not Trackable._gather_saveables_for_checkpoint
        # One that was loaded has the saved functions that save and restore it.
        or bool(getattr(node, "_self_saveable_object_factories", None))
    )


def _describe_checkpoint(object_graph: Any, variables: Mapping[int, tuple[str, TFVariable]]) -> bytes:
    """Returns the object graph of a checkpoint: that of the SavedModel, with each variable's key."""
    described = trackable_object_graph_pb2.TrackableObjectGraph()
    for number, node in enumerate(object_graph.nodes):
        copy = described.nodes.add()
        for child in node.children:
            copy.children.add(node_id=child.node_id, local_name=child.local_name)
        if number in variables:
            path, variable = variables[number]
            copy.attributes.add(
                name="VARIABLE_VALUE", full_name=variable._shared_name, checkpoint_key=path + KEY_SUFFIX
            )
            copy.has_checkpoint_values.value = True
    return bytes(described.SerializeToString(deterministic=True))


def _write_checkpoint(
    directory: Path,
    state: State,
    variables: Mapping[int, tuple[str, TFVariable]],
    object_graph: bytes,
    checksums: Checksums,
) -> None:
    """Writes the variables as one HDF5 file, and the index that makes a checkpoint of it."""
    directory.mkdir(exist_ok=True)
    with lay_out_file() as layout:
        placed = write_weights(layout, state)
        for path, variable in variables.values():
            if path not in placed:
                placed[path] = layout.add(path, variable.numpy)
        checksums.tensors.update(layout.checksums.tensors)
        checksums.structure = layout.close()
        encoded, checksum = encode_string(object_graph)
        write_file(directory / Path(DATA).name, layout, behind=encoded)
    entries = {path + KEY_SUFFIX: _describe_entry(stored) for path, stored in placed.items()}
    offset = checksums.structure.size
    entries[OBJECT_GRAPH] = BundleEntry(tf.string.as_datatype_enum, (), offset, len(encoded), checksum)
    write_index(directory / Path(INDEX).name, entries)


def _describe_entry(stored: Stored) -> BundleEntry:
    dtype = tf.as_dtype(stored.dtype).as_datatype_enum
    return BundleEntry(dtype, stored.shape, stored.offset, stored.size, stored.checksum)


def write_fingerprint(staged: Path) -> None:
    """Writes `fingerprint.pb`, whose uuid is a function of the content instead of a random number."""
    (staged / FINGERPRINT).unlink(missing_ok=True)
    if not make_fingerprint(staged):
        return
    fingerprint = fingerprint_pb2.FingerprintDef.FromString((staged / FINGERPRINT).read_bytes())
    fingerprint.uuid = ""
    content = hashlib.sha256(fingerprint.SerializeToString(deterministic=True))
    content.update((staged / GRAPH).read_bytes())
    index = staged / INDEX
    if index.is_file():
        content.update(index.read_bytes())
    fingerprint.uuid = str(int.from_bytes(content.digest()[:16], "big"))
    (staged / FINGERPRINT).write_bytes(fingerprint.SerializeToString(deterministic=True))
