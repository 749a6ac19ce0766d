"""The calls in a graph of layers: Keras 1 and 2 name each tensor as `[layer, node, tensor, arguments]`.

The arguments of the call stand behind every tensor of the first one (keras/engine/node.py of Keras 2). Keras 3 has
`{"args": [...], "kwargs": {...}}`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from exporter.errors import ArtifactError
from exporter.typing.structures import Config

_CONSTANT = "_CONSTANT_VALUE"
_RECURRENT = {"RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Bidirectional"}

Call = tuple[list[Any], Config]


class Graph:
    """The layers of one model by name, and how their nodes are counted.

    Attributes:
        names: Today's name of each layer.
    """

    def __init__(self, layers: list[Config], names: Mapping[str, str]) -> None:
        self.names = names
        self._first_node = {}
        used: dict[str, set[int]] = {}
        for tensor in _list_tensors([layer.get("inbound_nodes") for layer in layers], names):
            used.setdefault(tensor[0], set()).add(tensor[1])
        for layer in layers:
            name, calls = layer["name"], layer.get("inbound_nodes")
            count = len(calls) if isinstance(calls, list) else 0
            if "layers" in _settings(layer) or isinstance(layer.get("config"), list):
                self._first_node[name] = _find_first_node(layer, used.get(name, set()), count)

    def find_tensor(self, tensor: list[Any]) -> Config:
        """Returns a tensor as Keras 3 names it."""
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None], "dtype": "float32", "keras_history": self.find_place(tensor)},
        }

    def find_place(self, tensor: list[Any]) -> list[Any]:
        """Returns layer, node and number of a tensor as Keras 3 counts them."""
        name, node, number = tensor[:3]
        return [self.names[name], max(0, node - self._first_node.get(name, 0)), number]

    def is_tensor(self, value: Any) -> bool:
        """Tells whether something in an argument names a tensor."""
        return _is_tensor(value, self.names)

    def translate_value(self, value: Any) -> Any:
        """Puts today's names of tensors into an argument of any structure."""
        if self.is_tensor(value):
            return self.find_tensor(value)
        if isinstance(value, dict):
            return {key: self.translate_value(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self.translate_value(child) for child in value]
        return value


def _settings(layer: Config) -> Config:
    inner = layer.get("config")
    return inner if isinstance(inner, dict) else {}


def _is_tensor(value: Any, names: Mapping[str, str]) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] in names
        and all(isinstance(number, int) and not isinstance(number, bool) for number in value[1:3])
        and isinstance(value[3] if len(value) == 4 else {}, dict)
    )


def _list_tensors(value: Any, names: Mapping[str, str]) -> Iterator[list[Any]]:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if _is_tensor(node, names):
            yield node
            waiting += node[3:]
        elif isinstance(node, dict):
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _find_first_node(layer: Config, used: set[int], count: int) -> int:
    """Tells whether a model inside counts its own graph as its first node: all do but a Sequential without an input."""
    if used and max(used) >= count:
        return 1
    if 0 in used:
        return 0
    layers = _settings(layer).get("layers", layer.get("config"))
    if layer.get("class_name") != "Sequential":
        return 1
    first = layers[0] if isinstance(layers, list) and layers and isinstance(layers[0], dict) else {}
    return int(first.get("class_name") == "InputLayer" or "batch_input_shape" in _settings(first))


def read_call(graph: Graph, node: Any, keeps_structure: bool) -> tuple[Any, Config]:
    """Reads one call as older Keras wrote it.

    Args:
        graph: Where the tensors are from.
        node: The entry in `inbound_nodes`.
        keeps_structure: Whether a list of one tensor is a list, and no lone tensor.

    Returns:
        The first argument, with today's tensors, and the others by name, as they were written.
    """
    others: Config = {}

    def read(value: Any) -> Any:
        if isinstance(value, list) and len(value) in (3, 4) and value[:1] == [_CONSTANT]:
            others.update(value[3] if len(value) == 4 else {})
            return value[2]
        if graph.is_tensor(value):
            others.update(value[3] if len(value) == 4 else {})
            return graph.find_tensor(value)
        if isinstance(value, list):
            return [read(child) for child in value]
        if isinstance(value, dict):
            return {key: read(child) for key, child in value.items()}
        raise ArtifactError(f"The configuration is damaged: {str(node)[:80]!r} names no tensor of the model.")

    first = read(node)
    if not keeps_structure and isinstance(first, list) and len(first) == 1:
        first = first[0]
    return first, others


def translate_call(graph: Graph, node: Any, class_name: str) -> Config:
    """Translates one call of a layer."""
    if isinstance(node, dict) and {"args", "kwargs"} <= set(node):
        return _translate_call_of_today(graph, node)
    first, others = read_call(graph, node, keeps_structure=False)
    arguments = {key: graph.translate_value(value) for key, value in others.items()}
    if class_name in _RECURRENT and isinstance(first, list) and len(first) > 1:
        # A recurrent layer was called with a list of the input and its states.
        first, *states = first
        arguments["initial_state"] = states
    return {"args": [first], "kwargs": arguments}


def _translate_call_of_today(graph: Graph, node: Config) -> Config:
    if all(name == ours for name, ours in graph.names.items()):
        return node

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            renamed = {key: rename(child) for key, child in value.items()}
            history = renamed.get("keras_history")
            if isinstance(history, list) and history and isinstance(history[0], str):
                renamed["keras_history"] = [graph.names.get(history[0], history[0]), *history[1:]]
            return renamed
        return [rename(child) for child in value] if isinstance(value, list) else value

    return {key: rename(value) for key, value in node.items()}


def translate_ends(graph: Graph, ends: Any, functional: Callable[[str], bool]) -> Any:
    """Translates the inputs or outputs of a model; a list of one is that one.

    Args:
        graph: The layers.
        ends: What the model lists.
        functional: Tells of a layer's name whether Keras counts its outputs from one, as a Functional model's.
    """

    def read(value: Any) -> Any:
        if graph.is_tensor(value):
            name, node, number = graph.find_place(value)
            return [name, node + int(functional(value[0])), number]
        if isinstance(value, list):
            return [read(child) for child in value]
        if isinstance(value, dict):
            return {key: read(child) for key, child in value.items()}
        raise ArtifactError("The configuration is damaged: the model's inputs or outputs name no tensor of it.")

    found = read(ends)
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        return found[0]
    return found
