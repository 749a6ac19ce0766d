"""The save and restore nodes of a SavedModel's graph, for readers that run the graph itself.

TF Serving, the C API and converters load variables by running `restore_op_name` of the graph's `SaverDef`. TensorFlow
traces a function per variable to make these nodes; here they are one SaveV2 and one RestoreV2 for all of them.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from tensorflow.core.framework import graph_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saver_pb2

from exporter.errors import ExportError

_FILENAME = "saver_filename"

# The name of a variable, its dtype, and its shape as bytes.
_Kind = tuple[str, int, bytes]


def add_saver(meta_graph: meta_graph_pb2.MetaGraphDef, keys: Mapping[int, str]) -> None:
    """Adds the nodes and the SaverDef.

    Args:
        meta_graph: A MetaGraph that was written without a saver.
        keys: The checkpoint key of each variable, by its node number in the object graph.
    """
    if not keys:
        return  # a model of lookups alone has nothing to restore, and RestoreV2 must restore something
    graph = meta_graph.graph_def
    handles = _find_handles(meta_graph, sorted(keys))
    numbers = list(handles)
    names = [keys[number].encode() for number in numbers]
    dtypes = [meta_graph.object_graph_def.nodes[number].variable.dtype for number in numbers]

    filename = graph.node.add(name=_FILENAME, op="Placeholder")
    filename.attr["dtype"].type = types_pb2.DT_STRING
    filename.attr["shape"].shape.SetInParent()
    _add_strings(graph, "saver/tensor_names", names)
    _add_strings(graph, "saver/shape_and_slices", [b""] * len(names))
    tables = [_FILENAME, "saver/tensor_names", "saver/shape_and_slices"]

    values = []
    for index, number in enumerate(numbers):
        node = graph.node.add(name=f"saver/read_{index}", op="ReadVariableOp", input=[handles[number]])
        node.attr["dtype"].type = dtypes[index]
        values.append(node.name)
    save = graph.node.add(name="saver/save_tensors", op="SaveV2", input=[*tables, *values])
    save.attr["dtypes"].list.type.extend(dtypes)
    done = graph.node.add(name="saver/save", op="Identity", input=[_FILENAME, f"^{save.name}"])
    done.attr["T"].type = types_pb2.DT_STRING

    restore = graph.node.add(name="saver/restore_tensors", op="RestoreV2", input=tables)
    restore.attr["dtypes"].list.type.extend(dtypes)
    assigned = []
    for index, number in enumerate(numbers):
        node = graph.node.add(
            name=f"saver/assign_{index}", op="AssignVariableOp", input=[handles[number], f"{restore.name}:{index}"]
        )
        node.attr["dtype"].type = dtypes[index]
        assigned.append(f"^{node.name}")
    graph.node.add(name="saver/restore", op="NoOp", input=assigned)

    meta_graph.saver_def.CopyFrom(
        saver_pb2.SaverDef(
            filename_tensor_name=f"{_FILENAME}:0",
            save_tensor_name="saver/save:0",
            restore_op_name="saver/restore",
            version=saver_pb2.SaverDef.V2,
        )
    )


def _add_strings(graph: graph_pb2.GraphDef, name: str, values: Sequence[bytes]) -> None:
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = types_pb2.DT_STRING
    tensor = node.attr["value"].tensor
    tensor.dtype = types_pb2.DT_STRING
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.string_val.extend(values)


def _find_handles(meta_graph: meta_graph_pb2.MetaGraphDef, numbers: Sequence[int]) -> dict[int, str]:
    """Finds the handle node of each variable.

    TensorFlow names the handle after the variable, made unique in the graph, and makes the handles in the reverse
    of the order of the object graph. A variable without a name of its own has the name of those that it makes for
    the paths of assets, which are strings.
    """
    nodes = meta_graph.object_graph_def.nodes
    names = {node.variable.name for node in nodes if node.HasField("variable")}
    wanted: dict[_Kind, list[int]] = defaultdict(list)
    for number, saved in enumerate(nodes):
        if saved.HasField("variable"):
            variable = saved.variable
            wanted[variable.name, variable.dtype, variable.shape.SerializeToString()].append(number)
    found: dict[_Kind, list[str]] = defaultdict(list)
    for node in meta_graph.graph_def.node:
        if node.op == "VarHandleOp":
            shape = node.attr["shape"].shape.SerializeToString()
            found[_base_name(node.name, names), node.attr["dtype"].type, shape].append(node.name)

    handles: dict[int, str] = {}
    for kind, owners in wanted.items():
        handles.update(zip(reversed(owners), found[kind], strict=False))
    missing = [nodes[number].variable.name for number in numbers if number not in handles]
    if missing:
        raise ExportError(
            f"TensorFlow {meta_graph.meta_info_def.tensorflow_version} wrote a graph without handles for "
            f"{len(missing)} variables, such as {missing[0]!r}; this exporter knows the graphs of TensorFlow 2.21."
        )
    return {number: handles[number] for number in numbers}


def _base_name(name: str, wanted: Collection[str]) -> str:
    """Returns the variable's name that a handle's unique name was made from."""
    stem, _, number = name.rpartition("_")
    if number.isdigit() and name not in wanted and stem in wanted:
        return stem
    return name
