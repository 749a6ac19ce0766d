"""The state of a model as plain data, so that two processes can compare theirs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from exporter.processes.arrays import Array
from exporter.saving.state.collecting import State, collect, collect_state, digest, to_array
from exporter.saving.state.resources import Table
from exporter.saving.state.tree import join, walk
from exporter.typing.keras import Model


def make_plain(facts: Mapping[str, object]) -> dict[str, Any]:
    """Returns facts as the other process would read them: what JSON cannot say is told by the name of its class."""
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=lambda value: type(value).__name__))
    return plain


def find_revived(model: Model) -> list[str]:
    """Finds the layers of a model that live on without their code, as the functions that were saved of them.

    Args:
        model: A built model.

    Returns:
        Their addresses.
    """
    return [
        join(saveable.path, place)
        for saveable in walk(model)
        if hasattr(saveable.target, "revived_parts")
        for place in ("", *saveable.target.revived_parts)
    ]


def describe_variables(model: Model) -> dict[str, Any]:
    """Describes the values of every variable of a model and its optimizer.

    Args:
        model: A built model.

    Returns:
        Path -> digest, dtype and shape, as JSON can say them.
    """
    return describe_state(collect(model))


def describe_state(state: State) -> dict[str, Any]:
    """Describes the values of a state, as `describe_variables` does."""
    return {
        path: [digest(variable), keras.backend.standardize_dtype(variable.dtype), list(variable.shape)]
        for path, variable in state.variables.items()
    } | {path: _describe_table(table) for path, table in state.tables.items()}


def _describe_table(table: Table) -> list[object]:
    checksum = hashlib.sha256()
    for name, content in sorted(table.to_files().items()):
        checksum.update(f"{name} {len(content)}\n".encode() + content)
    return [checksum.hexdigest(), f"{table.key_dtype} to {table.value_dtype}", [len(table.export()[0])]]


def read_values(model: Model, paths: Sequence[str], include_optimizer: bool = True) -> dict[str, Array]:
    """Reads the values of some of the model's variables.

    Args:
        model: A built model.
        paths: Of the variables, as in `describe_variables`.
        include_optimizer: Whether the optimizer belongs to the state.

    Returns:
        Path -> value; lookup tables have none that could be measured.
    """
    variables = collect_state(model, include_optimizer)
    return {path: to_array(variables[path]) for path in paths if path in variables}


def find_differences(expected: object, received: object, path: str = "") -> list[str]:
    """Finds where two pieces of plain data differ.

    Args:
        expected: Mappings of anything, nested.
        received: What should be equal to it.
        path: The dotted path of both.

    Returns:
        A line per difference: the dotted path, and both values.
    """
    if isinstance(expected, Mapping) and isinstance(received, Mapping):
        found = []
        for key in dict.fromkeys((*expected, *received)):
            inner = f"{path}.{key}" if path else str(key)
            found += find_differences(expected.get(key), received.get(key), inner)
        return found
    return [] if expected == received else [f"{path or 'all of it'} was {expected!r} and is {received!r}"]
