"""What the rows of a sweep are beside each other: which no other one beats, and which ran at the same time."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from exporter.sweeps.records.results import JobResult

# Numbers of jobs that follow each other are listed up to here, and the first and the last of more are told.
_SHORT_RUN = 2


def find_front(points: Sequence[tuple[float | None, ...]]) -> list[int]:
    """Finds the Pareto front: the points that no other one is at least as good as in all figures.

    Args:
        points: As many figures each, the smaller the better; None where one is not known: such a point is compared by
            the others.

    Returns:
        The indices of the points on the front, by the first figure.
    """
    front = []
    for index, point in enumerate(points):
        if not any(_beats(other, point) or (other == point and number < index) for number, other in enumerate(points)):
            front.append(index)
    return sorted(front, key=lambda index: [(figure is None, figure) for figure in points[index]])


def _beats(one: tuple[float | None, ...], other: tuple[float | None, ...]) -> bool:
    """Whether a point is nowhere worse than another, and somewhere better."""
    pairs = [(mine, its) for mine, its in zip(one, other, strict=True) if mine is not None and its is not None]
    return all(mine <= its for mine, its in pairs) and any(mine < its for mine, its in pairs)


def find_best_rows(rows: Sequence[JobResult]) -> list[int]:
    """Finds the measured rows with an artifact that no other one beats in bytes, median latency and accuracy at once.

    Args:
        rows: The rows of a sweep; where they are scored by several metrics, the score does not count.

    Returns:
        Their numbers, by bytes.
    """
    measured = [row for row in rows if row.receipt is not None and row.measurements is not None]
    is_one = len({row.score.metric for row in measured if row.score is not None}) == 1
    points = [
        (
            float(row.receipt.total_bytes) if row.receipt else None,
            row.measurements.median_seconds if row.measurements else None,
            row.error_rate if is_one else None,
        )
        for row in measured
    ]
    return [measured[index].number for index in find_front(points)]


def find_beside(rows: Sequence[JobResult]) -> dict[int, tuple[int, ...]]:
    """Finds which jobs ran on the same machine while a measured one did.

    Args:
        rows: The rows of a sweep.

    Returns:
        Number of a measured job -> the numbers of the others, for those that were not alone.
    """
    spans = {row.number: span for row in rows if (span := _find_span(row)) is not None}
    found = {}
    for row in rows:
        if row.measurements is not None and row.number in spans:
            host, begin, end = spans[row.number]
            others = tuple(
                number
                for number, (its_host, its_begin, its_end) in spans.items()
                if number != row.number and its_host == host and its_begin < end and begin < its_end
            )
            if others:
                found[row.number] = others
    return found


def _find_span(row: JobResult) -> tuple[str, datetime, datetime] | None:
    if not (row.host and row.started and row.finished):
        return None
    return row.host, datetime.fromisoformat(row.started), datetime.fromisoformat(row.finished)


def describe_measuring(rows: Sequence[JobResult]) -> list[tuple[str, list[int]]]:
    """Says with what, and on what, deployed artifacts and those beside them were measured.

    Args:
        rows: The rows of a sweep.

    Returns:
        Reader with its threads, batch, processor and the processor's int8 instructions, each time with the numbers of
        the jobs; empty where no deployed artifact was measured.
    """
    if not any(row.receipt.deployment is not None for row in rows if row.receipt and row.measurements):
        return []
    groups: dict[str, list[int]] = {}
    for row in rows:
        if row.receipt is not None and row.measurements is not None:
            machine, measured = row.receipt.machine, row.measurements
            int8 = machine.int8_instructions
            known = "not known" if int8 is None else ", ".join(int8) or "none"
            words = f"{measured.reader}, batch of {measured.batch_size}, on {machine.processor} (int8: {known})"
            groups.setdefault(words, []).append(row.number)
    return list(groups.items())


def describe_beside(beside: Mapping[int, Sequence[int]]) -> str:
    """Says which jobs were not measured alone; empty where all were."""
    if not beside:
        return ""
    numbers = join_numbers(list(beside))
    return f"{numbers}: measured while other jobs ran on the same machine; alone they may be faster"


def join_numbers(numbers: Sequence[int]) -> str:
    """Returns `job 2`, `jobs 0, 1` or `jobs 0-3, 5`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = (f"{run[0]}-{run[-1]}" if len(run) > _SHORT_RUN else ", ".join(map(str, run)) for run in runs)
    return f"job{'s' if len(numbers) > 1 else ''} {', '.join(words)}"
