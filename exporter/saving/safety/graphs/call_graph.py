"""The graph of a SavedModel and its functions, and which of them calls which, without TensorFlow."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.saving.safety.graphs.constants import get_attribute
from exporter.typing.messages import AttrEntry, GraphDef, NodeDef

# The body that is no function: the graph itself.
GRAPH = ""

# These hand their inputs to the function of `f` one by one.
_PLAIN_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


@dataclass(frozen=True, slots=True)
class Call:
    """One place in which a function is named.

    Attributes:
        body: Where it is.
        node: The name of the node.
        passed: What it passes to the function's arguments, one by one; nothing where that cannot be told.
    """

    body: str
    node: str
    passed: Sequence[str]


@dataclass(slots=True)
class CallGraph:
    """The nodes by body, and the calls between the bodies.

    Attributes:
        bodies: The nodes of the graph and of each function.
        arguments: The place of each function's arguments; none where one of them may stand for several inputs.
        repeated: Names of functions, and of nodes in their body, that stand twice: `(body, name)`.
        calls: The functions that each body calls, once for every call.
        callers: Where each function is named.
    """

    bodies: dict[str, Sequence[NodeDef]]
    arguments: dict[str, dict[str, int]]
    repeated: list[tuple[str, str]] = field(default_factory=list)
    calls: dict[str, list[str]] = field(default_factory=dict)
    callers: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    _nodes: dict[str, Mapping[str, NodeDef]] = field(default_factory=dict)
    _users: defaultdict[str, list[str]] | None = None
    _variables: Counter[bytes] | None = None

    @classmethod
    def read(cls, graph: GraphDef) -> "CallGraph":
        """Reads a message `GraphDef`."""
        read = cls({GRAPH: graph.node}, {GRAPH: {}})
        for function in graph.library.function:
            name = function.signature.name
            if name in read.bodies:
                read.repeated.append((GRAPH, name))
            arguments = function.signature.input_arg
            several = any(each.number_attr or each.type_list_attr for each in arguments)
            read.bodies[name] = function.node_def
            read.arguments[name] = {} if several else {each.name: place for place, each in enumerate(arguments)}
        for body, nodes in read.bodies.items():
            read.calls[body] = [name for node in nodes for name in read._note_calls(body, node)]
            read._nodes[body] = {node.name: node for node in nodes}
            if len(read._nodes[body]) < len(nodes):
                counted = Counter(node.name for node in nodes)
                read.repeated += [(body, name) for name, count in counted.items() if count > 1]
        return read

    def _note_calls(self, body: str, node: NodeDef) -> Iterator[str]:
        if node.op in self.bodies:  # the name of a function may stand for the operation
            self.callers[node.op].append(Call(body, node.name, list(map(name_node, list_inputs(node)))))
            yield node.op
        for key, name in _list_functions(node.attr):
            is_plain = key == "f" and node.op in _PLAIN_CALLS
            passed = list(map(name_node, list_inputs(node))) if is_plain else []
            self.callers[name].append(Call(body, node.name, passed))
            if name in self.bodies:
                yield name

    def list_called(self, node: NodeDef) -> list[str]:
        """Returns the functions that a node names, once for every time."""
        named = [node.op, *(name for _, name in _list_functions(node.attr))]
        return [name for name in named if name in self.bodies]

    def get_nodes(self, body: str) -> Mapping[str, NodeDef]:
        """Returns the nodes of a body by name."""
        return self._nodes[body]

    def find_ancestors(self, body: str, heads: Iterable[str]) -> set[str]:
        """Names the nodes of a body that run before some nodes can, and those nodes."""
        nodes, found, waiting = self.get_nodes(body), set(), list(heads)
        while waiting:
            name = waiting.pop()
            if name in nodes and name not in found:
                found.add(name)
                waiting += map(name_node, nodes[name].input)
        return found

    def find_called(self, functions: Iterable[str]) -> set[str]:
        """Names functions and what they call."""
        found, waiting = set(), list(functions)
        while waiting:
            name = waiting.pop()
            if name in self.bodies and name not in found:
                found.add(name)
                waiting += self.calls[name]
        return found

    def find_users(self) -> Mapping[str, list[str]]:
        """Names the nodes of the graph that take each of its nodes."""
        if self._users is None:
            self._users = defaultdict(list)
            for node in self.bodies[GRAPH]:
                for name in set(map(name_node, list_inputs(node))):
                    self._users[name].append(node.name)
        return self._users

    def count_variables(self) -> Counter[bytes]:
        """Counts the handles of each variable, in all bodies."""
        if self._variables is None:
            handles = (node for nodes in self.bodies.values() for node in nodes if node.op == "VarHandleOp")
            self._variables = Counter(map(name_variable, handles))
        return self._variables

    def order(self) -> tuple[list[str], list[str]]:
        """Puts the bodies in order.

        Returns:
            Every body after what it calls, and the functions that call themselves.
        """
        ordered, recursive = [], []
        done: dict[str, bool] = {}
        for start in self.bodies:
            stack = [(start, iter(self.calls[start]))] if start not in done else []
            done.setdefault(start, False)
            while stack:
                body, waiting = stack[-1]
                for name in waiting:
                    if name not in done:
                        done[name] = False
                        stack.append((name, iter(self.calls[name])))
                        break
                    if not done[name]:
                        recursive.append(name)
                else:
                    done[body] = True
                    ordered.append(body)
                    stack.pop()
        return ordered, list(dict.fromkeys(recursive))


def name_variable(node: NodeDef) -> bytes:
    """Returns the name under which a handle finds its variable."""
    shared = get_attribute(node, "shared_name")
    return shared.s if shared is not None and shared.s else str(node.name).encode()


def name_node(tensor: str) -> str:
    """Returns the name of the node, or of the argument, that an input names."""
    return tensor.removeprefix("^").partition(":")[0]


def list_inputs(node: NodeDef) -> list[str]:
    """Returns the inputs of a node that are tensors."""
    return [name for name in node.input if not name.startswith("^")]


def _list_functions(attributes: Sequence[AttrEntry]) -> Iterator[tuple[str, str]]:
    """Gives every function that attributes name, also those inside of others, with the name of the attribute."""
    waiting = [(entry.key, entry.value) for entry in attributes]
    while waiting:
        key, value = waiting.pop()
        named = [value.func] if value.HasField("func") else []
        named += value.list.func if value.HasField("list") else []
        for function in named:
            yield key, function.name
            waiting += [("", entry.value) for entry in function.attr]
