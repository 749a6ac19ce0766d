"""The report of a sweep: one HTML page that holds everything it shows and needs no network."""

import os
import shlex
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from exporter.errors import MissingDependencyError
from exporter.saving.contents import Endpoint
from exporter.storage.own_files import read_end
from exporter.storage.remote import is_url
from exporter.storage.remote.addresses import is_known
from exporter.storage.sidecars import name_receipt
from exporter.storage.staging import replace_text
from exporter.sweeps.records.results import LOG, JobResult, Outcome
from exporter.sweeps.showing.files import CSV, FILES, JSON
from exporter.sweeps.tables.collecting import Sweep
from exporter.sweeps.tables.columns import Column, Value, word_score
from exporter.sweeps.tables.comparing import describe_beside, describe_measuring, join_numbers
from exporter.sweeps.tables.parameters import shorten_keys
from exporter.sweeps.tables.words import FRONT_MARK, PLAIN_MARKS, word_front
from exporter.text.showing import escape_lines

REPORT = "report.html"
_TEMPLATE = Path(__file__).parents[2] / "data" / "report.html"
_LOG_CHARACTERS = 20_000
_MOST_NAMES = 3
_KINDS = {JSON: "application/json", CSV: "text/csv"}
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
    parameters: list[_Cell]
    cells: list[_Cell]
    others: list[tuple[str, str]]
    artifact: str
    receipt: str
    receipt_name: str
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
        title=_word_title(sweep),
        models=_describe_models(sweep),
        resumption=sweep.word_resumption() if sweep.is_incomplete else "",
        command=shlex.join(["exporter", *sweep.plan.command]),
        counts=counts,
        parameters=list(zip(sweep.parameters, shorten_keys([each.title for each in sweep.parameters]), strict=True)),
        columns=[column for column in sweep.columns if column.is_shown],
        jobs=_describe_jobs(sweep),
        winners=_describe_winners(sweep),
        charts=draw_charts(sweep),
        files=[(name, _embed(write(sweep), _KINDS[name])) for name, write in FILES.items()],
        marks={outcome.value: mark for outcome, mark in PLAIN_MARKS.items()},
        front=sweep.front,
        front_mark=FRONT_MARK,
        front_words=word_front(sweep.has_scores, len(sweep.models) > 1),
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


def _word_title(sweep: Sweep) -> str:
    """Names the models, where the sweep tells them apart, and the recipe otherwise."""
    count = len(sweep.rows)
    names = [name for name in sweep.models if name]
    what = ", ".join(names) if 0 < len(names) <= _MOST_NAMES else sweep.plan.recipe
    return f"{what}: {count} job{'s' if count != 1 else ''}"


def _describe_models(sweep: Sweep) -> list[dict[str, Any]]:
    """Says what the models are: what their sources told, their weights, and their endpoints."""
    described = []
    for name, rows in sweep.models.items():
        receipts = [row.receipt for row in rows if row.receipt is not None]
        if receipts:
            # Those of one model that were made with other seeds or settings have told other things.
            told = list(dict.fromkeys(receipt.read for receipt in receipts))
            held = (each for receipt in receipts for each in receipt.held if each.what == "weights")
            lines = [*(told[0] if len(told) == 1 else ()), *(f"weights: {each.detail}" for each in islice(held, 1))]
            endpoints = next((receipt.signatures for receipt in receipts if receipt.signatures), {})
            words = [f"{key}: {_word_endpoint(endpoint)}" for key, endpoint in endpoints.items()]
            described.append({"name": name, "lines": lines, "endpoints": words})
    return described


def _word_endpoint(endpoint: Endpoint) -> str:
    sides = (", ".join(f"{name} {tensor}" for name, tensor in side.items()) for side in endpoint.describe())
    return " → ".join(sides)


def _describe_jobs(sweep: Sweep) -> list[_Job]:
    winners, beside = sweep.find_winners(), sweep.beside
    parameters, columns = sweep.parameters, sweep.columns
    jobs = []
    for row, label in zip(sweep.rows, sweep.labels, strict=True):
        directory = sweep.find_directory(row)
        text = "" if row.receipt is None else row.receipt.to_json()
        jobs.append(
            _Job(
                row=row,
                label=label,
                command=sweep.word_command(row),
                parameters=[_make_cell(column, row, ()) for column in parameters],
                cells=[_make_cell(column, row, winners.get(column.key, ())) for column in columns if column.is_shown],
                others=[(column.title, column.write(row)) for column in columns if not column.is_shown],
                artifact=_link(row.filepath, sweep) if row.is_finished else "",
                receipt=_embed(text, "application/json") if text else "",
                receipt_name=name_receipt(Path(row.filepath)).name,
                log_text=_read_end(directory / LOG),
                config=_read_end(directory / ".hydra" / "config.yaml"),
                beside=join_numbers(beside[row.number]) if row.number in beside else "",
            )
        )
    return jobs


def _make_cell(column: Column, row: JobResult, best: Sequence[int]) -> _Cell:
    return _Cell(column.read(row), column.write(row), row.number in best, column.is_text)


def _describe_winners(sweep: Sweep) -> list[tuple[str, list[dict[str, Any]]]]:
    """Lists, for each model, the best of each column that the terminal has."""
    found = sweep.find_winners()
    described = []
    for model, rows in sweep.models.items():
        winners = []
        for column in sweep.columns:
            best = [row for row in rows if row.number in found.get(column.key, ())]
            if best and column.is_shown:
                names = sweep.name_jobs([row.number for row in best], _MOST_NAMES)
                winners.append({"title": column.best, "names": names, "figure": column.write(best[0])})
        if winners:
            described.append((model, winners))
    return described


def _embed(text: str, kind: str) -> str:
    """Returns an address that holds a file, so that the page can be sent to somebody without it."""
    return f"data:{kind};base64,{b64encode(text.encode()).decode()}"


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
