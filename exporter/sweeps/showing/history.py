"""The sweeps that have been run, as a person reads them."""

import shlex
import sys
from collections.abc import Sequence
from typing import TextIO

from exporter.sweeps.records.results import Outcome
from exporter.sweeps.tables.collecting import Sweep
from exporter.sweeps.tables.words import MARKS
from exporter.text.page import escape_markup, make_console
from exporter.text.showing import format_moment


def print_history(sweeps: Sequence[Sweep], stream: TextIO | None = None) -> None:
    """Prints two lines for each sweep, and the line that compares the two newest of one recipe.

    Args:
        sweeps: The sweeps, in the order to print them.
        stream: Where to print; None for the standard output.
    """
    console = make_console(stream or sys.stdout)
    console.print()
    for sweep in sweeps:
        counts = "  ".join(f"{MARKS[each]} {sweep.count(each)} {each}" for each in Outcome if sweep.count(each))
        keys = ", ".join(column.title for column in sweep.parameters)
        over = f" [dim]over {escape_markup(keys)}[/]" if keys else ""
        moment = format_moment(sweep.plan.started) or "-"
        console.print(f"{moment:<16}  [bold]{escape_markup(sweep.plan.recipe)}[/]{over}  {counts}", soft_wrap=True)
        console.print(f"{'':<18}[dim]{escape_markup(sweep.plan.directory)}[/]", soft_wrap=True)
    console.print()
    newest = [sweep for sweep in sweeps if sweep.plan.recipe == sweeps[0].plan.recipe][:2]
    if len(newest) > 1:
        line = shlex.join(["exporter", "compare", *(sweep.plan.directory for sweep in reversed(newest))])
        console.print(f"[dim]{'compare':<18}[/][cyan]{escape_markup(line)}[/]", soft_wrap=True)
        console.print()
