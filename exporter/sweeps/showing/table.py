"""The table of a sweep: assembled from the rows on the disk, whatever happened to the processes that wrote them."""

import csv
import io
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from exporter.errors import ArtifactError
from exporter.saving.contents import format_bytes
from exporter.storage.own_files import read_bytes
from exporter.storage.staging import replace_text
from exporter.sweeps.records.plans import Plan
from exporter.sweeps.records.progress import read_progress
from exporter.sweeps.records.results import (
    EXIT_CODES,
    LOG,
    ROW,
    STOPPED,
    JobResult,
    Outcome,
    SweepJob,
    describe_death,
    describe_missing,
    load_row,
)
from exporter.sweeps.showing.words import MARKS, format_seconds, shorten_overrides
from exporter.text.page import escape_markup, make_console
from exporter.text.printable import escape
from exporter.text.showing import find_first_line, write_json

if TYPE_CHECKING:
    from rich.table import Table

JSON = "sweep.json"
CSV = "sweep.csv"

_LONGEST_REASON = 10_000
_DIGITS = 10  # no number of a job has as many

# With what a spreadsheet takes a cell for a formula, also in full width; and with what we say that it is none.
_COMPUTED = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a row that is the better the smaller it is.

    Attributes:
        key: Its name in the files.
        title: Its name for a person.
        best: What the row with the smallest is.
        read: Gives the figure of a row, or None.
        word: Writes the figure for a person.
        is_shown: Whether the table in the terminal, which is narrow, has it.
    """

    key: str
    title: str
    best: str
    read: Callable[[JobResult], float | None]
    word: Callable[[float], str]
    is_shown: bool = True


def _read_measured(name: str) -> Callable[[JobResult], float | None]:
    return lambda row: None if row.measurements is None else getattr(row.measurements, name)


def word_difference(value: float) -> str:
    """Words a largest difference."""
    return "bit-equal" if value == 0 else f"{value:.1e}"


COLUMNS = (
    Column("total_bytes", "bytes", "smallest", lambda row: row.total_bytes, format_bytes),
    Column("save_seconds", "save", "fastest to save", lambda row: row.save_seconds, format_seconds),
    Column("load_seconds", "load", "fastest to load", _read_measured("load_seconds"), format_seconds),
    Column("first_seconds", "first", "fastest first answer", _read_measured("first_seconds"), format_seconds),
    Column("median_seconds", "median", "lowest latency", _read_measured("median_seconds"), format_seconds),
    Column("p90_seconds", "p90", "lowest p90", _read_measured("p90_seconds"), format_seconds, is_shown=False),
    Column("p99_seconds", "p99", "lowest p99", _read_measured("p99_seconds"), format_seconds),
    Column("memory_bytes", "memory", "least memory", _read_measured("memory_bytes"), format_bytes),
    Column(
        "export_memory_bytes",
        "export memory",
        "least memory to export",
        lambda row: row.peak_memory_bytes,
        format_bytes,
        False,
    ),
    Column("output_difference", "outputs", "closest outputs", lambda row: row.output_difference, word_difference),
    Column(
        "state_difference", "state", "closest state", lambda row: row.state_difference, word_difference, is_shown=False
    ),
)


@dataclass(frozen=True, slots=True)
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
        """The worst of the jobs' own."""
        return max((row.exit_code for row in self.rows), key=EXIT_CODES.index, default=0)

    def count(self, outcome: Outcome) -> int:
        """Counts the jobs with an outcome."""
        return sum(row.outcome is outcome for row in self.rows)

    def find_winners(self) -> dict[str, list[int]]:
        """Finds the best of each column.

        Returns:
            Key of the column -> the numbers of the jobs that share the smallest figure; a column in which all are
            equal, or only one has a figure, has no winner.
        """
        winners = {}
        for column in COLUMNS:
            figures = {row.number: column.read(row) for row in self.rows if row.is_finished}
            known = {
                number: figure for number, figure in figures.items() if figure is not None and math.isfinite(figure)
            }
            if len(set(known.values())) > 1:
                winners[column.key] = [number for number, figure in known.items() if figure == min(known.values())]
        return winners

    def word_command(self, row: JobResult) -> str:
        """Returns the command line that runs the job of a row alone."""
        return shlex.join(["exporter", *self.plan.job_command, *row.overrides])

    def find_directory(self, row: JobResult) -> Path:
        """Returns the directory of the job of a row."""
        cells = {cell.number: cell.directory for cell in self.plan.cells}
        return Path(cells.get(row.number, str(Path(self.plan.directory) / str(row.number))))


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


def write_table(sweep: Sweep) -> None:
    """Writes `sweep.json` and `sweep.csv` into the sweep's directory.

    Args:
        sweep: The sweep.

    Raises:
        OSError: The file system refused.
    """
    directory = Path(sweep.plan.directory)
    content = {
        **asdict(sweep.plan),
        "exit_code": sweep.exit_code,
        "winners": sweep.find_winners(),
        "rows": [
            {
                **asdict(row),
                "command": sweep.word_command(row),
                "directory": str(sweep.find_directory(row)),
            }
            for row in sweep.rows
        ],
    }
    del content["cells"]
    replace_text(directory / JSON, write_json(_spell_figures(content)))
    replace_text(directory / CSV, _write_csv(sweep))


def _spell_figures(value: Any) -> Any:
    """Writes as a text what is no number in JSON: a difference may be infinite, or not a number."""
    if isinstance(value, Mapping):
        return {key: _spell_figures(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell_figures(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(sweep: Sweep) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("number", "overrides", "outcome", "error", "format", "filepath", "sha256", "resumes", "host")
    writer.writerow([*names, *(column.key for column in COLUMNS), "held", "left_out", "command"])
    for row in sweep.rows:
        plain = {**asdict(row), "overrides": " ".join(row.overrides)}
        cells = [
            *(plain[name] for name in names),
            *(column.read(row) for column in COLUMNS),
            "; ".join(holding.what for holding in row.held),
            "; ".join(left_out.what for left_out in row.left_out),
            sweep.word_command(row),
        ]
        writer.writerow(map(_neutralise, cells))
    return text.getvalue()


def _neutralise(cell: Any) -> Any:
    """Keeps a spreadsheet from computing a text, as OWASP advises against CSV injection; numbers stay numbers.

    An apostrophe before it says that it is one. Whoever reads the file with a program takes one apostrophe away from
    each text that begins with it, and has the text as it was, with what is not printable escaped.
    """
    if not isinstance(cell, str):
        return cell
    text = escape(cell)
    return f"'{text}" if text.startswith(_COMPUTED) else text


def print_table(sweep: Sweep, report: str, stream: TextIO | None = None) -> None:
    """Prints the table, the winners, and the command of each job.

    Args:
        sweep: The sweep.
        report: Where its page is, or why there is none.
        stream: Where to print; None for the standard output.
    """
    from rich.measure import Measurement

    console = make_console(stream or sys.stdout)
    winners = sweep.find_winners()
    table = _build_table(sweep, winners, 2)
    unbound = console.options.update(width=10 * console.width)
    if Measurement.get(console, unbound, table).maximum > console.width:
        table = _build_table(sweep, winners, 1)
    console.print()
    console.print(f"[bold]{_word_outcomes(sweep)}[/]", soft_wrap=True)
    console.print()
    for segments in console.render_lines(table, pad=False):
        from rich.text import Text

        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        console.print(line, soft_wrap=True)
    console.print()
    labels = dict(zip((row.number for row in sweep.rows), sweep.labels, strict=True))
    for column in COLUMNS:
        if column.key in winners and column.is_shown:
            numbers = winners[column.key]
            names = ", ".join(labels[number] for number in numbers)
            figure = next(column.read(row) for row in sweep.rows if row.number == numbers[0])
            console.print(
                f"[dim]{column.best:<22}[/]{escape_markup(names)}  {column.word(figure or 0)}",
                soft_wrap=True,
                highlight=False,
            )
    failures = [row for row in sweep.rows if row.outcome in (Outcome.FAILED, Outcome.MISSING)]
    if winners:
        console.print()
    for row in failures:
        where = (
            f"  [dim]{escape_markup(str(sweep.find_directory(row) / LOG))}[/]" if row.outcome is Outcome.FAILED else ""
        )
        console.print(f"{MARKS[row.outcome]} {row.number}  {escape_markup(row.error)}{where}", soft_wrap=True)
    if failures:
        console.print()
    for row in sweep.rows:
        console.print(
            f"[dim]{'run one again' if row is sweep.rows[0] else '':<14}{row.number:>3}[/]  "
            f"[cyan]{escape_markup(sweep.word_command(row))}[/]",
            soft_wrap=True,
        )
    directory = Path(sweep.plan.directory)
    console.print(f"[dim]{'table':<14}[/]{escape_markup(str(directory / JSON))}, {CSV}", soft_wrap=True)
    console.print(f"[dim]{'report':<14}[/]{escape_markup(report)}", soft_wrap=True)
    console.print()


def _build_table(sweep: Sweep, winners: Mapping[str, Sequence[int]], padding: int) -> "Table":
    """Lays the rows out, with a number of blanks between the columns."""
    from rich.table import Table

    shown = [column for column in COLUMNS if column.is_shown]
    table = Table(box=None, padding=(0, padding, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("job", overflow="fold")
    table.add_column("status", no_wrap=True)
    for column in shown:
        table.add_column(column.title, justify="right", no_wrap=True)
    table.add_column("resumes", no_wrap=True)
    for row, label in zip(sweep.rows, sweep.labels, strict=True):
        figures = []
        for column in shown:
            figure = column.read(row)
            text = "" if figure is None else column.word(figure)
            figures.append(f"[bold green]{text}[/]" if row.number in winners.get(column.key, ()) else text)
        resumes = {True: "exactly", False: "no", None: ""}[row.resumes]
        table.add_row(str(row.number), escape_markup(label), f"{MARKS[row.outcome]} {row.outcome}", *figures, resumes)
    return table


def _word_outcomes(sweep: Sweep) -> str:
    words = {
        Outcome.PROVEN: "proven",
        Outcome.WRITTEN: "written but not proven",
        Outcome.FAILED: "failed",
        Outcome.MISSING: "not run",
    }
    counts = [f"{sweep.count(outcome)} {word}" for outcome, word in words.items() if sweep.count(outcome)]
    plural: Sequence[JobResult] = sweep.rows
    return f"{len(plural)} job{'s' if len(plural) != 1 else ''}: {', '.join(counts)}"
