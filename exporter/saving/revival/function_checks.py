"""Checks that a record of functions fits the functions and the state beside it, before anything is made of them."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

from exporter.errors import ArtifactError
from exporter.saving.configuration.configurations import find_foreign_names
from exporter.saving.functions.records import MODEL, STEP, Functions, Unit, UnitFunctions
from exporter.saving.graph.inputs import Inputs
from exporter.saving.layout.records import RecordError
from exporter.saving.rebuilding.record import StateRecord

_PARAMETER_KINDS = {name for name in vars(inspect.Parameter) if name.isupper()}
_EVALUATION = "evaluation"


def check_functions(path: Path, functions: Functions, units: Mapping[str, UnitFunctions], record: StateRecord) -> None:
    """Checks a record that may be anybody's.

    Args:
        path: The artifact, for the error.
        functions: What it says of its functions.
        units: Those that it has.
        record: What it says of its state.

    Raises:
        ArtifactError: The record names a function or a variable that is not there, or something that no record says.
    """
    for fault in _list_faults(functions, units, record):
        raise ArtifactError(f"{path} cannot be read: its record of functions {fault}. It is damaged or incomplete.")


def _list_faults(functions: Functions, units: Mapping[str, UnitFunctions], record: StateRecord) -> Iterator[str]:
    if not functions.units:
        yield "has no units"
    prediction = [] if functions.prediction is None else [f"{STEP}predict"]
    steps = [f"{STEP}{name}" for name in functions.steps if name != _EVALUATION]
    used = [MODEL, *steps, *prediction, *(form.name for unit in functions.units for form in unit.calls)]
    for name in used:
        if not hasattr(units.get(name), "inference"):
            yield f"names the function {name!r}, which is not there"
    for unit in functions.units:
        yield from _list_unit_faults(unit, units, record)
    if functions.prediction is not None:
        yield from _list_structure_faults(functions.prediction, None)


def _list_unit_faults(unit: Unit, units: Mapping[str, UnitFunctions], record: StateRecord) -> Iterator[str]:
    if not unit.parts:
        yield f"says nothing of the unit {unit.path!r}"
    for name in (MODEL,) if not unit.path else tuple(form.name for form in unit.calls):
        if unit.trains and not hasattr(units.get(name), "training"):
            yield f"names a function for training at {name!r}, which is not there"
    paths = [item.path for item in unit.variables]
    paths += [path for part in unit.parts for path in (*part.trained, *part.kept, *part.seeds)]
    yield from (
        f"names the variable {path!r}, which is not in the state" for path in paths if path not in record.variables
    )
    for item in unit.variables:
        for kind, config in (("regularizer", item.regularizer), ("constraint", item.constraint)):
            if config is not None and find_foreign_names(config) and f"{item.path}/{kind}" not in units:
                yield f"names the function {item.path + '/' + kind!r}, which is not there"
    for part in unit.parts:
        if not _is_name(part.class_name):
            yield f"names a class {part.class_name!r}, which none is called"
        if not all(0 <= number < len(unit.parts) for number in part.children):
            yield f"names layers inside {part.name!r} that are not there"
    names = [item.name for item in unit.parameters]
    if not all(name.isidentifier() for name in names) or len(set(names)) != len(names):
        yield f"gives parameters of {unit.path!r} names that no parameter has"
    if not {item.kind for item in unit.parameters} <= _PARAMETER_KINDS:
        yield f"names a kind of parameter of {unit.path!r} that there is not"
    if unit.inputs is not None:
        try:
            inputs = Inputs.from_json(unit.inputs)
        except RecordError as error:
            yield f"has damaged inputs: {error}"
        else:
            for structure in inputs.structure:
                yield from _list_structure_faults(structure, len(inputs.leaves))
    if not unit.path:
        yield from _list_structure_faults(unit.outputs, None)


def _is_name(text: str) -> bool:
    """Returns whether a class can have the name; most are identifiers, and those that a function made need not be."""
    return "\0" not in text and text.encode(errors="replace").decode() == text


def _list_structure_faults(structure: object, count: int | None) -> Iterator[str]:
    """Checks nested `{"dict": ...}`, `{"list": ...}` and `{"tuple": ...}` with positions below `count` as leaves."""
    if type(structure) is int:
        if structure < 0 or (count is not None and structure >= count):
            yield "has a structure with a place that is not there"
        return
    kind, items = next(iter(structure.items())) if isinstance(structure, dict) and len(structure) == 1 else ("", None)
    if kind == "dict" and isinstance(items, dict):
        children = list(items.values())
    elif kind in ("list", "tuple") and isinstance(items, list):
        children = items
    else:
        yield "has a structure that is none"
        return
    for child in children:
        yield from _list_structure_faults(child, count)
