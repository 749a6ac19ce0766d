"""Names inside a SavedModel's graph that do not depend on what the process did before.

TensorFlow numbers functions, custom gradients and restored resources with counters of the process, so the same model
gives other bytes in a second save. Here they are numbered anew, in the order in which the graph refers to them. What a
name says besides its number stays: TensorFlow reads `__inference_<name>_<number>`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

from tensorflow.core.framework import attr_value_pb2, function_pb2, graph_debug_info_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from exporter.typing.messages import Message

_NUMBER = re.compile(r"[_-](\d+)$")
# The shared name of a table, and what `tf.saved_model.load` appends to that of any resource. That of a table from a
# file has the file's path in it, and that of one from arrays may be random.
_RESOURCE = re.compile(rb"(^|^table_|_load_)\d+(?:_\d+)?(?=$|_load_)|^(hash_table_).+?(?=$|_load_\d)", re.DOTALL)
# The nodes of a table's initializer, and of what a loop does not use, are called by the number of their function.
_LOCAL = re.compile(r"(?<=key_value_init)\d+|(?<=text_file_init)\d+|_\d+(?=___redundant_placeholder)")
_FUNCTION_ATTRIBUTES = ("forward_function_name", "backward_function_name")  # with the name of a function as text
_GRADIENT = "_gradient_op_type"
_SHARED = "shared_name"
_GIVEN = "_user_specified_name"

_Attributes = MutableMapping[str, attr_value_pb2.AttrValue]


def canonicalize_names(
    meta_graph: meta_graph_pb2.MetaGraphDef, debug_info: graph_debug_info_pb2.GraphDebugInfo | None = None
) -> None:
    """Numbers functions, gradients and resources anew.

    Args:
        meta_graph: The graph with its functions and its objects; it is changed.
        debug_info: The stack traces of its nodes if there are any; they are renamed and put in order.
    """
    names = _Names(meta_graph)
    _rename_graph(meta_graph, names)
    _rename_objects(meta_graph, names.functions)
    if debug_info is not None:
        ordered = _order_debug_info(debug_info, names)
        debug_info.CopyFrom(ordered)


def _order_debug_info(
    debug_info: graph_debug_info_pb2.GraphDebugInfo, names: "_Names"
) -> graph_debug_info_pb2.GraphDebugInfo:
    """Orders files, the frames in them, the traces of frames and the trace of each `<node>@<function>` by content."""
    ordered = graph_debug_info_pb2.GraphDebugInfo(files=sorted(debug_info.files))
    places = {name: place for place, name in enumerate(ordered.files)}
    frames = {}
    for identity, frame in debug_info.frames_by_id.items():
        frames[identity] = type(frame)()
        frames[identity].CopyFrom(frame)
        frames[identity].file_index = places[debug_info.files[frame.file_index]]
    frame_places = _number_by_content(frames)
    for identity, place in frame_places.items():
        ordered.frames_by_id[place].CopyFrom(frames[identity])
    traces = {}
    for identity, trace in debug_info.traces_by_id.items():
        traces[identity] = type(trace)(frame_id=[frame_places[number] for number in trace.frame_id])
    trace_places = _number_by_content(traces)
    for identity, place in trace_places.items():
        ordered.traces_by_id[place].CopyFrom(traces[identity])
    captured: Counter[str] = Counter()
    for key in sorted(debug_info.name_to_trace_id, key=lambda key: (len(key), key)):
        node, at, function = key.rpartition("@")
        if node.isdigit():  # what a function captures is called by a number of the process
            captured[function] += 1
            node = f"captured_{captured[function]}"
        name = f"{names.rename_local(node)}{at}{names.functions.get(function, function)}"
        ordered.name_to_trace_id[name] = trace_places[debug_info.name_to_trace_id[key]]
    return ordered


def _number_by_content(messages: Mapping[int, Message]) -> dict[int, int]:
    content = {identity: message.SerializeToString(deterministic=True) for identity, message in messages.items()}
    places = {value: place for place, value in enumerate(sorted(set(content.values())))}
    return {identity: places[value] for identity, value in content.items()}


class _Names:
    """The new names, given out in the order in which the old ones are met.

    Attributes:
        functions: Old name -> new name.
        gradients: The registered type of a gradient, old -> new.
    """

    def __init__(self, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
        library = meta_graph.graph_def.library
        self.functions: dict[str, str] = {}
        self.gradients: dict[bytes, bytes] = {}
        self._resources: dict[bytes, bytes] = {}
        self._locals: dict[str, str] = {}
        self._library = {function.signature.name: function for function in library.function}
        self._registered = {
            registered.registered_op_type.encode(): registered.gradient_func
            for registered in library.registered_gradients
        }
        for node in meta_graph.graph_def.node:
            self._meet(self._find_references(node))
        for saved in meta_graph.object_graph_def.nodes:
            self._meet(saved.function.concrete_functions)
            self._meet([saved.bare_concrete_function.concrete_function_name, saved.captured_tensor.concrete_function])
        self._meet(sorted(self._library, key=_find_number))

    def rename_resource(self, name: bytes) -> bytes:
        """Numbers the shared name of a resource."""

        def number(match: re.Match[bytes]) -> bytes:
            return self._resources.setdefault(match[0], b"%s%d" % (match[1] or match[2] or b"", len(self._resources)))

        return _RESOURCE.sub(number, name)

    def rename_local(self, name: str) -> str:
        """Numbers a node or an argument of a function that is called by a number of the process."""
        return _LOCAL.sub(lambda match: self._locals.setdefault(match[0], f"_{len(self._locals)}"), name)

    def _meet(self, names: Sequence[str]) -> None:
        """Gives functions their names, and those that they call theirs, the first one first."""
        pending = list(reversed(names))
        while pending:
            name = pending.pop()
            function = self._library.get(name)
            if function is None or name in self.functions:
                continue
            self.functions[name] = f"{_NUMBER.sub('', name)}_{len(self.functions)}"
            found = [function.attr[key].s.decode() for key in _FUNCTION_ATTRIBUTES if key in function.attr]
            for node in function.node_def:
                found += self._find_references(node)
            pending += reversed(found)

    def _find_references(self, node: node_def_pb2.NodeDef) -> list[str]:
        found = [node.op] if node.op in self._library else []
        for key in sorted(node.attr):
            found += [call.name for call in _list_calls(node.attr[key])]
        if _GRADIENT in node.attr:
            kind = node.attr[_GRADIENT].s
            base = _NUMBER.sub("", kind.decode())
            self.gradients.setdefault(kind, f"{base}-{len(self.gradients)}".encode())
            if kind in self._registered:
                found.append(self._registered[kind])
        return found


def _find_number(name: str) -> int:
    """Returns when TensorFlow made a function, which is the only order of those that nothing refers to."""
    match = _NUMBER.search(name)
    return int(match[1]) if match else 0


def _rename_graph(meta_graph: meta_graph_pb2.MetaGraphDef, names: _Names) -> None:
    graph, functions = meta_graph.graph_def, names.functions
    library = graph.library
    for node in graph.node:
        _rename_node(node, names)
    for function in library.function:
        function.signature.name = functions[function.signature.name]
        _rename_attributes(function.attr, names)
        _rename_locals(function, names)
        for node in function.node_def:
            _rename_node(node, names)
    for registered in library.registered_gradients:
        kind = registered.registered_op_type.encode()
        registered.gradient_func = functions.get(registered.gradient_func, registered.gradient_func)
        registered.registered_op_type = names.gradients.get(kind, kind).decode()
    library.function.sort(key=lambda function: function.signature.name)
    library.registered_gradients.sort(key=lambda registered: registered.gradient_func)


def _rename_locals(function: function_pb2.FunctionDef, names: _Names) -> None:
    """Renames what a function captures, and the nodes that are called by a number of the process."""
    signature = function.signature
    taken = {node.name for node in function.node_def} | {argument.name for argument in signature.input_arg}
    renamed: dict[str, str] = {}
    for place, argument in enumerate(signature.input_arg):
        attributes = function.arg_attr[place].attr if place in function.arg_attr else {}
        if _GIVEN in attributes and attributes[_GIVEN].s.isdigit():
            attributes[_GIVEN].s = str(place).encode()
        new = names.rename_local(argument.name)
        if _NUMBER.search(new):
            new = _NUMBER.sub(f"_{place}", new)
            while new in taken and new != argument.name:
                new = f"{new}_{place}"
        taken.add(new)
        renamed[argument.name] = new
        argument.name = new

    def rename(source: str) -> str:
        return renamed.get(source) or names.rename_local(source)

    for node in function.node_def:
        node.name = names.rename_local(node.name)
        node.input[:] = map(rename, node.input)
    for results in (function.ret, function.control_ret):
        for name, source in list(results.items()):
            results[name] = rename(source)
    if function.control_ret:
        signature.control_output[:] = map(names.rename_local, signature.control_output)
        controls = {names.rename_local(name): source for name, source in function.control_ret.items()}
        function.control_ret.clear()
        function.control_ret.update(controls)


def _rename_node(node: node_def_pb2.NodeDef, names: _Names) -> None:
    node.op = names.functions.get(node.op, node.op)
    _rename_attributes(node.attr, names)


def _rename_attributes(attributes: _Attributes, names: _Names) -> None:
    for value in attributes.values():
        for call in _list_calls(value):
            call.name = names.functions.get(call.name, call.name)
    for key in _FUNCTION_ATTRIBUTES:
        if key in attributes:
            name = attributes[key].s.decode()
            attributes[key].s = names.functions.get(name, name).encode()
    if _GRADIENT in attributes:
        attributes[_GRADIENT].s = names.gradients.get(attributes[_GRADIENT].s, attributes[_GRADIENT].s)
    if _SHARED in attributes:
        attributes[_SHARED].s = names.rename_resource(attributes[_SHARED].s)


def _list_calls(value: attr_value_pb2.AttrValue) -> Iterator[attr_value_pb2.NameAttrList]:
    kind = value.WhichOneof("value")
    if kind == "func":
        yield value.func
    elif kind == "list":
        yield from value.list.func


def _rename_objects(meta_graph: meta_graph_pb2.MetaGraphDef, functions: Mapping[str, str]) -> None:
    objects = meta_graph.object_graph_def
    for saved in objects.nodes:
        if saved.HasField("function"):
            saved.function.concrete_functions[:] = [functions[name] for name in saved.function.concrete_functions]
        elif saved.HasField("bare_concrete_function"):
            bare = saved.bare_concrete_function
            bare.concrete_function_name = functions[bare.concrete_function_name]
        elif saved.HasField("captured_tensor"):
            captured = saved.captured_tensor
            captured.concrete_function = functions[captured.concrete_function]
    described = type(objects)()
    for name, concrete in objects.concrete_functions.items():
        described.concrete_functions[functions[name]].CopyFrom(concrete)
    objects.concrete_functions.clear()
    objects.MergeFrom(described)
    aliases = {functions.get(name, name): alias for name, alias in meta_graph.meta_info_def.function_aliases.items()}
    meta_graph.meta_info_def.function_aliases.clear()
    meta_graph.meta_info_def.function_aliases.update(aliases)
