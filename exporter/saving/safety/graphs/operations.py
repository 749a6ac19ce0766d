"""The operations of a graph that do more than compute, found without TensorFlow.

Whatever is in a file is looked at, whether anything calls it or not: gradients, and functions that TensorFlow may put
in the place of others, are called in ways that the graph does not show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.saving.layout.messages import SavedModel
from exporter.saving.safety.graphs.call_graph import GRAPH, CallGraph, name_node
from exporter.saving.safety.graphs.file_names import Callers, Source
from exporter.saving.safety.graphs.loading import (
    MAX_BYTES,
    Start,
    claim_constant,
    claim_slots,
    count_bytes,
    find_endpoints,
    find_fed,
    find_initializers,
    find_start,
    find_usurpers,
    list_assets,
)
from exporter.saving.safety.graphs.registry import SAVER, TABLE_FILES, read_registry
from exporter.typing import messages

_UNKNOWN = "is none of the operations of TensorFlow that only compute"
_SAVER_ONLY = "saves or restores files elsewhere than in the saver"
_NO_ASSET = "reads a file that is no asset of the artifact"
_WHILE_LOADED = "would run while the file is loaded, when only tables and variables are filled"
_TOO_LARGE = f"claims more than {MAX_BYTES:,} bytes"
_UNTOLD = "would make a tensor while the file is loaded whose size cannot be told"

# How many nodes a function may grow to when the functions that it calls are put in their places, which TensorFlow does
# before it runs one: this, or this many times what the file holds.
_MAX_NODES = 1_000_000
_MAX_TIMES = 10
# Protobuf reads no message that is longer.
_MAX_FILE = (1 << 31) - 1
_RESTORING = frozenset({"Restore", "RestoreSlice", "RestoreV2"})

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Harm:
    """Something in a graph that is refused.

    Attributes:
        operation: The name of the operation, or what else it is.
        place: The function that it is in; empty for the graph itself, None for what is a function as a whole.
        reason: What it does.
    """

    operation: str
    place: str | None
    reason: str

    def __str__(self) -> str:
        where = {None: "", GRAPH: " in the graph"}.get(self.place, f" in {self.place}")
        return f"{self.operation}{where} {self.reason}"


def find_harms(saved_model: messages.SavedModel) -> tuple[Harm, ...]:
    """Finds what a graph from somewhere else may not hold.

    Args:
        saved_model: The message `SavedModel`.

    Returns:
        Each operation once for every function that it is in.
    """
    graphs = saved_model.meta_graphs
    # TensorFlow 1 adds the graphs of a file one by one, each with a saver of its own beside those of the ones before.
    savers = {name_node(graph.saver_def.filename_tensor_name) for graph in graphs} - {""}
    return tuple(dict.fromkeys(harm for graph in graphs for harm in _Inspection(graph, savers).find()))


class _Inspection:
    """One look at a message `MetaGraphDef`, with the nodes that name the files of the savers."""

    def __init__(self, meta_graph: messages.MetaGraphDef, savers: set[str]) -> None:
        self._meta_graph = meta_graph
        self._graph = CallGraph.read(meta_graph.graph_def)
        self._start: Start = find_start(meta_graph, self._graph)
        library = meta_graph.graph_def.library
        hidden = {each.gradient_func for each in library.gradient}
        hidden |= {each.gradient_func for each in library.registered_gradients}
        hidden |= {
            function.signature.name
            for function in library.function
            if any(entry.key == "api_implements" for entry in function.attr)
        }
        objects = meta_graph.object_graph_def
        served = self._graph.find_ancestors(GRAPH, find_endpoints(meta_graph))
        listed = {entry.key for entry in objects.concrete_functions}
        callers = Callers(listed, hidden, served, find_fed(meta_graph))
        assets = [_is_asset(each) for each in objects.nodes]
        bound = {
            entry.key: [0 <= number < len(assets) and assets[number] for number in entry.value.bound_inputs]
            for entry in objects.concrete_functions
        }
        paths = {name_node(asset.tensor_info.name) for asset in list_assets(meta_graph)[0]}
        self._assets = Source(self._graph, callers, paths, bound, may_add=False, may_be_served=True)
        self._saved = Source(self._graph, callers, savers, {}, may_add=True, may_be_served=False)
        self._restored = Source(self._graph, callers, savers, {}, may_add=False, may_be_served=False)
        # What restores is no part of these, and what saves of neither.
        self._run = served | self._graph.find_ancestors(GRAPH, find_initializers(meta_graph))

    def find(self) -> Iterator[Harm]:
        """Finds everything that is refused."""
        for body, name in self._graph.repeated:
            yield Harm(f"the name {name}", body, "stands for two things")
        registry = read_registry()
        for body, nodes in self._graph.bodies.items():
            if body and body in registry.family_of:
                yield Harm(f"the function {body}", None, "has the name of an operation of TensorFlow")
            for node in nodes:
                reason = self._judge(body, node)
                if reason:
                    yield Harm(node.op, body, reason)
        for name, function in find_usurpers(self._meta_graph):
            what = f"the function {function}" if function else "an object"
            yield Harm(what, None, f"would be called as {name}, which TensorFlow uses while it loads")
        yield from self._find_growth()

    def _judge(self, body: str, node: messages.NodeDef) -> str | None:
        """Returns why a node is refused, or None."""
        registry = read_registry()
        family = registry.family_of.get(node.op)
        if family is None:
            if node.op not in self._graph.bodies:
                return _UNKNOWN
        elif not family.is_allowed:
            return family.reason
        elif family.name == SAVER:
            if not self._is_of_saver(body, node):
                return _SAVER_ONLY
        elif family.name == TABLE_FILES and not self._takes_asset(body, node):
            return _NO_ASSET
        if node.op == "Const" and claim_constant(node) > MAX_BYTES:
            return _TOO_LARGE
        is_early = node.name in self._start.nodes if body == GRAPH else body in self._start.functions
        if is_early and family is not None and node.op not in registry.initialising:
            return _WHILE_LOADED
        return None

    def _is_of_saver(self, body: str, node: messages.NodeDef) -> bool:
        if body == GRAPH and node.name in self._run:
            return False
        if node.op in _RESTORING:
            return bool(node.input) and self._restored.gives(body, node.input[0])
        # The second input of the one that merges is the name of the whole.
        names = node.input[:2] if node.op == "MergeV2Checkpoints" else node.input[:1]
        return bool(names) and all(self._saved.gives(body, name) for name in names)

    def _takes_asset(self, body: str, node: messages.NodeDef) -> bool:
        return len(node.input) > 1 and self._assets.gives(body, node.input[1])

    def _find_growth(self) -> Iterator[Harm]:
        """Finds what calls itself, grows beyond bounds when it is called, or makes too much while it is loaded."""
        graph = self._graph
        ordered, recursive = graph.order()
        for name in recursive:
            yield Harm(f"the function {name}", None, "calls itself")
        if recursive:
            return
        limit = max(_MAX_NODES, _MAX_TIMES * sum(map(len, graph.bodies.values())))
        sizes: dict[str, int] = {}
        made: dict[str, int] = {}
        for body in ordered:
            # What is too large is named once, and not again with everything that calls it.
            called = [name for name in graph.calls[body] if sizes[name] <= limit]
            sizes[body] = len(graph.bodies[body]) + sum(sizes[name] for name in called)
            if sizes[body] > limit:
                what = f"the function {body}" if body else "the graph"
                yield Harm(
                    what, None, f"grows to more than {limit:,} nodes when the functions that it calls are inlined"
                )
            if body != GRAPH and body not in self._start.functions:
                continue
            counted = 0
            for node in graph.bodies[body]:
                if body == GRAPH and node.name not in self._start.nodes:
                    continue
                size = count_bytes(node, graph, body)
                if size is None:
                    yield Harm(node.op, body, _UNTOLD)
                counted += (size or 0) + sum(made.get(name, 0) for name in graph.list_called(node))
            made[body] = min(counted, MAX_BYTES + 1)
            if counted > MAX_BYTES:
                what = f"the function {body}" if body else "the graph"
                yield Harm(what, None, f"would make more than {MAX_BYTES:,} bytes while the file is loaded")


def _is_asset(saved: messages.SavedGraphObject) -> bool:
    others = (
        "user_object",
        "function",
        "variable",
        "bare_concrete_function",
        "constant",
        "resource",
        "captured_tensor",
    )
    return saved.HasField("asset") and not saved.registered_name and not any(map(saved.HasField, others))


@contextmanager
def read_graphs(path: Path) -> Iterator[messages.SavedModel]:
    """Reads a SavedModel; what is found to be damaged inside is an error that says so.

    Args:
        path: Its `saved_model.pb`.

    Returns:
        The message `SavedModel`.

    Raises:
        ArtifactError: It is damaged.
    """
    if path.stat().st_size > _MAX_FILE:
        raise ArtifactError(f"{path} is damaged: it is larger than any SavedModel of TensorFlow.")
    try:
        yield SavedModel.FromString(path.read_bytes())
    except (DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged: it is not a SavedModel of TensorFlow ({error}).") from error


def check_graph(path: Path) -> None:
    """Refuses a SavedModel whose graph does more than compute, before TensorFlow has read it.

    Args:
        path: Its `saved_model.pb`.

    Raises:
        ArtifactError: It holds an operation that is not allowed, or uses one where it is not allowed; it would run
            something while it is loaded, or grow beyond bounds; it names an asset outside of itself, or is damaged.
    """
    with read_graphs(path) as saved_model:
        harms = find_harms(saved_model)
        slots = sum(map(claim_slots, saved_model.meta_graphs))
        assets = [asset for graph in saved_model.meta_graphs for listed in list_assets(graph) for asset in listed]
    for asset in assets:
        if _leaves(asset.filename):
            raise ArtifactError(f"{path} is refused: its asset {asset.filename!r} lies outside of the artifact.")
    stored = sum(file.stat().st_size for file in path.parent.glob("variables/variables.data-*"))
    if slots > stored + MAX_BYTES:
        harms = (*harms, Harm("the state of an optimizer", None, f"claims {slots:,} bytes where {stored:,} are stored"))
    if harms:
        more = f", and {len(harms) - _SHOWN} more" if len(harms) > _SHOWN else ""
        raise ArtifactError(
            f"{path} is refused: {'; '.join(map(str, harms[:_SHOWN]))}{more}. "
            "Load it with safe_mode=False only if you trust where the file comes from."
        )


def _leaves(filename: str) -> bool:
    name = PurePath(filename)
    return name.is_absolute() or ".." in name.parts or "://" in filename or "\0" in filename
