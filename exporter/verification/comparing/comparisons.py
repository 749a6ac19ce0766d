"""The comparisons of a verification: what the model and the artifact were found to be, as checks that pass or fail."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from exporter.artifacts.records import Check, CheckKind
from exporter.processes.arrays import Array, is_same, largest_difference
from exporter.saving.contents import Endpoint, Omission, OmissionKind
from exporter.saving.graph.endpoints import read_endpoints
from exporter.text.showing import list_first
from exporter.verification.comparing.facts import find_differences


def measure_difference(first: Array, second: Array) -> float | None:
    """Returns how far two arrays are apart; None where their shapes differ."""
    return largest_difference(first, second) if first.shape == second.shape else None


def check_variables(
    name: str,
    paths: Sequence[str],
    expected: Mapping[str, Sequence[object]],
    received: Mapping[str, Sequence[object]],
    differences: Mapping[str, float | None],
    kind: CheckKind,
) -> Check:
    """Compares variables.

    Args:
        name: Of the check.
        paths: Of the variables, on both sides.
        expected: Path -> digest, dtype and shape.
        received: What should be equal to it.
        differences: How far two are apart, by the path of those that are known to differ.
        kind: Of the check.

    Returns:
        The check.
    """
    missing = [path for path in paths if path not in received]
    added = [path for path in paths if path not in expected]
    changed = [path for path in paths if path in expected and path in received and expected[path] != received[path]]
    count = f"{len(paths)} tensor{'s' if len(paths) != 1 else ''}"
    if not (missing or added or changed):
        return Check(name, True, "bit-equal", count, difference=0.0, kind=kind)
    faults = {"missing": missing, "added": added, "changed": changed}
    figures = [f"{len(found)} {word}" for word, found in faults.items() if found]
    measured = [difference for path in changed if (difference := differences.get(path)) is not None]
    if measured:
        figures.append(f"largest difference {max(measured):.3g}")
    names = list_first([*missing, *added, *changed])
    figure, furthest = f"of {count}, {', '.join(figures)}", max(measured, default=None)
    return Check(name, False, figure, names, difference=furthest, kind=kind)


def find_changed(expected: Mapping[str, object], received: Mapping[str, object]) -> list[str]:
    """Finds the paths that stand on both sides, with other values."""
    return [path for path in expected if path in received and expected[path] != received[path]]


def leave_unproven(what: str, why: str) -> Omission:
    """Says why something could not be compared."""
    return Omission(f"proof of {what}", why, intended=True, kind=OmissionKind.COMPARISON)


def report_unread(error: str) -> Check:
    """Says that the other process could not read the state of what it loaded."""
    return Check("state", False, "the loaded model's state cannot be read", error, kind=CheckKind.STATE)


def check_equal(name: str, expected: object, received: object, detail: str) -> Check:
    """Compares plain data; `detail` says what it is."""
    differences = find_differences(expected, received)
    if not differences:
        return Check(name, True, "equal", detail)
    plural = "s" if len(differences) != 1 else ""
    return Check(name, False, f"{len(differences)} difference{plural}", list_first(differences))


def check_signatures(staged: Path, declared: Mapping[str, Endpoint]) -> Check:
    """Compares what a SavedModel says of its endpoints with what was declared."""
    read = read_endpoints(staged)
    differences = [name for name in {**declared, **read} if declared.get(name) != read.get(name)]
    if differences:
        return Check("signatures", False, f"{len(differences)} differ from what was declared", list_first(differences))
    plural = "s" if len(read) != 1 else ""
    return Check("signatures", True, "equal", f"names, shapes, dtypes of {len(read)} endpoint{plural}")


def compare_states(check: Check, expected: Sequence[str], received: Sequence[str]) -> Check:
    """Compares the variables that the calls of an endpoint changed."""
    if not expected and not received:
        return check
    count = f"{len(expected)} variable{'s' if len(expected) != 1 else ''}"
    wrong = max((Counter(expected) - Counter(received)).total(), (Counter(received) - Counter(expected)).total())
    if wrong:
        return replace(check, passed=False, figure=f"{wrong} differ from the model's afterwards, which changes {count}")
    return replace(check, detail=f"{check.detail}, {count} changed")


def compare_outputs(
    name: str,
    received: Mapping[str, Array],
    expected: Mapping[str, Array],
    detail: str,
    ignored: Collection[str] = (),
) -> Check:
    """Compares what the artifact answers with what the model answers.

    Args:
        name: Of the check.
        received: `<batch>/<output>` -> array.
        expected: What should be the same.
        detail: What was asked.
        ignored: The outputs of which only the dtype and the number of dimensions are compared.

    Returns:
        The check.
    """
    if expected.keys() != received.keys():
        given, wanted = (sorted({key.split("/", 1)[1] for key in each}) for each in (received, expected))
        detail = f"{list_first(given)} instead of {list_first(wanted)}"
        return Check(name, False, "other outputs than the model's", detail, kind=CheckKind.OUTPUTS)
    differing = [
        key
        for key, array in expected.items()
        if not (_is_alike if key.split("/", 1)[1] in ignored else is_same)(array, received[key])
    ]
    if not differing:
        return Check(name, True, "bit-equal", detail, difference=0.0, kind=CheckKind.OUTPUTS)
    for key in differing:
        ours, theirs = expected[key], received[key]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            figure = f"{theirs.dtype} {theirs.shape} instead of {ours.dtype} {ours.shape}"
            return Check(name, False, figure, detail, kind=CheckKind.OUTPUTS)
    differences = [largest_difference(expected[key], received[key]) for key in differing]
    largest = max((difference for difference in differences if difference is not None), default=None)
    figure = "different strings" if largest is None else f"largest difference {largest:.3g}"
    return Check(name, False, figure, detail, difference=largest, kind=CheckKind.OUTPUTS)


def _is_alike(first: Array, second: Array) -> bool:
    return first.dtype == second.dtype and first.ndim == second.ndim


def find_unsteady(first: Mapping[str, Array], second: Mapping[str, Array]) -> tuple[str, ...]:
    """Finds the outputs in which a model's two answers to the same question differ.

    Args:
        first: `<batch>/<output>` -> array.
        second: Those of the second time, of some or all batches.

    Returns:
        The names of the outputs.
    """
    found = [key for key, array in second.items() if key not in first or not is_same(first[key], array)]
    return tuple(dict.fromkeys(key.split("/", 1)[1] for key in found))
