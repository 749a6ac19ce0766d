"""The rows of a sweep, read from the disk, whatever happened to the processes that wrote them."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from exporter.errors import ArtifactError, UsageError
from exporter.storage.own_files import read_bytes
from exporter.sweeps.records.plans import Plan
from exporter.sweeps.records.progress import read_progress
from exporter.sweeps.records.results import (
    EXIT_CODES,
    ROW,
    STOPPED,
    JobResult,
    Outcome,
    SweepJob,
    describe_death,
    describe_missing,
    load_row,
)
from exporter.sweeps.tables.columns import Column, list_columns, list_parameters
from exporter.sweeps.tables.comparing import find_beside, find_best_rows, join_numbers
from exporter.sweeps.tables.parameters import find_naming, find_swept, name_model, read_parameters
from exporter.sweeps.tables.words import shorten_overrides
from exporter.text.showing import find_first_line

_LONGEST_REASON = 10_000
_DIGITS = 10  # no number of a job has as many


@dataclass(frozen=True)
class Sweep:
    """A sweep with its rows.

    Attributes:
        plan: What was to be done.
        rows: What became of it, by the jobs' numbers.
        labels: A short name for each row.
    """

    plan: Plan
    rows: tuple[JobResult, ...]
    labels: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """The worst of the jobs' own; those that were refused only count where nothing else was asked for."""
        if self.is_all_refused:
            return UsageError.exit_code
        counting = (row.exit_code for row in self.rows if row.outcome is not Outcome.REFUSED)
        return max(counting, key=EXIT_CODES.index, default=0)

    @property
    def is_all_refused(self) -> bool:
        """Whether no job asked for what its format has."""
        return bool(self.rows) and self.count(Outcome.REFUSED) == len(self.rows)

    @cached_property
    def parameters(self) -> list[Column]:
        """A column for each key that the jobs differ in."""
        return list_parameters(self.rows)

    @cached_property
    def columns(self) -> list[Column]:
        """The other columns that say something to a person."""
        return list_columns(self.rows)

    @cached_property
    def models(self) -> dict[str, list[JobResult]]:
        """Name of a model -> its rows: an artifact is compared with others of its model.

        One, without a name, where one model alone has artifacts, or none has two.
        """
        swept = find_swept([row.overrides for row in self.rows])
        models: dict[str, list[JobResult]] = {}
        for row in self.rows:
            models.setdefault(name_model(read_parameters(row.overrides), swept), []).append(row)
        counts = [count for rows in models.values() if (count := sum(row.is_finished for row in rows))]
        return models if len(counts) > 1 and max(counts) > 1 else {"": list(self.rows)}

    @cached_property
    def front(self) -> list[int]:
        """The numbers of the jobs that no other one of their model beats in bytes, median latency and accuracy at once.

        Without the models of which fewer than two were measured.
        """
        measured = ([row for row in rows if row.measurements is not None] for rows in self.models.values())
        return [number for rows in measured if len(rows) > 1 for number in find_best_rows(rows)]

    @property
    def has_scores(self) -> bool:
        """Whether a job was judged on labelled data."""
        return any(row.score is not None for row in self.rows)

    @cached_property
    def beside(self) -> dict[int, tuple[int, ...]]:
        """Number of a job that was not measured alone -> those that ran on the same machine meanwhile."""
        return find_beside(self.rows)

    def count(self, outcome: Outcome) -> int:
        """Counts the jobs with an outcome."""
        return sum(row.outcome is outcome for row in self.rows)

    def find_winners(self) -> dict[str, list[int]]:
        """Finds the best of each column.

        Returns:
            Key of the column -> the numbers of the jobs with an artifact that share the best figure of their model; a
            model of which all are equal, or only one has a figure, has no winner.
        """
        models = self.models.values()
        found = {
            column.key: [number for rows in models for number in _find_best(column, rows)] for column in self.columns
        }
        return {key: numbers for key, numbers in found.items() if numbers}

    def name_jobs(self, numbers: Sequence[int], most: int) -> str:
        """Names jobs by what tells them apart from others of their model.

        Args:
            numbers: Of the jobs.
            most: Of how many the names are told; more are told by their numbers.
        """
        return join_numbers(numbers) if len(numbers) > most else ", ".join(self._names[number] for number in numbers)

    @cached_property
    def _names(self) -> dict[int, str]:
        """Number of a job -> what tells it apart from others of its model."""
        names = dict(zip((row.number for row in self.rows), self.labels, strict=True))
        if list(self.models) != [""]:
            swept = find_swept([row.overrides for row in self.rows])
            for row in self.rows:
                parameters = read_parameters(row.overrides)
                naming = find_naming(parameters, swept)
                own = (key for key in swept if key in parameters and key not in naming)
                names[row.number] = " ".join(f"{key}={parameters[key]}" for key in own) or names[row.number]
        return names

    def word_command(self, row: JobResult) -> str:
        """Returns the command line that runs the job of a row alone."""
        return shlex.join(["exporter", *self.plan.job_command, *row.overrides])

    @property
    def is_incomplete(self) -> bool:
        """Whether jobs that were planned have failed, or were not run: they can be run again."""
        return bool(self.plan.cells) and bool(self.count(Outcome.FAILED) or self.count(Outcome.MISSING))

    def word_resumption(self) -> str:
        """Returns the command line that runs the jobs again that have no artifact, and no other one."""
        others = (each for each in self.plan.command if each.partition("=")[0] != "resume")
        return shlex.join(["exporter", *others, "resume=true"])

    def find_directory(self, row: JobResult) -> Path:
        """Returns the directory of the job of a row."""
        cells = {cell.number: cell.directory for cell in self.plan.cells}
        return Path(cells.get(row.number, str(Path(self.plan.directory) / str(row.number))))


def _find_best(column: Column, rows: Sequence[JobResult]) -> list[int]:
    figures = {row.number: column.find_figure(row) for row in rows if row.is_finished}
    known = {number: figure for number, figure in figures.items() if figure is not None and math.isfinite(figure)}
    if len(set(known.values())) < 2:
        return []
    return [number for number, figure in known.items() if figure == min(known.values())]


def collect(plan: Plan, was_interrupted: bool = False) -> Sweep:
    """Reads the rows of a sweep.

    Args:
        plan: The sweep; where it names no jobs, every row below its directory belongs to it.
        was_interrupted: Whether that is why a job may have no row.

    Returns:
        A row for each job: one that has written none has ended without a result, or was not run.
    """
    rows = [_find_row(cell, plan, was_interrupted) for cell in plan.cells]
    if not plan.cells:
        found = [_read_found(file.parent) for file in Path(plan.directory).glob(f"*/{ROW}")]
        rows = sorted((row for row in found if row is not None), key=lambda row: row.number)
    return Sweep(plan, tuple(rows), tuple(shorten_overrides([row.overrides for row in rows])))


def _read_found(directory: Path) -> JobResult | None:
    """Reads the row of a job that no plan names: a sweeper has chosen it, and its directory has its number."""
    number = int(directory.name) if directory.name.isdecimal() and len(directory.name) < _DIGITS else None
    try:
        row = load_row(directory)
    except ArtifactError as error:
        cell = SweepJob(
            number=number or 0, overrides=(), recipe_hash="", filepath="", format="tf", directory=str(directory)
        )
        return describe_death(cell, str(error))
    return row if row is None or number is None else replace(row, number=number)


def _find_row(cell: SweepJob, plan: Plan, was_interrupted: bool) -> JobResult:
    directory = Path(cell.directory)
    try:
        row = load_row(directory)
    except ArtifactError as error:
        return describe_death(cell, str(error))
    if row is not None and row.recipe_hash == cell.recipe_hash:
        return replace(row, number=cell.number, overrides=cell.overrides)  # whatever the file says of them
    progress = read_progress(directory)
    if progress is not None:
        during = f" during `{progress.phase}`" if progress.phase else ""
        how = f"interrupted{during}" if was_interrupted else f"ended without a result{during} (killed?)"
        return describe_death(cell, how, progress.host, progress.started)
    try:
        why = find_first_line(read_bytes(Path(plan.directory) / STOPPED, _LONGEST_REASON).decode(errors="replace"))
    except OSError:
        why = "not run"
    return describe_missing(cell, why)
