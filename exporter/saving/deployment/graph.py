"""The SavedModel that a converter reads: endpoints with what they use, and nothing else of the model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from exporter.errors import ModelError
from exporter.saving.contents import Endpoint
from exporter.saving.graph.endpoints import read_endpoints
from exporter.saving.graph.signatures import find_captured

# The input of an operation that reserves a list which says how large each entry is.
_LISTS = {"TensorListReserve": 0, "EmptyTensorList": 0}


@dataclass(frozen=True, slots=True)
class Computation:
    """What an endpoint computes, as far as its trace says it.

    Attributes:
        dtypes: Of its inputs and outputs, by name.
        operations: The kinds of its operations, each with the dtypes that these compute in.
        has_open_lists: Whether it keeps lists of tensors whose size is not known, as a recurrent layer does for batches
            of any size.
    """

    dtypes: Mapping[str, str]
    operations: Mapping[str, frozenset[str]]
    has_open_lists: bool


def describe(name: str, function: Any) -> Computation:
    """Describes an endpoint before anything is written.

    Args:
        name: Its name.
        function: A concrete function of flat tensors by keyword.

    Raises:
        ModelError: It changes variables, which converters drop without a word.
    """
    bodies = [list(body) for body in _list_bodies(function)]
    nodes = [node for body in bodies for node in body]
    _check_assignments(name, nodes)
    operations: dict[str, set[str]] = {}
    for node in nodes:
        operations.setdefault(node.op, set()).update(
            tf.as_dtype(value.type).name for value in node.attr.values() if value.type
        )
    return Computation(
        {spec.name: spec.dtype.name for spec in tf.nest.flatten(function.structured_input_signature)}
        | {each: tensor.dtype.name for each, tensor in _name_outputs(function.structured_outputs).items()},
        {kind: frozenset(dtypes) for kind, dtypes in operations.items()},
        any(_has_open_list(body) for body in bodies),
    )


def write_graph(endpoints: Mapping[str, Any], place: Path, has_saver: bool = True) -> Mapping[str, Endpoint]:
    """Writes a SavedModel with these endpoints alone.

    Args:
        endpoints: Concrete functions of flat tensors by keyword, by name.
        place: The directory to make.
        has_saver: Whether the nodes are written that restore the variables in a session, which takes longer than all
            of the rest. Without them, TensorFlow's converter for LiteRT converts variables that hold anything.

    Returns:
        What they take and return, as the file says it.
    """
    root = tf.Module()
    functions = list(endpoints.values())
    kinds = (tf.Variable, tf.saved_model.experimental.TrackableResource)
    root.used = [owner for function in functions for kind in kinds for owner in find_captured(function, kind)]
    root.variables_used = [variable for function in functions for variable in function.variables]
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False, experimental_skip_saver=not has_saver)
    tf.saved_model.save(root, str(place), signatures=dict(endpoints), options=options)
    return read_endpoints(place)


def _name_outputs(outputs: Any) -> Mapping[str, Any]:
    if isinstance(outputs, Mapping):
        return outputs
    return {f"output_{number}": tensor for number, tensor in enumerate(tf.nest.flatten(outputs))}  # as TensorFlow does


def _list_bodies(function: Any) -> Iterator[Sequence[Any]]:
    """Gives the operations of a function, and those of the functions that it calls."""
    graph = function.graph.as_graph_def()
    yield graph.node
    for each in graph.library.function:
        yield each.node_def


def _check_assignments(name: str, nodes: Sequence[Any]) -> None:
    changed = sorted({node.op for node in nodes if node.op.startswith("Assign") and node.op.endswith("VariableOp")})
    if changed:
        raise ModelError(
            f"The endpoint {name!r} changes variables ({', '.join(changed)}), and a converted file computes without "
            "changing anything. Declare an endpoint that only computes, or save the model with save_format=tf."
        )


def _has_open_list(body: Sequence[Any]) -> bool:
    constants = {node.name: node.attr["value"].tensor for node in body if node.op == "Const"}
    for node in body:
        if node.op in _LISTS:
            shape = constants.get(node.input[_LISTS[node.op]].partition(":")[0])
            # Where nothing is known of the shape, a converter may find it out.
            if shape is not None and (sizes := tf.make_ndarray(shape)).ndim and (sizes < 0).any():
                return True
    return False
