"""Two sweeps beside each other: which jobs belong together, and what has changed from one to the other."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.sweeps.records.results import JobResult
from exporter.sweeps.tables.collecting import Sweep
from exporter.sweeps.tables.columns import Column
from exporter.sweeps.tables.parameters import find_swept, read_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of a job in both sweeps.

    Attributes:
        key: Of its column.
        title: Of its column, for a person.
        before: What the earlier sweep has, in words; empty where it has none.
        after: What the later one has.
        change: The later one by the earlier one, less 1; None where that says nothing.
        is_better: Whether the later one is the better; None where they are equal, or no figure is the better.
    """

    key: str
    title: str
    before: str
    after: str
    change: float | None
    is_better: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A job of two sweeps.

    Attributes:
        label: What tells it from the other jobs.
        before: What became of it in the earlier sweep; None where that had no such job.
        after: The same of the later one.
        figures: All that either has.
    """

    label: str
    before: str | None
    after: str | None
    figures: tuple[Figure, ...]


def pair_jobs(before: Sweep, after: Sweep) -> list[Pair]:
    """Pairs the jobs of two sweeps, in the order of the later one; those that only the earlier one has come last.

    Args:
        before: The earlier sweep.
        after: The later one.
    """
    swept = find_swept([row.overrides for sweep in (before, after) for row in sweep.rows])
    kept = {key for sweep in (before, after) for key in find_swept([row.overrides for row in sweep.rows])}
    keys = [key for key in swept if key in kept]
    rows = [{_word_key(row, keys): row for row in sweep.rows} for sweep in (before, after)]
    columns = {column.key: column for sweep in (before, after) for column in sweep.columns if column.is_shown}
    labels = dict.fromkeys([*rows[1], *rows[0]])
    return [_make_pair(label, rows[0].get(label), rows[1].get(label), columns) for label in labels]


def _word_key(row: JobResult, keys: list[str]) -> str:
    parameters = read_parameters(row.overrides)
    return " ".join(f"{key}={parameters[key]}" for key in keys if key in parameters) or "the job"


def _make_pair(label: str, before: JobResult | None, after: JobResult | None, columns: Mapping[str, Column]) -> Pair:
    figures = (_make_figure(column, before, after) for column in columns.values())
    return Pair(
        label=label,
        before=None if before is None else before.outcome.value,
        after=None if after is None else after.outcome.value,
        figures=tuple(figure for figure in figures if figure.before or figure.after),
    )


def _make_figure(column: Column, before: JobResult | None, after: JobResult | None) -> Figure:
    sides = [row if row is not None and row.is_finished else None for row in (before, after)]
    values = [None if row is None else column.read(row) for row in sides]
    judged = [None if row is None else column.find_figure(row) for row in sides]
    first, last = values
    change = None
    if isinstance(first, (int, float)) and isinstance(last, (int, float)) and first and math.isfinite(last / first):
        change = last / first - 1
    is_better = None
    if judged[0] is not None and judged[1] is not None and judged[0] != judged[1]:
        is_better = judged[1] < judged[0]
    words = ["" if row is None else column.write(row) for row in sides]
    return Figure(
        key=column.key,
        title=column.title.replace("\n", " "),
        before=words[0],
        after=words[1],
        change=change,
        is_better=is_better,
    )
