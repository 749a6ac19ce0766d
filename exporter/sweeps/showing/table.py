"""The table of a sweep in the terminal."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from exporter.sweeps.records.results import LOG, JobResult, Outcome
from exporter.sweeps.showing.collecting import Sweep
from exporter.sweeps.showing.columns import Column
from exporter.sweeps.showing.comparing import describe_beside, describe_measuring, join_numbers
from exporter.sweeps.showing.files import CSV, JSON
from exporter.sweeps.showing.words import FRONT_MARK, MARKS, leave_keys_out, name_keys, word_front
from exporter.text.page import escape_markup, make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


# More winners than this are told by their numbers.
_NAMED = 3


def print_table(sweep: Sweep, report: str, stream: TextIO | None = None) -> None:
    """Prints the table, the winners, and the command of each job.

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
    startable = [row for row in sweep.rows if row.outcome is not Outcome.REFUSED]
    for row in startable:
        console.print(
            f"[dim]{'run one again' if row is startable[0] else '':<14}{row.number:>3}[/]  "
            f"[cyan]{escape_markup(sweep.word_command(row))}[/]",
            soft_wrap=True,
        )
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

    unbound = console.options.update(width=10 * console.width)
    shown, left_out = list(columns), list[Column]()
    short = [leave_keys_out(label) for label in sweep.labels]
    heading = name_keys(sweep.labels)
    for title, labels, padding in (("job", sweep.labels, 2), ("job", sweep.labels, 1), (heading, short, 1)):
        table = _build_table(sweep, winners, shown, title, labels, padding)
        if Measurement.get(console, unbound, table).maximum <= console.width:
            return table, left_out
    while len(shown) > 1 and Measurement.get(console, unbound, table).maximum > console.width:
        dropped = max(shown, key=lambda column: column.rank)
        shown.remove(dropped)
        left_out.append(dropped)
        table = _build_table(sweep, winners, shown, heading, short, 1)
    return table, [column for column in columns if column in left_out]


def _print_winners(sweep: Sweep, winners: Mapping[str, Sequence[int]], console: "Console") -> None:
    labels = dict(zip((row.number for row in sweep.rows), sweep.labels, strict=True))
    rows = {row.number: row for row in sweep.rows}
    for column in sweep.columns:
        if column.key in winners and column.is_shown:
            numbers = winners[column.key]
            names = ", ".join(labels[number] for number in numbers) if len(numbers) <= _NAMED else join_numbers(numbers)
            console.print(
                f"[dim]{column.best:<22}[/]{escape_markup(names)}  {column.write(rows[numbers[0]])}",
                soft_wrap=True,
                highlight=False,
            )
    if sweep.front:
        console.print(
            f"[bold cyan]{FRONT_MARK}[/][dim]{'':<21}{word_front(sweep.has_scores)}[/]", soft_wrap=True, highlight=False
        )


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
    title: str,
    labels: Sequence[str],
    padding: int,
) -> "Table":
    """Lays the rows out, with a number of blanks between the columns."""
    from rich.table import Table

    front = sweep.front
    table = Table(box=None, padding=(0, padding, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("#", justify="right")
    if front:
        table.add_column("", style="bold cyan")
    table.add_column(title, overflow="fold")
    table.add_column("status", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="left" if column.is_text else "right", no_wrap=True)
    for row, label in zip(sweep.rows, labels, strict=True):
        cells = []
        for column in columns:
            text = escape_markup(column.write(row))
            cells.append(f"[bold green]{text}[/]" if row.number in winners.get(column.key, ()) else text)
        marks = [FRONT_MARK if row.number in front else ""] if front else []
        table.add_row(str(row.number), *marks, escape_markup(label), f"{MARKS[row.outcome]} {row.outcome}", *cells)
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
