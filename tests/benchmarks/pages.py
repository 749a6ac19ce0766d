"""The tables and the picture of a benchmark."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from targets import MEBIBYTE, Medians, Verdict

Figures = Mapping[str, Mapping[str, float]]


def print_tables(medians: Medians, verdicts: Sequence[Verdict]) -> None:
    """Prints the medians of every case, with the ratios of ours to the peers, and then the targets."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    for measure, cases in medians.items():
        for case, figures in cases.items():
            console.print(_tabulate_case(measure, case, figures))
    table = Table(title="targets", title_justify="left", box=box.SIMPLE)
    for heading in ("compared", "measured", "limit", ""):
        table.add_column(heading, justify="left" if heading in ("compared", "") else "right")
    for verdict in verdicts:
        word = "reached" if verdict.is_reached else "not reached"
        table.add_row(verdict.name, f"{verdict.value:.2f}", f"{verdict.limit:.2f}", word)
    if verdicts:
        console.print(table)


def _tabulate_case(measure: str, case: str, figures: Figures) -> Table:
    first = next(iter(figures.values()))
    size = f": {first['state'] / MEBIBYTE:.1f} MiB of state" if "state" in first else ""
    table = Table(title=f"{measure} {case}{size}", title_justify="left")
    ours = [peer for peer in figures if peer.startswith("exporter")]
    table.add_column("", no_wrap=True)
    for heading in ("seconds", "cpu", "extra MiB", *(["bytes / state"] if size else [])):
        table.add_column(heading, justify="right")
    converted = "difference" in first
    for heading in ("bytes", "difference") if converted else ():
        table.add_column(heading, justify="right")
    for own in ours:
        table.add_column(f"{own.removeprefix('exporter-')} / it", justify="right")
    for peer, figure in figures.items():
        shares = [f"{figure['bytes'] / figure['state']:.3f}"] if size else []
        ratios = ["" if own == peer else f"{figures[own]['seconds'] / figure['seconds']:.2f}" for own in ours]
        shares += [f"{figure['bytes']:.0f}", f"{figure['difference']:.1e}"] if converted else []
        memory = f"{figure['extra_memory'] / MEBIBYTE:.0f}"
        table.add_row(peer, f"{figure['seconds']:.2f}", f"{figure['cpu_seconds']:.2f}", memory, *shares, *ratios)
    return table


def draw_targets(verdicts: Sequence[Verdict], file: Path) -> None:
    """Draws every target as a point: how far what was measured is from its limit.

    Args:
        verdicts: The targets.
        file: Where the picture goes; its suffix says the format, such as `.svg` or `.png`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.24 * len(verdicts)), layout="constrained")
    axes = figure.subplots()
    for place, verdict in enumerate(reversed(verdicts)):
        share = max(verdict.value / verdict.limit, 1e-3)
        color, marker = ("tab:blue", "o") if verdict.is_reached else ("tab:orange", "D")
        axes.plot([1, share], [place, place], color=color, linewidth=1.5)
        axes.plot([share], [place], marker, color=color)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    names = [f"{each.name} (≤ {each.limit:g})" for each in reversed(verdicts)]
    axes.set_yticks(range(len(verdicts)), names, fontsize=7)
    axes.set_xlabel("measured / limit: a circle left of the line is reached, a diamond right of it is not")
    figure.savefig(file)
