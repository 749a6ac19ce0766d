"""What a graph needs of TensorFlow: the release that brought each operation in it, and each of their attributes."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from exporter.saving.compatibility.history import Version, parse_version

# Attributes that no computation depends on.
_FOR_PEOPLE = {"debug_name"}
_INT32 = 3  # tensorflow/core/framework/types.proto

TABLE = Path(__file__).parents[2] / "data" / "tensorflow_releases.json"


@dataclass(frozen=True, slots=True)
class OperationReleases:
    """The table.

    Attributes:
        date: When it was made.
        first: The first release that it knows; nothing is said of those before.
        since: The release of each operation that the first one lacks, under "", and of each attribute, under its name.
    """

    date: str
    first: Version
    since: Mapping[str, Mapping[str, Version]]


@cache
def read_operation_releases() -> OperationReleases:
    """Reads the table, without TensorFlow."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    since = {name: {key: parse_version(v) for key, v in known.items()} for name, known in table["since"].items()}
    return OperationReleases(table["date"], parse_version(table["releases"][0]), since)


def find_oldest_tensorflow(graph: Any) -> Version:
    """Returns the oldest release of TensorFlow that computes a graph, of those that the table knows.

    One that lacks an operation does not load the graph. One that lacks an attribute does, and computes as if it were
    not there: so it counts where it asks for something.

    Args:
        graph: A `GraphDef` message, of TensorFlow or of `exporter.saving.layout.messages`.
    """
    table = read_operation_releases()
    oldest = table.first
    for node in _list_nodes(graph):
        known = table.since.get(node.op)
        if known is not None:
            needed = [version for name, version in known.items() if not name or name in _list_asking(node.attr)]
            oldest = max([oldest, *needed])
    return oldest


def list_operations(graph: Any) -> set[str]:
    """Lists the operations of a graph and of the functions in it; see `find_oldest_tensorflow`."""
    return {node.op for node in _list_nodes(graph)}


def _list_nodes(graph: Any) -> Iterator[Any]:
    return itertools.chain(graph.node, *(function.node_def for function in graph.library.function))


def _list_asking(attributes: Any) -> set[str]:
    """Names the attributes that ask for something, in either form of a node."""
    entries = attributes.items() if isinstance(attributes, Mapping) else ((each.key, each.value) for each in attributes)
    return {name for name, value in entries if name not in _FOR_PEOPLE and not _is_default(value)}


def _is_default(value: Any) -> bool:
    """Tells whether a value is one that TensorFlow gave a new attribute as its default, so far: nothing, or int32."""
    return not (value.s or value.i or value.b or value.type not in (0, _INT32) or value.list.ByteSize())
