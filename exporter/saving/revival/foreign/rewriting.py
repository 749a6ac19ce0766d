"""SavedModels of old versions as TensorFlow loads them today: rewritten beside the original, which stays as it is."""

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorflow.core.framework import graph_pb2, node_def_pb2, variable_pb2
from tensorflow.core.protobuf import saved_model_pb2

from exporter.saving.layout.names import FINGERPRINT, GRAPH

_REFERENCES = frozenset({"Variable", "VariableV2"})
# What changes a variable of TensorFlow 1, and what does the same to one of today.
_CHANGING = {
    "Assign": "AssignVariableOp",
    "AssignAdd": "AssignAddVariableOp",
    "AssignSub": "AssignSubVariableOp",
    "IsVariableInitialized": "VarIsInitializedOp",
}
_VARIABLES = frozenset({"variables", "trainable_variables", "local_variables", "model_variables"})
_INITIALIZERS = frozenset({"saved_model_main_op", "legacy_init_op", "table_initializer"})
_ASSETS = "saved_model_assets"


class _Directory:
    """A directory that is there for as long as this object.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="exporter-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def rewrite(path: Path) -> tuple[Path, object]:
    """Gives a SavedModel that TensorFlow loads whole.

    The slots of optimizers go: TensorFlow makes them by a method that only the optimizers of Keras 2 have. Reference
    variables of TensorFlow 1 become resources: it loads them as nodes that cannot be saved again.

    Args:
        path: The directory.

    Returns:
        The directory itself, or another one with links to its files; and what keeps that one.
    """
    saved_model = saved_model_pb2.SavedModel.FromString((path / GRAPH).read_bytes())
    changed = [_leave_slots_out(graph) | _use_resources(graph) for graph in saved_model.meta_graphs]
    if not any(changed):
        return path, None
    kept = _Directory()
    place = kept.path
    for entry in path.iterdir():
        if entry.name not in (GRAPH, FINGERPRINT):
            (place / entry.name).symlink_to(entry.absolute())
    (place / GRAPH).write_bytes(saved_model.SerializeToString())
    return place, kept


def _leave_slots_out(meta_graph: Any) -> bool:
    owners = [node for node in meta_graph.object_graph_def.nodes if node.slot_variables]
    for node in owners:
        del node.slot_variables[:]
    return bool(owners)


def _use_resources(meta_graph: Any) -> bool:
    """Puts resources in the place of reference variables, in what endpoints, initializers and the saver need."""
    graph = meta_graph.graph_def
    names = {node.name for node in graph.node if node.op in _REFERENCES}
    if not names:
        return False
    _keep_needed(meta_graph)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.name in names:
            graph.node.extend(_make_resource(node))
        else:
            graph.node.append(_use_resource(node, names))
    for key in _VARIABLES & meta_graph.collection_def.keys():
        values = meta_graph.collection_def[key].bytes_list.value
        for place, value in enumerate(values):
            described = variable_pb2.VariableDef.FromString(value)
            described.is_resource = _name(described.variable_name) in names or described.is_resource
            values[place] = described.SerializeToString()
    return True


def _make_resource(node: node_def_pb2.NodeDef) -> tuple[node_def_pb2.NodeDef, node_def_pb2.NodeDef]:
    handle = node_def_pb2.NodeDef(name=node.name, op="VarHandleOp", device=node.device)
    for key in ("dtype", "shape", "container"):
        if key in node.attr:
            handle.attr[key].CopyFrom(node.attr[key])
    handle.attr["shared_name"].s = node.attr["shared_name"].s or node.name.encode()
    read = node_def_pb2.NodeDef(name=_name_read(node.name), op="ReadVariableOp", input=[node.name])
    read.attr["dtype"].CopyFrom(node.attr["dtype"])
    return handle, read


def _use_resource(node: node_def_pb2.NodeDef, names: set[str]) -> node_def_pb2.NodeDef:
    changes = node.op in _CHANGING and node.input and _name(node.input[0]) in names
    for place, tensor in enumerate(node.input):
        if not tensor.startswith("^") and _name(tensor) in names and not (changes and place == 0):
            node.input[place] = _name_read(_name(tensor))
    if changes:
        if "T" in node.attr:
            node.attr["dtype"].CopyFrom(node.attr["T"])
        if node.op == "IsVariableInitialized":
            node.attr.pop("dtype", None)
        for key in ("T", "use_locking", "validate_shape"):
            node.attr.pop(key, None)
        node.op = _CHANGING[node.op]
    return node


def _name_read(name: str) -> str:
    return f"{name}/exporter_read"


def _name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _keep_needed(meta_graph: Any) -> None:
    """Leaves out of a graph what only training needs, which may change variables in any way."""
    graph: graph_pb2.GraphDef = meta_graph.graph_def
    nodes = {node.name: node for node in graph.node}
    waiting = [name for name in map(_name, _list_heads(meta_graph)) if name in nodes]
    needed = set(waiting)
    while waiting:
        node = nodes[waiting.pop()]
        places = [each.decode()[5:] for each in node.attr["_class"].list.s if each.startswith(b"loc:@")]
        for name in (*map(_name, node.input), *places):
            if name in nodes and name not in needed:
                needed.add(name)
                waiting.append(name)
    kept = [node for node in graph.node if node.name in needed]
    del graph.node[:]
    graph.node.extend(kept)
    for key in list(meta_graph.collection_def):
        if key not in _VARIABLES | _INITIALIZERS | {_ASSETS}:
            del meta_graph.collection_def[key]


def _list_heads(meta_graph: Any) -> Iterable[str]:
    for signature in meta_graph.signature_def.values():
        for tensor in (*signature.inputs.values(), *signature.outputs.values()):
            sparse = tensor.coo_sparse
            yield from (tensor.name, sparse.values_tensor_name, sparse.indices_tensor_name)
            yield sparse.dense_shape_tensor_name
    saver = meta_graph.saver_def
    yield from (saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name)
    yield from (asset.tensor_info.name for asset in meta_graph.asset_file_def)
    for key, collection in meta_graph.collection_def.items():
        if key in _INITIALIZERS:
            yield from collection.node_list.value
        elif key in _VARIABLES:
            for value in collection.bytes_list.value:
                described = variable_pb2.VariableDef.FromString(value)
                yield from (described.variable_name, described.initializer_name, described.snapshot_name)
                yield described.initial_value_name
