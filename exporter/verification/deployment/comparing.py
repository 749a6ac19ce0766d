"""How two answers to the same question are compared, where one of them was rounded elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.artifacts.records import Check, CheckKind
from exporter.processes.arrays import Array
from exporter.verification.deployment.rounding import Rounding, find_distances, is_floating

# From here on, a figure is told by its power of ten.
_MANY = 1e6


@dataclass(frozen=True, slots=True)
class Moved:
    """The model's side of a comparison.

    Attributes:
        rounding: What the model answers, and what rounding does to that.
        most: How many times that an artifact may differ; None where its numbers were made coarse on purpose, so that
            the difference is only reported.
    """

    rounding: Rounding
    most: float | None


def compare_answers(
    name: str, moved: Moved, received: Sequence[Mapping[str, Array]], origin: str
) -> tuple[Check, float | None]:
    """Compares what an artifact answers with what the model answers.

    Args:
        name: Of the check.
        moved: The model's side.
        received: An array per output, for each batch.
        origin: Where the batches are from, in a few words.

    Returns:
        The check, and the largest difference in units of the model's own rounding; None where there are no floats, and
        where they were made coarse.
    """
    faults: list[str] = []
    ratios: list[float] = []
    differences: list[float] = []
    for output in moved.rounding.answers[0]:
        pairs = [
            (before[output], after[output])
            for before, after in zip(moved.rounding.answers, received, strict=True)
            if output in after
        ]
        fault = _find_shape_fault(output, pairs, len(received))
        if fault:
            faults.append(fault)
        elif output in moved.rounding.unsteady:
            faults.append(
                f"the model's own {output} is another one each time, so that there is nothing to compare: declare an "
                "endpoint that draws no random numbers"
            )
        elif not is_floating(pairs[0][0]):
            faults += _compare_settled(output, moved, pairs)
        else:
            fault = _find_infinity_fault(output, pairs)
            if fault:
                faults.append(fault)
                continue
            distances = find_distances(*zip(*pairs, strict=True))
            differences.append(float(distances.max(initial=0.0)))
            if moved.most is not None:
                ratios.append(moved.rounding.measure(output).tell(distances))
    ratio = max(ratios, default=None)
    if ratio is not None and moved.most is not None and ratio > moved.most:
        faults.append(f"at most {moved.most:g} x rounding is allowed")
    largest = f"largest difference {max(differences, default=0.0):.1e}"
    if ratio is not None:
        figure, told = f"{ratio:.1f} x rounding" if ratio < _MANY else f"{ratio:.1e} x rounding", [largest]
    elif differences:
        figure, told = largest, ["quantised: judged on labelled data"]
    else:
        figure, told = ("differs" if faults else "equal"), []
    passed, detail = not faults, "; ".join([*faults, *told, origin])
    check = Check(name, passed, figure, detail, difference=max(differences, default=None), kind=CheckKind.OUTPUTS)
    return check, ratio


def _find_shape_fault(output: str, pairs: Sequence[tuple[Array, Array]], count: int) -> str:
    if len(pairs) < count:
        return f"{output} is missing"
    for before, after in pairs:
        if before.shape != after.shape:
            return f"{output} is {list(after.shape)} in place of {list(before.shape)}"
    return ""


def _find_infinity_fault(output: str, pairs: Sequence[tuple[Array, Array]]) -> str:
    if any((np.isfinite(before) & ~np.isfinite(after)).any() for before, after in pairs):
        return f"{output} has numbers that are not finite where the model's are"
    if any((~np.isfinite(before) & np.isfinite(after)).any() for before, after in pairs):
        return (
            f"{output} has finite numbers where the model's are not: not every runtime has infinities; take a "
            "large number in place of them, such as -1e9 in a mask"
        )
    if any(
        (~np.isfinite(before) & (before != after) & ~(np.isnan(before) & np.isnan(after))).any()
        for before, after in pairs
    ):
        return f"{output} has other numbers that are not finite than the model"
    return ""


def _compare_settled(output: str, moved: Moved, pairs: Sequence[tuple[Array, Array]]) -> list[str]:
    """Compares labels, counts and texts: equal, except where the model itself is at the edge of another answer."""
    wrong = [np.asarray(_to_plain(before) != _to_plain(after)) for before, after in pairs]
    if moved.most is None or not any(each.any() for each in wrong):
        return []
    unsettled = moved.rounding.find_unsettled(output, moved.most)
    count = sum(int((each & ~edge).sum()) for each, edge in zip(wrong, unsettled, strict=True))
    return [f"{output} has {count} other values"] if count else []


def _to_plain(values: Array) -> Array:
    return values.astype(np.bytes_) if values.dtype.kind in "OSU" else values
