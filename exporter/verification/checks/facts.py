"""The state of a model as plain data, so that two processes can compare theirs."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from exporter.processes.arrays import Array
from exporter.saving.private_api import to_snake_case
from exporter.saving.rebuilding.acquired import collect_acquired
from exporter.saving.rebuilding.compilation import ARGUMENTS, serialize_compile_config, serialize_compile_extras
from exporter.saving.state.collecting import State, collect, collect_state, digest, to_array
from exporter.saving.state.policies import find_policy
from exporter.saving.state.resources import Table
from exporter.saving.state.tree import join, walk


def describe_model(model: keras.Model, include_optimizer: bool = True) -> dict[str, Any]:
    """Describes the state of a model.

    Args:
        model: A built model.
        include_optimizer: Whether the optimizer and the compile configuration belong to the state.

    Returns:
        Plain data, which JSON can say: `variables` as in `describe_variables`, `trainable` (address -> flag),
        `optimizers` (the addresses of all optimizers), `tables` (the paths of lookup tables among the variables),
        `dtype_policies` (address -> name), `acquired` (as `collect_acquired` says it), `stateless` (the addresses of
        the layers without variables), `revived` (those of the layers that live on without their code) and `compile`
        (None for a model that is not compiled).
    """
    state = collect(model, include_optimizer)
    facts: dict[str, Any] = {
        "variables": _describe_variables(state),
        "optimizers": list(state.optimizers),
        "tables": list(state.tables),
        "trainable": dict(state.trainable),
        "dtype_policies": {
            saveable.path: find_policy(saveable.target).name
            for saveable in state.tree
            if isinstance(saveable.target, keras.layers.Layer)
        },
        "acquired": collect_acquired(state),
        "stateless": [
            saveable.path
            for saveable in state.tree
            if isinstance(saveable.target, keras.layers.Layer) and not saveable.target.variables
        ],
        "revived": find_revived(model),
        "compile": _describe_compilation(model) if include_optimizer and model.compiled else None,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=lambda value: type(value).__name__))
    return plain


def find_revived(model: keras.Model) -> list[str]:
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


def describe_variables(model: keras.Model) -> dict[str, Any]:
    """Describes the values of every variable of a model and its optimizer.

    Args:
        model: A built model.

    Returns:
        Path -> digest, dtype and shape, as JSON can say them.
    """
    return _describe_variables(collect(model))


def _describe_variables(state: State) -> dict[str, Any]:
    return {
        path: [digest(variable), keras.backend.standardize_dtype(variable.dtype), list(variable.shape)]
        for path, variable in state.variables.items()
    } | {path: _describe_table(table) for path, table in state.tables.items()}


def _describe_table(table: Table) -> list[Any]:
    checksum = hashlib.sha256()
    for name, content in sorted(table.to_files().items()):
        checksum.update(f"{name} {len(content)}\n".encode() + content)
    return [checksum.hexdigest(), f"{table.key_dtype} to {table.value_dtype}", [len(table.export()[0])]]


def _describe_compilation(model: keras.Model) -> dict[str, Any]:
    extras = {} if hasattr(model, "saved_compile_config") else serialize_compile_extras(model) or {}
    return {
        **_leave_out_automatic_names({name: value for name, value in extras.items() if name == ARGUMENTS}),
        **_leave_out_automatic_names(serialize_compile_config(model) or {}),
        "jit_compile": model.jit_compile,
        "run_eagerly": model.run_eagerly,
        "steps_per_execution": model.steps_per_execution,
    }


def _leave_out_automatic_names(node: Any) -> Any:
    """Returns a compile configuration without the names that Keras numbers by what else the process has made."""
    if isinstance(node, Mapping):
        kept = {key: _leave_out_automatic_names(value) for key, value in node.items()}
        inner, class_name = kept.get("config"), kept.get("class_name")
        if isinstance(inner, dict) and isinstance(class_name, str) and isinstance(inner.get("name"), str):
            stem = re.escape(to_snake_case(class_name.rpartition(">")[2]))
            if re.fullmatch(rf"{stem}(_\d+)?", inner["name"]):
                del inner["name"]
        return kept
    return [_leave_out_automatic_names(each) for each in node] if isinstance(node, (list, tuple)) else node


def read_values(model: keras.Model, paths: Sequence[str], include_optimizer: bool = True) -> dict[str, Array]:
    """Reads the values of some of the model's variables.

    Args:
        model: A built model.
        paths: Of the variables, as in `describe_model`.
        include_optimizer: As for `describe_model`.

    Returns:
        Path -> value; lookup tables have none that could be measured.
    """
    variables = collect_state(model, include_optimizer)
    return {path: to_array(variables[path]) for path in paths if path in variables}


def find_differences(expected: Any, received: Any, path: str = "") -> list[str]:
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
