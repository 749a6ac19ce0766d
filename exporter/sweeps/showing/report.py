"""The report of a sweep: one HTML page that holds everything it shows and needs no network."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from exporter.errors import MissingDependencyError
from exporter.storage.own_files import read_end
from exporter.storage.remote import is_url
from exporter.storage.remote.addresses import is_known
from exporter.storage.sidecars import locate_receipt
from exporter.storage.staging import replace_text
from exporter.sweeps.records.results import LOG, JobResult, Outcome
from exporter.sweeps.showing.collecting import Sweep
from exporter.sweeps.showing.columns import Value, word_score
from exporter.sweeps.showing.comparing import describe_beside, describe_measuring, join_numbers
from exporter.sweeps.showing.files import CSV, JSON
from exporter.sweeps.showing.words import FRONT_MARK, PLAIN_MARKS, word_front
from exporter.text.showing import escape_lines

REPORT = "report.html"
_TEMPLATE = Path(__file__).parents[2] / "data" / "report.html"
_LOG_CHARACTERS = 20_000
_EXTRA = "'keras-exporter[report]'"


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of the table: what to sort by, in words, whether it is the best of its column, and no figure."""

    value: Value
    words: str
    is_best: bool
    is_text: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """A row as the page shows it."""

    row: JobResult
    label: str
    command: str
    cells: list[_Cell]
    artifact: str
    receipt: str
    log: str
    log_text: str
    config: str
    beside: str


def write_report(sweep: Sweep) -> Path:
    """Writes `report.html` into the sweep's directory.

    Args:
        sweep: The sweep.

    Returns:
        The page.

    Raises:
        MissingDependencyError: Jinja2 or Matplotlib is not installed.
        OSError: The file system refused.
    """
    try:
        import jinja2
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError(
            f"The report needs {error.name}, which is not installed: pip install {_EXTRA}"
        ) from error
    del matplotlib  # only whether it is there
    from exporter.sweeps.showing.charts import draw_charts

    environment = jinja2.Environment(
        autoescape=True, finalize=_make_showable, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    counts = [(outcome, sweep.count(outcome)) for outcome in Outcome if sweep.count(outcome)]
    page = template.render(
        plan=sweep.plan,
        command=shlex.join(["exporter", *sweep.plan.command]),
        counts=counts,
        columns=sweep.columns,
        jobs=_describe_jobs(sweep),
        winners=_describe_winners(sweep),
        charts=draw_charts(sweep),
        files=(JSON, CSV),
        marks={outcome.value: mark for outcome, mark in PLAIN_MARKS.items()},
        front=sweep.front,
        front_mark=FRONT_MARK,
        front_words=word_front(sweep.has_scores),
        measuring=[(words, join_numbers(numbers)) for words, numbers in describe_measuring(sweep.rows)],
        beside=describe_beside(sweep.beside),
        word_score=word_score,
        is_all_refused=sweep.is_all_refused,
    )
    path = Path(sweep.plan.directory) / REPORT
    replace_text(path, page)
    return path


def _make_showable(value: Any) -> Any:
    """Escapes what stands in the page: a browser obeys the characters that change the direction of writing."""
    if not isinstance(value, str) or hasattr(value, "__html__"):  # a chart is written in characters of ours
        return value
    return escape_lines(value)


def _describe_jobs(sweep: Sweep) -> list[_Job]:
    winners, beside = sweep.find_winners(), sweep.beside
    jobs = []
    for row, label in zip(sweep.rows, sweep.labels, strict=True):
        directory = sweep.find_directory(row)
        cells = []
        for column in sweep.columns:
            is_best = row.number in winners.get(column.key, ())
            cells.append(_Cell(column.read(row), column.write(row), is_best, column.is_text))
        jobs.append(
            _Job(
                row=row,
                label=label,
                command=sweep.word_command(row),
                cells=cells,
                artifact=_link(row.filepath, sweep) if row.is_finished else "",
                receipt=_link(locate_receipt(row.filepath), sweep) if row.is_finished else "",
                log=_link(directory / LOG, sweep) if (directory / LOG).exists() else "",
                log_text=_read_end(directory / LOG) if row.outcome is Outcome.FAILED else "",
                config=_read_end(directory / ".hydra" / "config.yaml"),
                beside=join_numbers(beside[row.number]) if row.number in beside else "",
            )
        )
    return jobs


def _describe_winners(sweep: Sweep) -> list[dict[str, Any]]:
    labels = dict(zip((row.number for row in sweep.rows), sweep.labels, strict=True))
    rows = {row.number: row for row in sweep.rows}
    found = sweep.find_winners()
    return [
        {
            "title": column.best,
            "names": [labels[number] for number in found[column.key]],
            "figure": column.write(rows[found[column.key][0]]),
        }
        for column in sweep.columns
        if column.key in found
    ]


def _link(path: Path | str, sweep: Sweep) -> str:
    """Returns a link that stays good when the sweep and its artifacts are moved or copied together.

    There is none to what is no store: a browser runs what some addresses say.
    """
    if is_url(path):
        return str(path) if is_known(str(path)) else ""
    return quote(os.path.relpath(path, sweep.plan.directory))


def _read_end(path: Path) -> str:
    try:
        return read_end(path, 4 * _LOG_CHARACTERS).decode(errors="replace")[-_LOG_CHARACTERS:]
    except OSError:
        return ""
