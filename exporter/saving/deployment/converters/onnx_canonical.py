"""One computation, one sequence of bytes: what is left of an ONNX model when names, order and leftovers are taken away.

tf2onnx counts names over the whole process, and leaves behind what its optimizers no longer use.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import onnx

from exporter.processes.arrays import find_dtype
from exporter.saving.contents import Endpoint, Tensor
from exporter.saving.deployment.runtimes.onnx_files import list_bodies, list_graphs


def canonicalize(model: Any, name: str, endpoint: Endpoint, names: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """Returns a model with names by position, in an order that its outputs decide, and with nothing else in it.

    Args:
        model: The model, which is left alone.
        name: What its graph is to be called.
        endpoint: What it takes and returns.
        names: What the model calls each input and each output of the endpoint.

    Returns:
        The new model, and for each of its operations the name that it had.
    """
    graph = onnx.GraphProto(name=name)
    writer = _Writer([*endpoint.inputs, *endpoint.outputs])
    body = _Body(model.graph, [names[each] for each in endpoint.outputs])
    writer.write(body, graph, {names[each]: each for each in endpoint.inputs}, list(endpoint.outputs))
    graph.input.extend(_describe(each, tensor) for each, tensor in endpoint.inputs.items())
    graph.output.extend(_describe(each, tensor) for each, tensor in endpoint.outputs.items())
    used = {"", *(node.domain for node in chain(*(each.node for each in list_graphs(graph))))}
    versions = {each.domain: each.version for each in model.opset_import if each.domain in used}
    opsets = [onnx.helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions)]
    return onnx.ModelProto(ir_version=model.ir_version, opset_import=opsets, graph=graph), writer.former


def _sort(attributes: Iterable[Any]) -> list[Any]:
    return sorted(attributes, key=lambda attribute: str(attribute.name))


def _describe(name: str, tensor: Tensor) -> Any:
    """Describes an input or an output; a dimension that may vary is called by what it is of."""
    kind = onnx.TensorProto.STRING
    if tensor.dtype != "string":
        kind = onnx.helper.np_dtype_to_tensor_dtype(find_dtype(tensor.dtype))
    if tensor.shape is None:
        return onnx.helper.make_tensor_value_info(name, kind, None)
    free = ["batch", *(f"{name}_dim_{axis}" for axis in range(1, len(tensor.shape)))]
    sizes = [free[axis] if size is None else size for axis, size in enumerate(tensor.shape)]
    return onnx.helper.make_tensor_value_info(name, kind, sizes)


def _rename_value(value: Any, name: str) -> Any:
    """Describes an input or output of an inner graph, whose dimensions that may vary have a number of chance."""
    renamed = onnx.ValueInfoProto(name=name, type=value.type)
    for size in renamed.type.tensor_type.shape.dim:
        size.ClearField("dim_param")
    return renamed


def _strip(tensor: Any) -> Any:
    """Returns a tensor without a name, its numbers as bytes."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, string_data=tensor.string_data)
    if tensor.HasField("raw_data"):
        return onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=tensor.raw_data)
    return onnx.numpy_helper.from_array(np.asarray(onnx.numpy_helper.to_array(tensor)))


class _Body:
    """A graph, and how what it computes hangs together, without the operations that only give a name.

    Attributes:
        graph: The graph.
        outputs: The names of what it returns.
        constants: Its constants by name.
        made: The names of what its operations return.
        nodes: The operations that the outputs need, each after those that it needs.
        inner: For each of them the graphs inside of it, in the order of the names of their attributes.
        free: The names that come from around it, in the order of their first use.
    """

    def __init__(self, graph: Any, outputs: list[str] | None = None) -> None:
        self.graph = graph
        self._alias = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
        self.outputs = [self.resolve(name) for name in outputs or [each.name for each in graph.output]]
        self.constants = {each.name: each for each in graph.initializer}
        nodes = [node for node in graph.node if node.op_type != "Identity"]
        inner = [[_Body(body) for each in _sort(node.attribute) for body in list_bodies(each)] for node in nodes]
        maker = {name: number for number, node in enumerate(nodes) for name in node.output if name}
        used = [self.list_used(node, bodies) for node, bodies in zip(nodes, inner, strict=True)]
        order = _find_order(self.outputs, maker, used)
        self.made = maker.keys()
        self.nodes = [nodes[number] for number in order]
        self.inner = [inner[number] for number in order]
        own = {*maker, *self.constants, *(each.name for each in graph.input)}
        wanted = chain(*(used[number] for number in order), self.outputs)
        self.free = [name for name in dict.fromkeys(wanted) if name not in own]

    def resolve(self, name: str) -> str:
        """Returns the first name of a tensor."""
        while name in self._alias:
            name = self._alias[name]
        return name

    def list_used(self, node: Any, inner: "Iterable[_Body]") -> list[str]:
        """Lists what an operation and the graphs inside of it take from around it."""
        return [self.resolve(name) for name in chain(node.input, *(body.free for body in inner)) if name]


def _find_order(outputs: Sequence[str], maker: Mapping[str, int], used: Sequence[Sequence[str]]) -> list[int]:
    """Goes from the outputs to what they need; without recursion, for a graph is as deep as it likes."""
    order: list[int] = []
    seen: set[int] = set()
    waiting = [(name, False) for name in reversed(outputs)]
    while waiting:
        name, is_complete = waiting.pop()
        number = maker.get(name)
        if number is None:
            continue
        if is_complete:
            order.append(number)
        elif number not in seen:
            seen.add(number)
            waiting.append((name, True))
            waiting.extend((each, False) for each in reversed(used[number]))
    return order


class _Writer:
    """Writes graphs with new names, none of which is there twice.

    Attributes:
        former: For each operation that was written the name that it had.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.former: dict[str, str] = {}
        self._taken = set(taken)

    def write(self, body: _Body, target: Any, known: dict[str, str], outputs: Sequence[str], prefix: str = "") -> None:
        """Writes the operations and the constants of a graph.

        Args:
            body: The graph.
            target: Where to.
            known: The new names of what it takes, also from around it; those of what it makes are added.
            outputs: The new names of what it returns.
            prefix: What the name of each operation begins with.
        """
        copied: list[tuple[str, str]] = []
        for former, name in zip(body.outputs, outputs, strict=True):
            if former in body.made and former not in known:
                known[former] = name
            else:  # an input, a constant, something from around it, or what another output is as well
                copied.append((former, name))
        constants: dict[bytes, str] = {}
        for node, inner in zip(body.nodes, body.inner, strict=True):
            new = target.node.add(op_type=node.op_type, domain=node.domain)
            new.name = f"{prefix}{node.op_type}_{len(target.node) - 1}"
            self.former[new.name] = node.name
            for position, name in enumerate(body.list_used(node, inner)):
                if name not in known:
                    known[name] = self._write_constant(
                        body.constants[name], target, constants, f"{new.name}.{position}"
                    )
            new.input.extend(name and known[body.resolve(name)] for name in node.input)
            for position, name in enumerate(node.output):
                if name and name not in known:
                    known[name] = self._make_name(f"{new.name}:{position}" if len(node.output) > 1 else new.name)
            new.output.extend(name and known[name] for name in node.output)
            bodies = iter(inner)
            for attribute in _sort(node.attribute):
                self._write_attribute(attribute, new, body, bodies, known)
            _sort_table(new)
        for former, name in copied:
            if former not in known:
                known[former] = self._write_constant(body.constants[former], target, constants, f"{name}.0")
            place = f"{prefix}Identity_{len(target.node)}"
            target.node.append(onnx.helper.make_node("Identity", [known[former]], [name], place))

    def _write_attribute(
        self, attribute: Any, node: Any, body: _Body, bodies: Iterator[_Body], known: Mapping[str, str]
    ) -> None:
        new = node.attribute.add(name=attribute.name, type=attribute.type)
        if not list_bodies(attribute):
            new.CopyFrom(attribute)
            new.ClearField("doc_string")
            if attribute.HasField("t"):
                new.t.CopyFrom(_strip(attribute.t))
            return
        places = [*([new.g] if attribute.HasField("g") else []), *(new.graphs.add() for _ in attribute.graphs)]
        for number, place in enumerate(places):
            inner = next(bodies)
            place.name = f"{node.name}/{attribute.name}{number or ''}"
            inputs = [self._make_name(f"{place.name}.{position}") for position in range(len(inner.graph.input))]
            outputs = [self._make_name(f"{place.name}:{position}") for position in range(len(inner.outputs))]
            around = {name: known[body.resolve(name)] for name in inner.free}
            own = dict(zip((each.name for each in inner.graph.input), inputs, strict=True))
            self.write(inner, place, around | own, outputs, f"{place.name}/")
            place.input.extend(map(_rename_value, inner.graph.input, inputs))
            place.output.extend(map(_rename_value, inner.graph.output, outputs))

    def _write_constant(self, constant: Any, target: Any, written: dict[bytes, str], name: str) -> str:
        """Writes a constant, unless an equal one is there already, and returns its name."""
        new = _strip(constant)
        content = new.SerializeToString(deterministic=True)
        if content not in written:
            written[content] = new.name = self._make_name(name)
            target.initializer.append(new)
        return written[content]

    def _make_name(self, wanted: str) -> str:
        names = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
        name = next(each for each in names if each not in self._taken)
        self._taken.add(name)
        return name


def _sort_table(node: Any) -> None:
    """Sorts the words of a table, which TensorFlow gives in an order of chance."""
    if node.op_type != "CategoryMapper":
        return
    numbers, words = (next(each for each in node.attribute if each.name == name) for name in _TABLE)
    pairs = sorted(zip(words.strings, numbers.ints, strict=True))
    words.strings[:], numbers.ints[:] = zip(*pairs, strict=True)


_TABLE = ("cats_int64s", "cats_strings")
