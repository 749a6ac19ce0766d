"""Which TensorFlow a graph needs, by the operations and attributes in it."""

from typing import Any

import pytest

from exporter.saving.compatibility.graphs import find_oldest_tensorflow, read_operation_releases
from exporter.saving.layout.messages import SavedModel


def make_graph(operation: str, inside: bool, **attributes: Any) -> Any:
    message: Any = SavedModel()
    graph = message.meta_graphs.add().graph_def
    node = (graph.library.function.add().node_def if inside else graph.node).add()
    node.op = operation
    for name, value in attributes.items():
        entry = node.attr.add()
        entry.key = name
        field = {bytes: "s", int: "i", bool: "b"}[type(value)] if name != "index_type" else "type"
        setattr(entry.value, field, value)
    return graph


@pytest.mark.parametrize("inside", [pytest.param(False, id="graph"), pytest.param(True, id="function")])
@pytest.mark.parametrize(
    ("operation", "attributes", "oldest"),
    [
        pytest.param("MatMul", {"transpose_a": True}, (2, 8), id="always there"),
        pytest.param("DecodeWebP", {}, (2, 20), id="new operation"),
        pytest.param("MatMul", {"grad_a": False}, (2, 8), id="new attribute that asks for nothing"),
        pytest.param("MatMul", {"grad_a": True}, (2, 16), id="new attribute that asks for something"),
        pytest.param("GatherNd", {"bad_indices_policy": b""}, (2, 8), id="empty text"),
        pytest.param("GatherNd", {"bad_indices_policy": b"IGNORE"}, (2, 17), id="text"),
        pytest.param("TopKV2", {"index_type": 3}, (2, 8), id="int32"),
        pytest.param("TopKV2", {"index_type": 9}, (2, 13), id="int64"),
        pytest.param("VarHandleOp", {"debug_name": b"kernel"}, (2, 8), id="name for people"),
        pytest.param("Own>Operation", {}, (2, 8), id="unknown"),
    ],
)
def test_the_newest_part_decides(
    operation: str, attributes: dict[str, object], oldest: tuple[int, ...], inside: bool
) -> None:
    assert find_oldest_tensorflow(make_graph(operation, inside, **attributes)) == oldest


def test_the_table_has_its_date_and_begins_before_everything_in_it() -> None:
    table = read_operation_releases()
    assert table.date >= "2026-11-30"
    assert all(version > table.first for known in table.since.values() for version in known.values())
