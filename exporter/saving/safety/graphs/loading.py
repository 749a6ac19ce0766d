"""What of a SavedModel runs while TensorFlow loads it, before anybody calls the model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.saving.layout.messages import AssetFileDef, VariableDef
from exporter.saving.safety.graphs.call_graph import GRAPH, CallGraph, list_inputs, name_node
from exporter.saving.safety.graphs.constants import count_elements, get_attribute, get_size, read_integers
from exporter.typing import messages

INIT_SIGNATURE = "__saved_model_init_op"
_INIT_COLLECTIONS = frozenset({"saved_model_main_op", "legacy_init_op", "table_initializer"})
_LOCAL_VARIABLES = "local_variables"
_ASSETS = "saved_model_assets"

# The children of a resource that make it, fill it and end it.
_RESOURCE_FUNCTIONS = frozenset({"_create_resource", "_destroy_resource", "_initialize"})
# What TensorFlow asks each object while it loads. A child of such a name would be asked instead.
RESERVED = frozenset(
    (
        *("_add_trackable_child", "_add_variable_with_custom_getter", "_checkpoint_adapter"),
        *("_checkpoint_dependencies", "_copy_trackable_to_cpu", "_deferred_dependencies", "_delete_tracking"),
        *("_deserialization_dependencies", "_deserialize_from_proto", "_export_to_saved_model_graph"),
        *("_gather_saveables_for_checkpoint", "_handle_deferred_dependencies", "_lookup_dependency"),
        *("_maybe_initialize_trackable", "_name_based_attribute_restore", "_name_based_restores", "_no_dependency"),
        *("_object_identifier", "_preload_simple_restoration", "_restore_from_tensors", "_serialize_to_proto"),
        *("_serialize_to_tensors", "_setattr_tracking", "_tf_api_names", "_tf_api_names_v1", "_track_trackable"),
        *("_trackable_children", "_unconditional_checkpoint_dependencies", "_unconditional_dependency_names"),
        *("_update_uid", "_destruction_context", "_resource_handle", "_resource_type"),
    )
)

_STRING = 7
# How many bytes one constant may claim, and all that is made while a file is loaded.
MAX_BYTES = 1 << 30
# A bucket of a dense table has a key, a value, and what the table notes of it.
_BUCKET = 32


@dataclass(frozen=True, slots=True)
class Start:
    """What loading runs.

    Attributes:
        nodes: The nodes of the graph, which a reader of TensorFlow 1 runs.
        functions: The functions of the object graph and what the nodes call, with all that those call.
    """

    nodes: frozenset[str]
    functions: frozenset[str]


def find_start(meta_graph: messages.MetaGraphDef, graph: CallGraph) -> Start:
    """Finds what loading runs, for both readers: of the object graph, and of the graph itself.

    Args:
        meta_graph: The message `MetaGraphDef`.
        graph: Its graph.
    """
    heads = find_initializers(meta_graph)
    if meta_graph.saver_def.restore_op_name:
        heads.add(name_node(meta_graph.saver_def.restore_op_name))
    nodes = graph.find_ancestors(GRAPH, heads)
    named = graph.get_nodes(GRAPH)
    functions = {name for node in nodes for name in graph.list_called(named[node])}
    objects = meta_graph.object_graph_def.nodes
    for owner in objects:
        children = [child.node_id for child in owner.children if child.local_name in _RESOURCE_FUNCTIONS]
        for entry in owner.saveable_objects:
            children += [entry.value.save_function, entry.value.restore_function]
        for number in children:
            functions.update(list_concrete(objects, number))
    return Start(frozenset(nodes), frozenset(graph.find_called(functions)))


def find_initializers(meta_graph: messages.MetaGraphDef) -> set[str]:
    """Names the nodes that initialize what is no variable of the checkpoint."""
    heads = []
    for entry in meta_graph.signature_def:
        if entry.key == INIT_SIGNATURE:
            heads += [output.value.name for output in entry.value.outputs]
    for collection in meta_graph.collection_def:
        if collection.key in _INIT_COLLECTIONS:
            heads += collection.value.node_list.value
        elif collection.key == _LOCAL_VARIABLES:
            heads += [VariableDef.FromString(value).initializer_name for value in collection.value.bytes_list.value]
    return set(map(name_node, heads))


def list_assets(meta_graph: messages.MetaGraphDef) -> tuple[list[messages.AssetFileDef], list[messages.AssetFileDef]]:
    """Lists the assets, as messages `AssetFileDef`.

    Returns:
        Those whose names TensorFlow hands to the graph, and those that it passes over: TensorFlow 1 kept them in a
        collection, and this counts only where there are no others.
    """
    own = list(meta_graph.asset_file_def)
    collected = [
        AssetFileDef.FromString(packed.value)
        for entry in meta_graph.collection_def
        if entry.key == _ASSETS
        for packed in entry.value.any_list.value
    ]
    return (own, collected) if own else (collected, [])


def find_endpoints(meta_graph: messages.MetaGraphDef) -> set[str]:
    """Names the nodes whose values endpoints return."""
    return {
        name_node(output.value.name)
        for entry in meta_graph.signature_def
        if entry.key != INIT_SIGNATURE
        for output in entry.value.outputs
    }


def find_fed(meta_graph: messages.MetaGraphDef) -> set[str]:
    """Names the nodes in whose place endpoints take what they are asked."""
    return {name_node(taken.value.name) for entry in meta_graph.signature_def for taken in entry.value.inputs}


def list_concrete(objects: Sequence[messages.SavedGraphObject], number: int) -> list[str]:
    """Returns the functions that an object of the object graph stands for."""
    if not 0 <= number < len(objects):
        return []
    saved = objects[number]
    names = [*saved.function.concrete_functions, saved.bare_concrete_function.concrete_function_name]
    return [name for name in names if name]


def find_usurpers(meta_graph: messages.MetaGraphDef) -> Iterator[tuple[str, str]]:
    """Finds the children that would be called in place of TensorFlow's own methods while it loads.

    Returns:
        The name of the child, and the function that it is, if it is one.
    """
    objects = meta_graph.object_graph_def.nodes
    for owner in objects:
        for child in owner.children:
            names = list_concrete(objects, child.node_id)
            if child.local_name in RESERVED or (owner.HasField("variable") and names):
                yield child.local_name, names[0] if names else ""


def claim_slots(meta_graph: messages.MetaGraphDef) -> int:
    """Returns how many bytes the slots of optimizers claim: TensorFlow fills them with zeros to restore them."""
    objects = meta_graph.object_graph_def.nodes
    numbers = [slot.original_variable_node_id for owner in objects for slot in owner.slot_variables]
    variables = [objects[number].variable for number in numbers if 0 <= number < len(objects)]
    return sum(get_size(each.dtype) * count_elements(each.shape) for each in variables)


def count_bytes(node: messages.NodeDef, graph: CallGraph, body: str) -> int | None:
    """Counts what a node makes while the file is loaded.

    Returns:
        The bytes, 0 for what only passes on; None if it cannot be told.
    """
    if node.op == "Const":
        return claim_constant(node)
    if node.op not in _COUNTED:
        return 0
    nodes = graph.get_nodes(body)
    inputs = [nodes.get(name_node(each)) for each in list_inputs(node)]
    kind = get_attribute(node, "T")
    if node.op == "Fill":
        sizes = read_integers(inputs[0]) if inputs else None
        value = inputs[1] if len(inputs) > 1 else None
        if sizes is None or value is None or kind is None or kind.type == _STRING:
            return None
        return get_size(kind.type) * math.prod(max(size, 0) for size in sizes)
    if node.op == "Range":
        read = [read_integers(each) for each in inputs]
        if len(read) != 3 or any(each is None or len(each) != 1 for each in read):
            return None
        (start,), (limit,), (step,) = (each or [] for each in read)
        return 8 * (abs(limit - start) // max(abs(step), 1) + 1)
    if node.op in _ADDING:  # of a text to the name of a table
        added = [each for each in inputs if each is not None and each.op == "Const" and claim_count(each) == 1]
        return 0 if kind is not None and kind.type == _STRING and added else None
    buckets, shape = get_attribute(node, "initial_num_buckets"), get_attribute(node, "value_shape")
    return _BUCKET * max(buckets.i if buckets else 0, 0) * (count_elements(shape.shape) if shape else 1)


_ADDING = frozenset({"Add", "AddV2"})
_DENSE = frozenset({"MutableDenseHashTable", "MutableDenseHashTableV2", "AnonymousMutableDenseHashTable"})
_COUNTED = frozenset({"Fill", "Range", *_ADDING, *_DENSE})


def claim_constant(node: messages.NodeDef) -> int:
    """Returns how many bytes a constant claims: a file may hold one number for all of them."""
    value = get_attribute(node, "value")
    return claim_count(node) * get_size(value.tensor.dtype) if value is not None else 0


def claim_count(node: messages.NodeDef) -> int:
    """Returns how many elements a constant claims."""
    value = get_attribute(node, "value")
    return count_elements(value.tensor.tensor_shape) if value is not None else 0
