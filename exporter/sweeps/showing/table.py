"""The table of a sweep in the terminal."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from exporter.sweeps.records.results import LOG, JobResult, Outcome
from exporter.sweeps.showing.files import CSV, JSON
from exporter.sweeps.tables.collecting import Sweep
from exporter.sweeps.tables.columns import Column
from exporter.sweeps.tables.comparing import describe_beside, describe_measuring, join_numbers
from exporter.sweeps.tables.parameters import shorten_keys
from exporter.sweeps.tables.words import FRONT_MARK, MARKS, word_front
from exporter.text.page import escape_markup, make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


# More winners than this are told by their numbers.
_NAMED = 3


def print_table(sweep: Sweep, report: str, stream: TextIO | None = None) -> None:
    """Prints the table, the winners, why jobs have no artifact, and the line that goes on with these.

    Args:
        sweep: The sweep.
        report: Where its page is, or why there is none.
        stream: Where to print; None for the standard output.
    """
    console = make_console(stream or sys.stdout)
    winners = sweep.find_winners()
    console.print()
    console.print(f"[bold]{_word_outcomes(sweep)}[/]", soft_wrap=True)
    if sweep.is_all_refused:
        console.print("nothing was exported: each job asks for what its format does not have", soft_wrap=True)
    console.print()
    left_out = _print_rows(sweep, winners, console)
    console.print()
    _print_winners(sweep, winners, console)
    _print_conditions(sweep, console)
    if winners or sweep.front:
        console.print()
    reasons = [row for row in sweep.rows if row.receipt is None]
    for row in reasons:
        where = (
            f"  [dim]{escape_markup(str(sweep.find_directory(row) / LOG))}[/]" if row.outcome is Outcome.FAILED else ""
        )
        console.print(f"{MARKS[row.outcome]} {row.number}  {escape_markup(row.error)}{where}", soft_wrap=True)
    if reasons:
        console.print()
    if sweep.is_incomplete:
        console.print(f"[dim]{'go on':<14}[/][cyan]{escape_markup(sweep.word_resumption())}[/]", soft_wrap=True)
    directory = Path(sweep.plan.directory)
    too_narrow = f"  [dim](with {', '.join(left_out)}, for which there is no room above)[/]" if left_out else ""
    files = f"{escape_markup(str(directory / JSON))}, {CSV}"
    console.print(f"[dim]{'table':<14}[/]{files}{too_narrow}", soft_wrap=True)
    console.print(f"[dim]{'report':<14}[/]{escape_markup(report)}", soft_wrap=True)
    console.print()


def _print_rows(sweep: Sweep, winners: Mapping[str, Sequence[int]], console: "Console") -> list[str]:
    """Prints the rows; returns the titles of the columns for which the terminal is too narrow."""
    from rich.text import Text

    shown = [column for column in sweep.columns if column.is_shown]
    table, left_out = _fit_table(sweep, winners, shown, console)
    for segments in console.render_lines(table, pad=False):
        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        console.print(line, soft_wrap=True)
    return [column.title.replace("\n", " ") for column in left_out]


def _fit_table(
    sweep: Sweep, winners: Mapping[str, Sequence[int]], columns: Sequence[Column], console: "Console"
) -> "tuple[Table, list[Column]]":
    """Lays the rows out in the width of the terminal: with fewer blanks, then without what is least needed."""
    from rich.measure import Measurement

    def is_too_wide(table: "Table") -> bool:
        return Measurement.get(console, unbound, table).maximum > console.width

    unbound = console.options.update(width=10 * console.width)
    shown, left_out = list(columns), list[Column]()
    keys = [column.title for column in sweep.parameters]
    for titles, padding in ((keys, 2), (keys, 1), (shorten_keys(keys), 1)):
        table = _build_table(sweep, winners, shown, titles, padding)
        if not is_too_wide(table):
            return table, left_out
    while len(shown) > 1 and is_too_wide(table):
        dropped = max(shown, key=lambda column: column.rank)
        shown.remove(dropped)
        left_out.append(dropped)
        table = _build_table(sweep, winners, shown, shorten_keys(keys), 1)
    return table, [column for column in columns if column in left_out]


def _print_winners(sweep: Sweep, winners: Mapping[str, Sequence[int]], console: "Console") -> None:
    columns = [column for column in sweep.columns if column.key in winners and column.is_shown]
    for model, rows in sweep.models.items():
        if model:
            _print_winners_of(model, rows, columns, winners, sweep, console)
            continue
        for column in columns:
            numbers = winners[column.key]
            best = next(row for row in rows if row.number in numbers)
            console.print(
                f"[dim]{column.best:<22}[/]{escape_markup(sweep.name_jobs(numbers, _NAMED))}  {column.write(best)}",
                soft_wrap=True,
                highlight=False,
            )
    if sweep.front:
        words = word_front(sweep.has_scores, len(sweep.models) > 1)
        console.print(f"[bold cyan]{FRONT_MARK}[/][dim]{'':<21}{words}[/]", soft_wrap=True, highlight=False)


def _print_winners_of(
    model: str,
    rows: Sequence[JobResult],
    columns: Sequence[Column],
    winners: Mapping[str, Sequence[int]],
    sweep: Sweep,
    console: "Console",
) -> None:
    """Prints, of one model of several, which job is the best in what."""
    titles: dict[str, list[str]] = {}
    for column in columns:
        numbers = [row.number for row in rows if row.number in winners[column.key]]
        if numbers:
            titles.setdefault(sweep.name_jobs(numbers, _NAMED), []).append(column.best)
    if titles:
        console.print(f"[bold]{escape_markup(model)}[/]", soft_wrap=True, highlight=False)
    for names, best in titles.items():
        console.print(f"  {escape_markup(names)}  [dim]{', '.join(best)}[/]", soft_wrap=True, highlight=False)


def _print_conditions(sweep: Sweep, console: "Console") -> None:
    """Says what the latencies were measured with, and which of them beside other jobs."""
    groups, beside = describe_measuring(sweep.rows), describe_beside(sweep.beside)
    if groups or beside:
        console.print()
    for words, numbers in groups:
        console.print(
            f"[dim]{'measured':<14}[/]{escape_markup(words)}[dim]: {join_numbers(numbers)}[/]",
            soft_wrap=True,
            highlight=False,
        )
    if beside:
        console.print(f"[bold yellow]![/][dim]{'':<13}[/]{beside}", soft_wrap=True, highlight=False)


def _build_table(
    sweep: Sweep,
    winners: Mapping[str, Sequence[int]],
    columns: Sequence[Column],
    titles: Sequence[str],
    padding: int,
) -> "Table":
    """Lays the rows out, with a number of blanks between the columns."""
    from rich.table import Table

    front, parameters = sweep.front, sweep.parameters
    table = Table(box=None, padding=(0, padding, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("#", justify="right")
    if front:
        table.add_column("", style="bold cyan")
    for column, title in zip(parameters, titles, strict=True):
        table.add_column(escape_markup(title), justify="left" if column.is_text else "right", overflow="fold")
    if not parameters:
        table.add_column("job", overflow="fold")
    table.add_column("status", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="left" if column.is_text else "right", no_wrap=True)
    for row, label in zip(sweep.rows, sweep.labels, strict=True):
        cells = []
        for column in columns:
            text = escape_markup(column.write(row))
            cells.append(f"[bold green]{text}[/]" if row.number in winners.get(column.key, ()) else text)
        marks = [FRONT_MARK if row.number in front else ""] if front else []
        names = [escape_markup(column.write(row)) for column in parameters] or [escape_markup(label)]
        table.add_row(str(row.number), *marks, *names, f"{MARKS[row.outcome]} {row.outcome}", *cells)
    return table


def _word_outcomes(sweep: Sweep) -> str:
    words = {
        Outcome.PROVEN: "proven",
        Outcome.WRITTEN: "written but not proven",
        Outcome.REFUSED: "refused",
        Outcome.FAILED: "failed",
        Outcome.MISSING: "not run",
    }
    counts = [f"{sweep.count(outcome)} {word}" for outcome, word in words.items() if sweep.count(outcome)]
    plural: Sequence[JobResult] = sweep.rows
    return f"{len(plural)} job{'s' if len(plural) != 1 else ''}: {', '.join(counts)}"
