"""Graphs that somebody prepared to do more than compute: each is refused by name, before TensorFlow has read it."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2, variable_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

import exporter
from exporter.artifacts.inspection.graphs import read_graph
from exporter.errors import ArtifactError
from exporter.saving.layout.messages import SavedModel
from exporter.saving.safety.graphs.operations import check_graph, find_harms
from exporter.saving.safety.graphs.registry import SAVER, TABLE_FILES, Registry, read_registry

pytestmark = pytest.mark.xdist_group("safety")

GRAPH = "saved_model.pb"
TRUST = "Load it with safe_mode=False only if you trust where the file comes from."
NO_ASSET = "reads a file that is no asset of the artifact"
NO_SAVER = "saves or restores files elsewhere than in the saver"
AT_LOAD = "would run while the file is loaded, when only tables and variables are filled"

MetaGraph = Any
# Changes the graph; the second argument is the path of a file that it must not read or write.
Attack = Callable[[MetaGraph, str], None]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of TensorFlow: a table from a file, a variable, a branch and a loop."""
    folder = tmp_path_factory.mktemp("vocabulary")
    words = folder / "words.txt"
    words.write_text("a\nb\n")
    module = tf.Module()
    initializer = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    module.weight = tf.Variable(2.0)
    module.counts = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def find(word: Any) -> Any:
        total = tf.constant(0.0)
        for number in tf.range(tf.size(word)):
            total += module.weight if number % 2 == 0 else -module.weight
        return {"place": module.table.lookup(word), "total": total, "count": module.counts.lookup(word)}

    module.find = find
    tf.saved_model.save(module, str(folder / "graph"), signatures=module.find)
    return folder / "graph"


@pytest.fixture(scope="module")
def session_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of TensorFlow 1: no object graph, and an operation that fills its table when it is loaded."""
    folder = tmp_path_factory.mktemp("session")
    words = folder / "words.txt"
    words.write_text("a\nb\n")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        v1.get_local_variable("calls", initializer=tf.zeros([3]))
        path = tf.constant(str(words), name="path")
        initializer = tf.lookup.TextFileInitializer(
            path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        table = v1.lookup.StaticHashTable(initializer, -1)
        word = v1.placeholder(tf.string, [None], name="word")
        outputs = {"place": table.lookup(word), "total": weight * 1.0}
        started = tf.group(v1.local_variables_initializer(), v1.tables_initializer(), name="started")
        session.run([v1.global_variables_initializer(), started])
        builder = v1.saved_model.Builder(str(folder / "graph"))
        signature = v1.saved_model.predict_signature_def({"word": word}, outputs)
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, assets_collection=[path], main_op=started
        )
        builder.save()
    return folder / "graph"


def change(original: Path, folder: Path, attack: Attack, canary: str) -> Path:
    """Makes a copy with another graph."""
    path = folder / "graph"
    shutil.copytree(original, path)
    message = saved_model_pb2.SavedModel.FromString((path / GRAPH).read_bytes())
    attack(message.meta_graphs[0], canary)
    (path / GRAPH).write_bytes(message.SerializeToString())
    return path


def get_function(graph: MetaGraph, part: str) -> Any:
    """Returns the function whose name has a part."""
    return next(each for each in graph.graph_def.library.function if part in each.signature.name)


def get_initializer(graph: MetaGraph) -> Any:
    """Returns the function that fills the table from the file."""
    functions = graph.graph_def.library.function
    return next(each for each in functions if any("InitializeTable" in node.op for node in each.node_def))


def add_constant(nodes: Any, name: str, value: Any) -> Any:
    node = nodes.add(name=name, op="Const")
    proto = tf.make_tensor_proto(value)
    node.attr["value"].tensor.CopyFrom(proto)
    node.attr["dtype"].type = proto.dtype
    return node


def add_call(nodes: Any, name: str, function: Any, *inputs: str) -> Any:
    node = nodes.add(name=name, op="StatefulPartitionedCall", input=inputs)
    node.attr["f"].func.name = function.signature.name
    node.attr["Tin"].list.type.extend(each.type for each in function.signature.input_arg)
    node.attr["Tout"].list.type.extend(each.type for each in function.signature.output_arg)
    return node


def add_function(graph: MetaGraph, name: str) -> Any:
    function = graph.graph_def.library.function.add()
    function.signature.name = name
    return function


def add_reading(nodes: Any, canary: str) -> None:
    add_constant(nodes, "canary", canary)
    nodes.add(name="read", op="ReadFile", input=["canary:output:0"])


# Wherever an operation hides


def put_in_function(graph: MetaGraph, canary: str) -> None:
    add_reading(add_function(graph, "uncalled").node_def, canary)


def put_in_gradient(graph: MetaGraph, canary: str) -> None:
    add_reading(add_function(graph, "backwards").node_def, canary)
    graph.graph_def.library.registered_gradients.add(gradient_func="backwards", registered_op_type="CustomGradient-0")
    find = get_function(graph, "inference_find")
    find.node_def[0].attr["_gradient_op_type"].s = b"CustomGradient-0"


def put_in_substitute(graph: MetaGraph, canary: str) -> None:
    find = get_function(graph, "inference_find")
    find.attr["api_implements"].s = b"find"
    other = add_function(graph, "other")
    other.signature.MergeFrom(find.signature)
    other.signature.name = "other"
    other.attr["api_implements"].s = b"find"
    add_reading(other.node_def, canary)


def put_in_graph(graph: MetaGraph, canary: str) -> None:
    add_constant(graph.graph_def.node, "canary", canary)
    graph.graph_def.node.add(name="read", op="ReadFile", input=["canary"])


def run_serialized_graph(graph: MetaGraph, canary: str) -> None:
    inner = tf.compat.v1.GraphDef()
    add_reading(inner.node, canary)
    nodes = get_function(graph, "inference_find").node_def
    add_constant(nodes, "inner", inner.SerializeToString())
    nodes.add(name="run", op="DatasetFromGraph", input=["inner:output:0"])


def add_operation(name: str) -> Attack:
    return lambda graph, canary: graph.graph_def.node.add(name="added", op=name) and None


# The saver


def call_saver_from_graph(graph: MetaGraph, canary: str) -> None:
    add_constant(graph.graph_def.node, "canary", canary)
    add_call(graph.graph_def.node, "again", get_function(graph, "traced_restore"), "canary", "Variable")


def call_saver_from_function(graph: MetaGraph, canary: str) -> None:
    nodes = get_function(graph, "inference_find").node_def
    add_constant(nodes, "canary", canary)
    add_call(nodes, "again", get_function(graph, "traced_save"), "canary:output:0")


def serve_saver(graph: MetaGraph, canary: str) -> None:
    output = graph.signature_def["serving_default"].outputs["restored"]
    output.name = graph.saver_def.save_tensor_name
    output.dtype = types_pb2.DT_STRING


def list_saver(graph: MetaGraph, canary: str) -> None:
    graph.object_graph_def.concrete_functions[get_function(graph, "traced_restore").signature.name].SetInParent()


def join_parents(graph: MetaGraph, canary: str) -> None:
    nodes = get_function(graph, "traced_save").node_def
    part = next(node for node in nodes if node.op == "Const" and b"part" in node.attr["value"].tensor.string_val[0])
    part.attr["value"].tensor.string_val[0] = b"/../../canary"


def restore_constant(graph: MetaGraph, canary: str) -> None:
    nodes = get_function(graph, "traced_restore").node_def
    add_constant(nodes, "canary", canary)
    next(node for node in nodes if node.op == "RestoreV2").input[0] = "canary:output:0"


# Tables from files


def find_asset(graph: MetaGraph) -> Any:
    return next(node for node in graph.object_graph_def.nodes if node.HasField("asset"))


def bind_constant(graph: MetaGraph, canary: str) -> None:
    add_constant(graph.graph_def.node, "canary", canary)
    asset = find_asset(graph)
    asset.constant.operation = "canary"


def disguise_constant(graph: MetaGraph, canary: str) -> None:
    """Has the class of a constant read what says that it is an asset."""
    asset = find_asset(graph)
    asset.registered_name = "tf.TrackableConstant"


def call_with_constant(graph: MetaGraph, canary: str) -> None:
    initializer = get_initializer(graph)
    inner = graph.graph_def.library.function.add()
    inner.CopyFrom(initializer)
    inner.signature.name = "inner"
    kept = [node for node in initializer.node_def if "Initialize" not in node.op]
    del initializer.node_def[:]
    initializer.node_def.extend(kept)
    add_constant(initializer.node_def, "canary", canary)
    handle = next(each.name for each in initializer.signature.input_arg if each.type == types_pb2.DT_RESOURCE)
    call = add_call(initializer.node_def, "outer", inner, "canary:output:0", handle)
    for node in initializer.node_def:
        node.input[:] = [f"^{call.name}" if "Initialize" in name else name for name in node.input]
    for key in initializer.control_ret:
        initializer.control_ret[key] = call.name


def substitute_table(graph: MetaGraph, canary: str) -> None:
    get_initializer(graph).attr["api_implements"].s = b"initialize"


def take_argument(graph: MetaGraph, canary: str) -> None:
    """Takes the path as an argument that whoever calls gives, such as the loader with what a checkpoint holds."""
    name = get_initializer(graph).signature.name
    del graph.object_graph_def.concrete_functions[name].bound_inputs[:]


def serve_table(graph: MetaGraph, canary: str) -> None:
    filled = next(node for node in graph.graph_def.node if "InitializeTable" in node.op)
    served = next(node for node in graph.graph_def.node if node.op == "LookupTableFindV2")
    served.input.append(f"^{filled.name}")
    path = graph.signature_def["serving_default"].inputs["path"]
    path.name = f"{filled.input[1].partition(':')[0]}:0"
    path.dtype = types_pb2.DT_STRING


def name_twice(graph: MetaGraph, canary: str) -> None:
    """Gives the asset's variable another handle, through which anything may be assigned."""
    path = graph.asset_file_def[0].tensor_info.name.partition(":")[0]
    assign = next(node for node in graph.graph_def.node if node.op == "AssignVariableOp" and path in node.input)
    handle = next(node for node in graph.graph_def.node if node.name == assign.input[0])
    add_constant(graph.graph_def.node, "canary", canary)
    again = graph.graph_def.node.add(name="again", op="VarHandleOp")
    again.attr["shared_name"].s = handle.attr["shared_name"].s or handle.name.encode()
    graph.graph_def.node.add(name="assign", op="AssignVariableOp", input=["again", "canary"])


# What runs at load


def loop_in_initializer(graph: MetaGraph, canary: str) -> None:
    body = add_function(graph, "body").signature.name
    loop = get_initializer(graph).node_def.add(name="loop", op="StatelessWhile")
    loop.attr["body"].func.name = loop.attr["cond"].func.name = body


def loop_in_restore(graph: MetaGraph, canary: str) -> None:
    number = next(
        entry.restore_function for node in graph.object_graph_def.nodes for entry in node.saveable_objects.values()
    )
    name = graph.object_graph_def.nodes[number].bare_concrete_function.concrete_function_name
    get_function(graph, name).node_def.add(name="loop", op="While")


def take_the_place(graph: MetaGraph, canary: str) -> None:
    objects = graph.object_graph_def.nodes
    find = next(child.node_id for child in objects[0].children if child.local_name == "find")
    objects[0].children.add(local_name="_lookup_dependency", node_id=find)


def hang_on_variable(graph: MetaGraph, canary: str) -> None:
    objects = graph.object_graph_def.nodes
    find = next(child.node_id for child in objects[0].children if child.local_name == "find")
    next(node for node in objects if node.HasField("variable")).children.add(local_name="assign", node_id=find)


def start(collection: str) -> Attack:
    def attack(graph: MetaGraph, canary: str) -> None:
        graph.graph_def.node.add(name="slow", op="MatrixInverse")
        graph.collection_def[collection].node_list.value[:] = ["slow"]

    return attack


def start_variable(graph: MetaGraph, canary: str) -> None:
    graph.graph_def.node.add(name="slow", op="MatrixInverse")
    variable = variable_pb2.VariableDef(variable_name="v:0", initializer_name="slow", snapshot_name="v:0")
    graph.collection_def["local_variables"].bytes_list.value.append(variable.SerializeToString())


def start_signature(graph: MetaGraph, canary: str) -> None:
    graph.graph_def.node.add(name="slow", op="MatrixInverse")
    graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "slow"


def start_restoring(graph: MetaGraph, canary: str) -> None:
    graph.graph_def.node.add(name="slow", op="MatrixInverse")
    next(node for node in graph.graph_def.node if node.name == graph.saver_def.restore_op_name).input.append("^slow")


def fill_initializer(graph: MetaGraph, canary: str) -> None:
    nodes = get_initializer(graph).node_def
    add_constant(nodes, "sizes", [1 << 20, 1 << 20])
    add_constant(nodes, "zero", 0.0)
    nodes.add(name="fill", op="Fill", input=["sizes:output:0", "zero:output:0"]).attr["T"].type = types_pb2.DT_FLOAT


def fill_untold(graph: MetaGraph, canary: str) -> None:
    fill_initializer(graph, canary)
    nodes = get_initializer(graph).node_def
    nodes.add(name="same", op="Identity", input=["sizes:output:0"])
    next(node for node in nodes if node.op == "Fill").input[0] = "same:output:0"


def count_to_the_end(graph: MetaGraph, canary: str) -> None:
    nodes = get_initializer(graph).node_def
    for name, value in {"first": 0, "last": 1 << 30, "step": 1}.items():
        add_constant(nodes, name, value)
    nodes.add(name="range", op="Range", input=["first:output:0", "last:output:0", "step:output:0"])


def fill_often(graph: MetaGraph, canary: str) -> None:
    """Makes a little in a function that is called often by functions that are called often."""
    last = add_function(graph, "level_0")
    add_constant(last.node_def, "large", np.zeros(1)).attr["value"].tensor.tensor_shape.dim[0].size = 1 << 20
    for level in range(1, 4):
        function = add_function(graph, f"level_{level}")
        for place in range(16):
            add_call(function.node_def, f"call_{place}", last)
        last = function
    add_call(get_initializer(graph).node_def, "level", last)


def make_buckets(graph: MetaGraph, canary: str) -> None:
    node = get_initializer(graph).node_def.add(name="dense", op="MutableDenseHashTableV2")
    node.attr["initial_num_buckets"].i = 1 << 40


def claim_constant(graph: MetaGraph, canary: str) -> None:
    node = add_constant(get_function(graph, "inference_find").node_def, "large", np.zeros([1, 1]))
    for dim in node.attr["value"].tensor.tensor_shape.dim:
        dim.size = 1 << 30


def claim_slots(graph: MetaGraph, canary: str) -> None:
    objects = graph.object_graph_def.nodes
    number = next(number for number, node in enumerate(objects) if node.HasField("variable"))
    objects[number].variable.shape.dim.add(size=1 << 30)
    optimizer = objects.add()
    optimizer.user_object.identifier = "tf_deprecated_optimizer"
    optimizer.slot_variables.add(original_variable_node_id=number, slot_name="m", slot_variable_node_id=number)


# Calls without end


def call_itself(graph: MetaGraph, canary: str) -> None:
    function = add_function(graph, "endless")
    add_call(function.node_def, "again", function)


def call_itself_inside(graph: MetaGraph, canary: str) -> None:
    """Names itself in an attribute of a function that is an attribute."""
    function, other = add_function(graph, "endless"), add_function(graph, "other")
    call = add_call(function.node_def, "again", other)
    call.attr["f"].func.attr["g"].func.name = "endless"


def double(graph: MetaGraph, canary: str) -> None:
    last = add_function(graph, "level_0")
    last.node_def.add(name="nothing", op="NoOp")
    for level in range(1, 60):
        function = add_function(graph, f"level_{level}")
        for place in range(2):
            add_call(function.node_def, f"call_{place}", last)
        last = function


# Names


def take_a_name(graph: MetaGraph, canary: str) -> None:
    add_function(graph, "MatMul")


def repeat_function(graph: MetaGraph, canary: str) -> None:
    graph.graph_def.library.function.add().CopyFrom(get_function(graph, "inference_find"))


def repeat_node(graph: MetaGraph, canary: str) -> None:
    graph.graph_def.node.add(name="saver_filename", op="Placeholder")


ATTACKS: dict[str, tuple[Attack, str]] = {
    "uncalled function": (put_in_function, "ReadFile in uncalled reads files"),
    "gradient": (put_in_gradient, "ReadFile in backwards reads files"),
    "substitute": (put_in_substitute, "ReadFile in other reads files"),
    "graph": (put_in_graph, "ReadFile in the graph reads files"),
    "serialized graph": (
        run_serialized_graph,
        "runs an input pipeline, which may hold a graph of its own or read files",
    ),
    "operation of tomorrow": (
        add_operation("GainedLater"),
        "GainedLater in the graph is none of the operations of TensorFlow that only compute",
    ),
    **{
        name: (add_operation(name), f"{name} in the graph {reason}")
        for name, reason in {
            "Abort": "ends the process",
            "Send": "talks to other machines or devices",
            "RemoteCall": "talks to other machines or devices",
            "CollectiveReduce": "talks to other machines or devices",
            "QueueDequeueV2": "waits for other calls",
            "BarrierTakeMany": "waits for other calls",
            "Unstage": "waits for other calls",
            "XlaCustomCallV2": "runs a program of another language than TensorFlow's graphs",
            "XlaCallModule": "runs a program of another language than TensorFlow's graphs",
            "TPUCompile": "steers a TPU",
            "DebugIdentityV3": "writes what passes through to files or to another machine",
            "WriteScalarSummary": "writes files",
            "Print": "prints lines of its own to the terminal or to a file",
            "FixedUnigramCandidateSampler": "reads files",
            "DecodeProtoV2": "reads files",
            "Empty": "uses memory as it was left, or changes tensors in place",
            "Timestamp": "reads the clock",
            "_Recv": "talks to other machines or devices",
        }.items()
    },
    "saver called by the graph": (call_saver_from_graph, f"RestoreV2 in __inference__traced_restore_# {NO_SAVER}"),
    "saver called by a function": (call_saver_from_function, f"SaveV2 in __inference__traced_save_# {NO_SAVER}"),
    "saver served": (serve_saver, f"SaveV2 in __inference__traced_save_# {NO_SAVER}"),
    "saver in the object graph": (list_saver, f"RestoreV2 in __inference__traced_restore_# {NO_SAVER}"),
    "saver of another directory": (join_parents, f"ShardedFilename in __inference__traced_save_# {NO_SAVER}"),
    "saver of another file": (restore_constant, f"RestoreV2 in __inference__traced_restore_# {NO_SAVER}"),
    "constant for an asset": (bind_constant, f"InitializeTableFromTextFileV2 in __inference__initializer_# {NO_ASSET}"),
    "constant in disguise": (
        disguise_constant,
        f"InitializeTableFromTextFileV2 in __inference__initializer_# {NO_ASSET}",
    ),
    "constant from a caller": (call_with_constant, f"InitializeTableFromTextFileV2 in inner {NO_ASSET}"),
    "table in a substitute": (
        substitute_table,
        f"InitializeTableFromTextFileV2 in __inference__initializer_# {NO_ASSET}",
    ),
    "path from whoever calls": (
        take_argument,
        f"InitializeTableFromTextFileV2 in __inference__initializer_# {NO_ASSET}",
    ),
    "variable of two handles": (name_twice, f"InitializeTableFromTextFileV2 in __inference__initializer_# {NO_ASSET}"),
    "loop in an initializer": (loop_in_initializer, f"StatelessWhile in __inference__initializer_# {AT_LOAD}"),
    "loop in a restore function": (loop_in_restore, f"While in __inference_restore_fn_# {AT_LOAD}"),
    "method of TensorFlow": (
        take_the_place,
        "the function __inference_find_# would be called as _lookup_dependency, which TensorFlow uses while it loads",
    ),
    "method of a variable": (
        hang_on_variable,
        "the function __inference_find_# would be called as assign, which TensorFlow uses while it loads",
    ),
    "initializing signature": (start_signature, f"MatrixInverse in the graph {AT_LOAD}"),
    "restoring operation": (start_restoring, f"MatrixInverse in the graph {AT_LOAD}"),
    "large tensor at load": (
        fill_initializer,
        "the function __inference__initializer_# would make more than 1,073,741,824 bytes while the file is loaded",
    ),
    "long range at load": (
        count_to_the_end,
        "the function __inference__initializer_# would make more than 1,073,741,824 bytes while the file is loaded",
    ),
    "many tensors at load": (
        fill_often,
        "the function level_3 would make more than 1,073,741,824 bytes while the file is loaded",
    ),
    "many buckets at load": (
        make_buckets,
        "the function __inference__initializer_# would make more than 1,073,741,824 bytes while the file is loaded",
    ),
    "tensor of untold size at load": (
        fill_untold,
        "Fill in __inference__initializer_# would make a tensor while the file is loaded whose size cannot be told",
    ),
    "large constant": (claim_constant, "Const in __inference_find_# claims more than 1,073,741,824 bytes"),
    "large state of an optimizer": (
        claim_slots,
        "the state of an optimizer claims 4,294,967,296 bytes where ",
    ),
    "function that calls itself": (call_itself, "the function endless calls itself"),
    "function that calls itself inside": (call_itself_inside, "the function endless calls itself"),
    "functions that double": (
        double,
        "the function level_19 grows to more than 1,000,000 nodes when the functions that it calls are inlined",
    ),
    "function of an operation's name": (take_a_name, "the function MatMul has the name of an operation of TensorFlow"),
    "two functions of one name": (repeat_function, "the name __inference_find_# in the graph stands for two things"),
    "two nodes of one name": (repeat_node, "the name saver_filename in the graph stands for two things"),
}


def refuse(path: Path) -> str:
    """Returns why a graph is not loaded."""
    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)
    with pytest.raises(ArtifactError) as checked:
        check_graph(path / GRAPH)
    assert str(caught.value) == str(checked.value)
    return str(caught.value)


def hide_numbers(message: str) -> str:
    """Hides the numbers that TensorFlow gives to functions."""
    return re.sub(r"(?<=_)\d+", "#", message)


@pytest.mark.parametrize(("attack", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_a_graph_that_does_more_than_compute(attack: Attack, reason: str, vocabulary: Path, tmp_path: Path) -> None:
    path = change(vocabulary, tmp_path, attack, str(tmp_path / "canary"))

    message = refuse(path)

    assert message.startswith(f"{path / GRAPH} is refused: ")
    assert message.endswith(f". {TRUST}")
    assert hide_numbers(reason) in hide_numbers(message)
    assert len(message) < 1500
    # Described all the same; what is stored beside the graph is no part of it.
    assert bool(read_graph(path / GRAPH).reaching_out) == (attack is not claim_slots)


OF_SESSIONS: dict[str, tuple[Attack, str]] = {
    "main operation": (start("saved_model_main_op"), f"MatrixInverse in the graph {AT_LOAD}"),
    "legacy operation": (start("legacy_init_op"), f"MatrixInverse in the graph {AT_LOAD}"),
    "table initializer": (start("table_initializer"), f"MatrixInverse in the graph {AT_LOAD}"),
    "local variable": (start_variable, f"MatrixInverse in the graph {AT_LOAD}"),
    "restoring operation": (start_restoring, f"MatrixInverse in the graph {AT_LOAD}"),
    "table filled by an endpoint": (serve_table, f"InitializeTableFromTextFileV2 in the graph {NO_ASSET}"),
    "saver served": (serve_saver, f"SaveV2 in the graph {NO_SAVER}"),
}


@pytest.mark.parametrize(("attack", "reason"), OF_SESSIONS.values(), ids=OF_SESSIONS)
def test_a_graph_of_tensorflow_1_that_does_more(
    attack: Attack, reason: str, session_graph: Path, tmp_path: Path
) -> None:
    path = change(session_graph, tmp_path, attack, str(tmp_path / "canary"))

    assert reason in refuse(path)


@pytest.mark.parametrize("attack", [bind_constant, call_with_constant], ids=["captured", "from a caller"])
def test_on_trust_such_a_table_is_filled_from_the_file(attack: Attack, vocabulary: Path, tmp_path: Path) -> None:
    """The attack works: what is refused would have happened."""
    secret = tmp_path / "secret"
    secret.write_text("password\n")
    path = change(vocabulary, tmp_path, attack, str(secret))

    loaded = exporter.load_model(path, safe_mode=False)

    np.testing.assert_array_equal(loaded(tf.constant(["password", "a"]))["place"], [0, -1])


@pytest.mark.parametrize("name", ["/etc/passwd", "../../words.txt", "file:///etc/passwd", "a\0b"])
@pytest.mark.parametrize("kept", ["message", "collection"])
def test_an_asset_outside_of_the_artifact(
    name: str, kept: str, vocabulary: Path, session_graph: Path, tmp_path: Path
) -> None:
    def rename(graph: MetaGraph, canary: str) -> None:
        if kept == "message":
            graph.asset_file_def[0].filename = name
            return
        packed = graph.collection_def["saved_model_assets"].any_list.value[0]
        asset = meta_graph_pb2.AssetFileDef.FromString(packed.value)
        asset.filename = name
        packed.value = asset.SerializeToString()

    path = change(vocabulary if kept == "message" else session_graph, tmp_path, rename, "")

    assert refuse(path) == f"{path / GRAPH} is refused: its asset {name!r} lies outside of the artifact."


def test_a_graph_of_nested_messages(vocabulary: Path, tmp_path: Path) -> None:
    def nest(graph: MetaGraph, canary: str) -> None:
        function = get_function(graph, "inference_find").node_def[0].attr["f"].func
        for _ in range(150):
            function.name = "f"
            function = function.attr["f"].func

    path = change(vocabulary, tmp_path, nest, "")

    assert f"{path / GRAPH} is damaged: it is not a SavedModel of TensorFlow" in refuse(path)


def test_a_collection_that_is_no_message(session_graph: Path, tmp_path: Path) -> None:
    def spoil(graph: MetaGraph, canary: str) -> None:
        graph.collection_def["local_variables"].bytes_list.value[:] = [b"\xff"]

    path = change(session_graph, tmp_path, spoil, "")

    for message in (refuse(path), explain(path / GRAPH)):
        assert message.startswith(f"{path / GRAPH} is damaged: it is not a SavedModel of TensorFlow")


def test_a_file_larger_than_any_graph(vocabulary: Path, tmp_path: Path) -> None:
    path = tmp_path / "graph"
    shutil.copytree(vocabulary, path)
    os.truncate(path / GRAPH, 1 << 40)  # a hole, which takes no place

    for message in (refuse(path), explain(path / GRAPH)):
        assert message == f"{path / GRAPH} is damaged: it is larger than any SavedModel of TensorFlow."


def explain(path: Path) -> str:
    """Returns why a graph is not described."""
    with pytest.raises(ArtifactError) as caught:
        read_graph(path)
    return str(caught.value)


def test_whole_graphs_are_loaded(vocabulary: Path, session_graph: Path, tmp_path: Path) -> None:
    for path in (vocabulary, session_graph):
        outputs = exporter.load_model(path)(tf.constant(["b", "?"]))
        np.testing.assert_array_equal(outputs["place"], [1, -1])
        assert read_graph(path / GRAPH).reaching_out == ()

    again = tf.saved_model.load(str(vocabulary))
    tf.saved_model.save(again, str(tmp_path / "again"), signatures=again.find)  # its functions call one another

    check_graph(tmp_path / "again" / GRAPH)


def judge(registry: Registry, name: str) -> bool:
    """Returns whether an operation is allowed wherever it stands."""
    family = registry.family_of.get(name)
    return family is not None and family.is_allowed and family.name not in (SAVER, TABLE_FILES)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_is_not_in_the_table_is_refused(data: st.DataObject) -> None:
    registry = read_registry()
    names = st.one_of(st.sampled_from(sorted(registry.family_of)), st.text(min_size=1, max_size=20))
    message = saved_model_pb2.SavedModel()
    graph = message.meta_graphs.add().graph_def
    places = [graph.node, *(graph.library.function.add().node_def for _ in range(2))]
    for number, function in enumerate(graph.library.function):
        function.signature.name = f"function {number}"
    drawn = data.draw(st.lists(st.tuples(names, st.integers(0, 2), st.booleans()), max_size=8))
    for number, (name, place, takes_last) in enumerate(drawn):
        inputs = [f"node {number - 1}"] if takes_last else []
        places[place].add(name=f"node {number}", op=name, input=inputs)

    harms = find_harms(SavedModel.FromString(message.SerializeToString()))

    assert {harm.operation for harm in harms} == {name for name, _, _ in drawn if not judge(registry, name)}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_graph_is_judged_or_refused(data: st.DataObject, vocabulary: Path, tmp_path_factory: Any) -> None:
    content = bytearray((vocabulary / GRAPH).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pb"
    path.write_bytes(content)

    for judge_graph in (check_graph, read_graph):
        with suppress(ArtifactError):
            judge_graph(path)
