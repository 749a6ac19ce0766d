"""Two sweeps beside each other in the terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from exporter.sweeps.records.results import Outcome
from exporter.sweeps.tables.collecting import Sweep
from exporter.sweeps.tables.pairs import Figure, Pair
from exporter.sweeps.tables.words import MARKS
from exporter.text.page import escape_markup, make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLORS = {True: "green", False: "red", None: "dim"}
_LARGEST_CHANGE = 10  # from here on, how many times as much it is


def print_comparison(before: Sweep, after: Sweep, pairs: Sequence[Pair], stream: TextIO | None = None) -> None:
    """Prints what each job has in the later sweep, and below it what that was before.

    Args:
        before: The earlier sweep.
        after: The later one.
        pairs: Their jobs; see `pair_jobs`.
        stream: Where to print; None for the standard output.
    """
    console = make_console(stream or sys.stdout)
    console.print()
    for title, sweep in (("before", before), ("after", after)):
        console.print(f"[dim]{title:<8}[/]{escape_markup(sweep.plan.directory)}", soft_wrap=True)
    console.print()
    left_out = _print_pairs(pairs, console)
    console.print()
    better, worse = ([pair.label for pair in pairs if _holds(pair, is_better)] for is_better in (True, False))
    console.print(f"{len(better)} of {len(pairs)} jobs are better in a figure, {len(worse)} worse", soft_wrap=True)
    if before.plan.machine != after.plan.machine or before.plan.host != after.plan.host:
        console.print("[bold yellow]![/] seconds were measured on different machines", soft_wrap=True)
    if left_out:
        console.print(f"[dim]no room for: {escape_markup(', '.join(left_out))}; --json has all[/]", soft_wrap=True)
    console.print()


def _holds(pair: Pair, is_better: bool) -> bool:
    return any(figure.is_better is is_better for figure in pair.figures)


def _print_pairs(pairs: Sequence[Pair], console: "Console") -> list[str]:
    """Prints the table; returns the titles of the columns for which the terminal is too narrow."""
    from rich.measure import Measurement

    titles = dict.fromkeys((figure.key, figure.title) for pair in pairs for figure in pair.figures)
    shown, left_out = list(titles), list[str]()
    unbound = console.options.update(width=10 * console.width)
    table = _build_table(pairs, shown)
    while len(shown) > 1 and Measurement.get(console, unbound, table).maximum > console.width:
        left_out.insert(0, shown.pop()[1])
        table = _build_table(pairs, shown)
    console.print(table)
    return left_out


def _build_table(pairs: Sequence[Pair], columns: Sequence[tuple[str, str]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("job", overflow="fold")
    table.add_column("status", no_wrap=True)
    for _, title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for pair in pairs:
        figures = {figure.key: figure for figure in pair.figures}
        cells = [_write_cell(figures[key]) if key in figures else "" for key, _ in columns]
        table.add_row(escape_markup(pair.label), _write_status(pair), *cells)
    return table


def _write_status(pair: Pair) -> str:
    before, after = (f"{MARKS[Outcome(each)]} {each}" if each else "" for each in (pair.before, pair.after))
    if not before or not after:
        return f"{before or after}\n[dim]{'gone' if before else 'new'}[/]"
    return after if after == before else f"{after}\n[dim]before[/] {before}"


def _write_cell(figure: Figure) -> str:
    if not figure.before:
        return escape_markup(figure.after)
    if figure.before == figure.after:
        return f"{escape_markup(figure.after)}\n[dim]=[/]"
    change = f" {_write_change(figure.change)}" if figure.change is not None else ""
    second = f"{escape_markup(figure.before)}[{_COLORS[figure.is_better]}]{change}[/]"
    return f"{escape_markup(figure.after) or '-'}\n[dim]{second}[/]"


def _write_change(change: float) -> str:
    return f"{change:+.0%}" if abs(change) < _LARGEST_CHANGE else f"x{change + 1:.3g}"
