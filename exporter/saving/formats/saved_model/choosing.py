"""Which graph of a SavedModel is loaded, and what of it becomes a model: told by its bytes, without TensorFlow."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import ArtifactError
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.layout.names import CONFIG, EXPORTED_CONFIG, GRAPH, KERAS_2_METADATA, STATE
from exporter.saving.safety.graphs.loading import INIT_SIGNATURE, list_concrete
from exporter.saving.safety.graphs.operations import read_graphs
from exporter.text.showing import list_first, show
from exporter.typing import messages

# The tags of the graph, and the function of a `tf.Module`, that are meant where none are named.
_SERVE = frozenset({"serve"})
CALL = "__call__"

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model is made of.

    Attributes:
        graph: The graph that is loaded.
        tags: Its tags; None where it is the only one.
        endpoint: The name of one of its endpoints, or of a function of its root object.
    """

    graph: messages.MetaGraphDef
    tags: tuple[str, ...] | None
    endpoint: str


class ChoiceError(ArtifactError):
    """Something has to be chosen, or what was chosen is not there.

    Attributes:
        option: The option with which it is chosen: `tags` or `endpoint`.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def choose(path: Path, endpoint: str | None, tags: Sequence[str] | None) -> Choice:
    """Chooses the graph and the endpoint of a SavedModel.

    Args:
        path: The directory.
        endpoint: The name of an endpoint, or of a function of the root object, such as `__call__`; None for
            `serving_default`, for what there is only one of, or for the module's own call.
        tags: The tags of the graph; None for the only one, or for the one that is tagged `serve` alone.

    Returns:
        The choice.

    Raises:
        ChoiceError: There is no such graph or endpoint, or there are several and none is named.
        ArtifactError: The file is damaged, or has nothing that could be called.
    """
    graph, chosen = choose_graph(path, tags)
    # TensorFlow gives of one graph among several its endpoints only.
    functions = _list_functions(graph) if chosen is None else []
    return Choice(graph, chosen, _choose_endpoint(path, graph, functions, endpoint))


def holds_model(path: Path) -> bool:
    """Tells whether a SavedModel may hold a Keras model, for which no endpoint has to be chosen."""
    return any((path / name).is_file() for name in (STATE, CONFIG, KERAS_2_METADATA, EXPORTED_CONFIG))


def choose_graph(path: Path, tags: Sequence[str] | None) -> tuple[messages.MetaGraphDef, tuple[str, ...] | None]:
    """Chooses the graph alone; see `choose`.

    Returns:
        The graph, and its tags; None where it is the only one.
    """
    with read_graphs(path / GRAPH) as saved_model:
        graphs = list(saved_model.meta_graphs)
    if not graphs:
        raise ArtifactError(f"{path / GRAPH} is damaged: it holds no graph.")
    sets = [frozenset(graph.meta_info_def.tags) for graph in graphs]
    if tags is None and len(graphs) == 1:
        return graphs[0], None
    wanted = _SERVE if tags is None else frozenset(tags)
    if wanted in sets:
        return graphs[sets.index(wanted)], None if len(graphs) == 1 else tuple(sorted(wanted))
    example = sorted(sets[0])
    raise ChoiceError(
        "tags",
        f"{path} has no graph with exactly the tags {_word_tags(wanted)}. Its graphs have the tags "
        f"{list_first([_word_tags(each) for each in sets], _SHOWN)}. Choose one: "
        f"load_model({str(path)!r}, tags={example!r}), or {_word_key('tags', example)}.",
    )


def _word_tags(tags: Iterable[str]) -> str:
    return f"[{', '.join(sorted(tags))}]"


def _word_key(option: str, value: str | list[str]) -> str:
    """Returns what chooses on the command line, as a shell takes it."""
    written = value if isinstance(value, str) else _word_tags(value)
    return f"{shlex.quote(f'model.{option}={written}')} on the command line"


def _choose_endpoint(path: Path, graph: messages.MetaGraphDef, functions: list[str], endpoint: str | None) -> str:
    endpoints = sorted(entry.key for entry in graph.signature_def if entry.key != INIT_SIGNATURE)
    known = [*endpoints, *(name for name in functions if name not in endpoints)]
    if endpoint is not None:
        if endpoint in known:
            return endpoint
        if known:
            raise ChoiceError(
                "endpoint", f"{path} has no endpoint {show(endpoint)}. {_word_choice(path, graph, known)}"
            )
    if SERVING_DEFAULT in endpoints:
        return SERVING_DEFAULT
    if not known:
        raise ArtifactError(f"{path} has no endpoint {SERVING_DEFAULT!r} to make a model of. Its endpoints: none.")
    default = [name for name in (endpoints or functions) if name == CALL] or endpoints or functions
    if len(default) == 1:
        return default[0]
    raise ChoiceError(
        "endpoint", f"{path} has no endpoint {SERVING_DEFAULT!r} to make a model of. {_word_choice(path, graph, known)}"
    )


def _word_choice(path: Path, graph: messages.MetaGraphDef, known: Sequence[str]) -> str:
    ranked = [
        entry.key
        for entry in graph.signature_def
        if not any(taken.value.tensor_shape.unknown_rank for taken in entry.value.inputs)
    ]
    example = next((name for name in known if name in ranked), known[0])  # of any rank, it would be refused
    remedy = f"load_model({str(path)!r}, endpoint={example!r}), or {_word_key('endpoint', example)}"
    return f"Its endpoints: {list_first(known, _SHOWN)}. Choose one: {remedy}."


def _list_functions(graph: messages.MetaGraphDef) -> list[str]:
    """Names the functions of the root object that were traced: its own call first."""
    objects = graph.object_graph_def.nodes
    children = objects[0].children if objects else ()
    named = {
        child.local_name
        for child in children
        if child.local_name == CALL or not child.local_name.startswith("_")
        if 0 <= child.node_id < len(objects)
        if objects[child.node_id].HasField("function") and list_concrete(objects, child.node_id)
    }
    return sorted(named, key=lambda name: (name != CALL, name))
