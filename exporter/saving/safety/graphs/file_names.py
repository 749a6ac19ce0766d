"""Where the name of a file in a graph comes from, followed from the operation that opens it to whoever gives it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.saving.safety.graphs.call_graph import GRAPH, CallGraph, list_inputs, name_node, name_variable
from exporter.saving.safety.graphs.constants import read_strings
from exporter.typing.messages import NodeDef

_ASKING = frozenset({"ReadVariableOp", "VarIsInitializedOp"})
_CHOOSING = frozenset({"Select", "SelectV2"})

# The body that something is in, and its name there: a node, or an argument.
_Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Callers:
    """Who runs the functions and nodes of a graph, beside the graph itself.

    Attributes:
        listed: The functions of the object graph, which may be called with anything.
        hidden: The functions that are called in ways which the graph does not show, such as gradients.
        served: The nodes of the graph that an endpoint runs.
        fed: The nodes of the graph in whose place an endpoint takes what it is asked.
    """

    listed: Collection[str]
    hidden: Collection[str]
    served: Collection[str]
    fed: Collection[str]


@dataclass(slots=True)
class Source:
    """Those who may name a file, and what they name.

    Attributes:
        graph: The graph.
        callers: Who runs it.
        nodes: The nodes of the graph that whoever runs it gives the name to.
        bound: For each function of the object graph, whether what it captures is an asset, one by one.
        may_add: Whether the graph may add an ending, as a saver does for its parts.
        may_be_served: Whether an endpoint may use the name, unless it takes it from whoever asks.
    """

    graph: CallGraph
    callers: Callers
    nodes: Collection[str]
    bound: Mapping[str, Sequence[bool]]
    may_add: bool
    may_be_served: bool
    # What has been followed; a name that is being followed comes from nowhere if it leads back to itself.
    _known: dict[_Place, bool] = field(default_factory=dict)

    def gives(self, body: str, tensor: str) -> bool:
        """Tells whether a name comes from here, whichever way the graph is run.

        Args:
            body: The function in which the name is used, or `GRAPH`.
            tensor: The input that has the name.
        """
        start = (body, name_node(tensor))
        stack = [] if start in self._known else [self._enter(start)]
        while stack:
            place, givers = stack[-1]
            while givers and self._known.get(givers[-1]):
                givers.pop()
            if not givers:
                self._known[place] = True
            elif givers[-1] in self._known:
                self._known[place] = False
            else:
                stack.append(self._enter(givers[-1]))
                continue
            stack.pop()
        return self._known[start]

    def _enter(self, place: _Place) -> tuple[_Place, list[_Place]]:
        self._known[place] = False
        givers = self._list_givers(*place)
        return place, [place] if givers is None else givers  # what none of ours gives is given by itself

    def _list_givers(self, body: str, name: str) -> list[_Place] | None:
        """Lists where a name is from: nothing if it is from here, and None if it may be anything."""
        node = self.graph.get_nodes(body).get(name)
        if node is None:
            return self._list_passed(body, name)
        if body == GRAPH and name in self.callers.fed and self.may_be_served:
            return None
        if body == GRAPH and name in self.nodes:
            return []
        if node.op == "Identity":
            return [(body, name_node(each)) for each in node.input[:1]] or None
        if node.op == "ReadVariableOp" and body == GRAPH and node.input:
            return self._list_assigned(name_node(node.input[0])) or None
        if self.may_add and node.op == "Pack":
            return [(body, name_node(each)) for each in list_inputs(node)] or None
        if self.may_add and (
            node.op == "ShardedFilename" or (node.op == "StringJoin" and self._adds_ending(body, node))
        ):
            return [(body, name_node(each)) for each in node.input[:1]] or None
        return None

    def _list_passed(self, body: str, argument: str) -> list[_Place] | None:
        """Lists what callers pass as an argument; None if one of them may pass anything."""
        places = self.graph.arguments[body]
        calls = self.graph.callers[body]
        if argument not in places or body in self.callers.hidden:
            return None
        place = places[argument]
        if body in self.callers.listed:
            bound = self.bound.get(body, ())
            captured = place - (len(places) - len(bound))
            if captured < 0 or not bound[captured]:
                return None
        elif not calls:
            return None
        passed = []
        for call in calls:
            is_served = call.body == GRAPH and call.node in self.callers.served
            if place >= len(call.passed) or (is_served and not self.may_be_served):
                return None
            passed.append((call.body, call.passed[place]))
        return passed

    def _list_assigned(self, handle: str) -> list[_Place] | None:
        """Lists what a variable of the graph is given, as TensorFlow keeps the paths of assets in variables.

        Returns:
            The values; None for what is no variable, or one that may be given something in another way.
        """
        nodes = self.graph.get_nodes(GRAPH)
        if handle not in nodes or nodes[handle].op != "VarHandleOp":
            return None
        if self.graph.count_variables()[name_variable(nodes[handle])] > 1:
            return None
        assigned = []
        for user in self.graph.find_users()[handle]:
            node = nodes[user]
            if node.op == "AssignVariableOp" and len(node.input) > 1:
                assigned.append((GRAPH, name_node(node.input[1])))
            elif node.op not in _ASKING:
                return None
        return assigned

    def _adds_ending(self, body: str, node: NodeDef) -> bool:
        """Tells whether what is joined to a name leads into no other directory."""
        nodes = self.graph.get_nodes(body)
        added = [nodes.get(name_node(tensor)) for tensor in list_inputs(node)[1:]]
        for each in added:
            choices = [each]
            if each is not None and each.op in _CHOOSING:
                choices = [nodes.get(name_node(tensor)) for tensor in list_inputs(each)[1:]]
            for choice in choices:
                texts = read_strings(choice)
                if texts is None or any(b".." in text for text in texts):
                    return False
        return True
