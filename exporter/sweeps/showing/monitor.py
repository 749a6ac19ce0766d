"""What a person sees while a sweep runs: the jobs that are running, and how long it will take.

It looks at the files of the jobs and at nothing else, so it shows a job on another machine like one of its own.
"""

import sys
import threading
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from exporter.saving.contents import format_bytes
from exporter.sweeps.records.plans import Plan
from exporter.sweeps.records.progress import Progress, read_progress
from exporter.sweeps.records.results import ROW, JobResult, Outcome, SweepJob, read_row
from exporter.sweeps.showing.remaining import estimate_remaining
from exporter.sweeps.tables.parameters import read_parameters
from exporter.sweeps.tables.words import MARKS, format_seconds, shorten_overrides
from exporter.text.page import escape_markup, make_console

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_SECONDS_BETWEEN_LOOKS = 0.2


class Monitor:
    """Shows a line when a job ends and, on a terminal, one for each that runs and one for all. A context manager."""

    def __init__(self, plan: Plan, stream: TextIO | None = None) -> None:
        """Prepares the display; nothing is shown yet.

        Args:
            plan: The sweep.
            stream: Where to show it; None for the standard error.
        """
        self._plan = plan
        self._console = make_console(stream or sys.stderr)
        self._labels = shorten_overrides([cell.overrides for cell in plan.cells])
        self._known = {cell.number: _stamp(cell) for cell in plan.cells}
        self._finished_before = {cell.number: row for cell in plan.cells if (row := _find_finished(cell)) is not None}
        self._ended: dict[int, JobResult] = {}
        self._running: dict[int, Progress] = {}
        self._most_at_once = 1
        self._live: Live | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="exporter-sweep-monitor", daemon=True)

    def __enter__(self) -> Self:
        if self._finished_before:
            count = len(self._finished_before)
            self._console.print(f"{count} of {len(self._plan.cells)} jobs are finished already")
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(get_renderable=self._render, console=self._console, transient=True)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._live is not None:
            self._live.stop()

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self._look()
        self._look()

    def _look(self) -> None:
        if not self._plan.cells:
            self._look_for_rows()
            return
        running = {}
        for cell, label in zip(self._plan.cells, self._labels, strict=True):
            if cell.number in self._ended:
                continue
            stamp = _stamp(cell)
            row = read_row(Path(cell.directory)) if stamp is not None and stamp != self._known[cell.number] else None
            if row is not None:
                self._ended[cell.number] = row
                self._announce(row, label)
            elif (progress := read_progress(Path(cell.directory))) is not None and stamp is None:
                running[cell.number] = progress
        self._running = running
        self._most_at_once = max(self._most_at_once, len(running))

    def _look_for_rows(self) -> None:
        """Announces the jobs of a sweep that chooses them while it runs."""
        for file in sorted(Path(self._plan.directory).glob(f"*/{ROW}")):
            row = read_row(file.parent)
            if row is not None and row.number not in self._ended:
                self._ended[row.number] = row
                self._announce(row, " ".join(each.lstrip("+") for each in row.overrides))

    def _announce(self, row: JobResult, label: str) -> None:
        seconds = None if row.outcome is Outcome.REFUSED else _measure_duration(row)
        took = "" if seconds is None else f"  {format_seconds(seconds)}"
        words = escape_markup(row.error) if row.error else format_bytes(row.receipt.total_bytes if row.receipt else 0)
        total = f"/{len(self._plan.cells)}" if self._plan.cells else ""
        count = f"[dim]{self._count_ended()}{total}[/]"
        self._console.print(
            f"{count} {MARKS[row.outcome]} {row.outcome:<7}  {escape_markup(label)}  {words}[dim]{took}[/]",
            soft_wrap=True,
        )

    def _render(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table

        jobs = Table.grid(padding=(0, 2, 0, 0))
        for number, progress in list(self._running.items()):
            jobs.add_row(
                Spinner("dots", style="cyan"),
                escape_markup(self._labels[number]),
                escape_markup(progress.phase),
                f"[dim]{format_seconds(progress.seconds, rough=True)}[/]",
                f"[dim]{escape_markup(progress.note)}[/]",
            )
        total = Table.grid(padding=(0, 2, 0, 0))
        failed = sum(row.outcome is Outcome.FAILED for row in self._ended.values())
        count = self._count_ended()
        of_all = f" of {len(self._plan.cells)}" if self._plan.cells else ""
        words = f"{count}{of_all} jobs" + (f", [red]{failed} failed[/]" if failed else "")
        bar = ProgressBar(total=max(len(self._plan.cells), 1), completed=count, width=30)
        total.add_row(bar, words, f"[dim]{self._word_time_left()}[/]")
        return Group(jobs, total)

    def _count_ended(self) -> int:
        return len(self._finished_before) + len(self._ended)

    def _word_time_left(self) -> str:
        cells = {cell.number: read_parameters(cell.overrides) for cell in self._plan.cells}
        over = {**self._finished_before, **self._ended}
        ended = [
            (cells[number], seconds)
            for number, row in over.items()
            if number in cells and row.outcome is not Outcome.REFUSED and (seconds := _measure_duration(row))
        ]
        running = [(cells[number], progress.seconds) for number, progress in self._running.items()]
        waiting = [cells[number] for number in cells if number not in over and number not in self._running]
        seconds = estimate_remaining(ended, running, waiting, self._most_at_once) if running or waiting else None
        return "" if seconds is None else f"about {format_seconds(seconds, rough=True)} left"


def _stamp(cell: SweepJob) -> int | None:
    try:
        return (Path(cell.directory) / ROW).stat().st_mtime_ns
    except OSError:
        return None


def _find_finished(cell: SweepJob) -> JobResult | None:
    row = read_row(Path(cell.directory))
    if row is None or row.recipe_hash != cell.recipe_hash:
        return None
    return row if row.is_finished or row.outcome is Outcome.REFUSED else None


def _measure_duration(row: JobResult) -> float | None:
    if row.started is None or row.finished is None:
        return None
    seconds = (datetime.fromisoformat(row.finished) - datetime.fromisoformat(row.started)).total_seconds()
    return max(seconds, 0.0)  # a clock may have been set back
