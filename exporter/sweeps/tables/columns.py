"""The columns of a sweep's table: what each says of a row, and by which figure a row is the best of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exporter.saving.contents import format_bytes
from exporter.sweeps.records.results import JobResult
from exporter.sweeps.tables.parameters import find_swept, read_parameters, read_value
from exporter.sweeps.tables.words import format_seconds

Value = float | str | None
# Of the columns that only this sweep has, before their names in the files.
_PARAMETERS, _FACTS = "params.", "facts."


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a column says of a row.

    Attributes:
        key: Its name in the files.
        title: Its name for a person.
        read: Gives what a row has, or None.
        word: Writes that for a person.
        best: What the best row of it is; empty where none is the best.
        judge: Gives the figure that is the better the smaller it is; None where that is the one that is read.
        is_shown: Whether the table in the terminal, which is narrow, has it.
        is_optional: Whether it appears only where a row has it.
        is_text: Whether it holds words, and no figures.
        rank: Where the terminal is too narrow for all, those with the highest are left out first.
    """

    key: str
    title: str
    read: Callable[[JobResult], Value]
    word: Callable[[Any], str] = str
    best: str = ""
    judge: Callable[[JobResult], float | None] | None = None
    is_shown: bool = True
    is_optional: bool = False
    is_text: bool = False
    rank: int = 0

    def write(self, row: JobResult) -> str:
        """Writes for a person what a row has; nothing where it has nothing."""
        value = self.read(row)
        return "" if value is None else self.word(value)

    def find_figure(self, row: JobResult) -> float | None:
        """Returns the figure that is the better the smaller it is; None where no row is the best."""
        value = (self.judge or self.read)(row) if self.best else None
        return None if isinstance(value, str) else value


def _read_receipt(name: str) -> Callable[[JobResult], Value]:
    return lambda row: None if row.receipt is None else getattr(row.receipt, name)


def _read_measured(name: str) -> Callable[[JobResult], Value]:
    return lambda row: None if row.measurements is None else getattr(row.measurements, name)


def _read_score(name: str) -> Callable[[JobResult], Value]:
    return lambda row: None if row.score is None else getattr(row.score, name)


def word_difference(value: float) -> str:
    """Words a largest difference."""
    return "bit-equal" if value == 0 else f"{value:.1e}"


def word_score(value: float) -> str:
    """Words what a metric gave: most are below 1."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"


def _word_change(value: float) -> str:
    return f"{value:+.4f}" if abs(value) < 1e4 else f"{value:+.3e}"


def _word_rounding(value: float) -> str:
    return f"{value:.2g}"


def _measure_disagreement(row: JobResult) -> float | None:
    return None if row.agreement is None else 1 - row.agreement


COLUMNS = (
    Column(key="quantize", title="quantize", read=lambda row: row.quantize, is_optional=True, is_text=True, rank=1),
    Column(
        key="total_bytes", title="bytes", best="smallest", read=_read_receipt("total_bytes"), word=format_bytes, rank=0
    ),
    Column(key="metric", title="metric", read=_read_score("metric"), is_optional=True, is_text=True, rank=1),
    Column(
        key="score",
        title="score",
        best="best score",
        read=_read_score("artifact"),
        judge=lambda row: row.error_rate,
        word=word_score,
        is_optional=True,
        rank=1,
    ),
    Column(key="score_samples", title="n", read=_read_score("samples"), is_optional=True, rank=3),
    Column(key="score_change", title="change", read=_read_score("change"), word=_word_change, is_optional=True, rank=2),
    Column(
        key="agreement",
        title="agreement",
        best="most agreement",
        read=lambda row: row.agreement,
        judge=_measure_disagreement,
        word=lambda share: f"{share:.1%}",
        is_optional=True,
        rank=4,
    ),
    Column(
        key="rounding",
        title="x rounding",
        read=lambda row: row.rounding,
        word=_word_rounding,
        is_optional=True,
        rank=9,
    ),
    Column(
        key="save_seconds",
        title="save",
        best="fastest to save",
        read=lambda row: row.save_seconds,
        word=format_seconds,
        rank=5,
    ),
    Column(
        key="load_seconds",
        title="load",
        best="fastest to load",
        read=_read_measured("load_seconds"),
        word=format_seconds,
        rank=6,
    ),
    Column(
        key="first_seconds",
        title="first",
        best="fastest first answer",
        read=_read_measured("first_seconds"),
        word=format_seconds,
        rank=8,
    ),
    Column(
        key="median_seconds",
        title="median",
        best="lowest latency",
        read=_read_measured("median_seconds"),
        word=format_seconds,
        rank=1,
    ),
    Column(
        key="p90_seconds",
        title="p90",
        best="lowest p90",
        read=_read_measured("p90_seconds"),
        word=format_seconds,
        is_shown=False,
    ),
    Column(
        key="p99_seconds",
        title="p99",
        best="lowest p99",
        read=_read_measured("p99_seconds"),
        word=format_seconds,
        rank=6,
    ),
    Column(
        key="memory_bytes",
        title="memory",
        best="least memory",
        read=_read_measured("memory_bytes"),
        word=format_bytes,
        rank=7,
    ),
    Column(
        key="export_memory_bytes",
        title="export memory",
        best="least memory to export",
        read=_read_receipt("peak_memory_bytes"),
        word=format_bytes,
        is_shown=False,
    ),
    Column(
        key="output_difference",
        title="outputs",
        best="closest outputs",
        read=lambda row: row.output_difference,
        word=word_difference,
        rank=5,
    ),
    Column(
        key="state_difference",
        title="state",
        best="closest state",
        read=lambda row: row.state_difference,
        word=word_difference,
        is_shown=False,
    ),
    Column(
        key="resumes",
        title="resumes",
        read=lambda row: {True: "exactly", False: "no", None: None}[row.resumes],
        is_optional=True,
        is_text=True,
        rank=4,
    ),
)


def list_parameters(rows: Sequence[JobResult]) -> list[Column]:
    """Lists a column for each key that not all rows have the same value for.

    Args:
        rows: The rows of a sweep.
    """
    columns = []
    for key in find_swept([row.overrides for row in rows]):
        values = {read_value(read_parameters(row.overrides).get(key)) for row in rows}
        is_text = any(isinstance(value, str) for value in values)
        columns.append(
            Column(key=f"{_PARAMETERS}{key}", title=key, read=_read_parameter(key), is_text=is_text, rank=-1)
        )
    return columns


def _read_parameter(key: str) -> Callable[[JobResult], Value]:
    return lambda row: read_value(read_parameters(row.overrides).get(key))


def list_facts(rows: Sequence[JobResult]) -> list[Column]:
    """Lists a column for each fact that a source told of its model.

    Args:
        rows: The rows of a sweep.
    """
    told = [row.receipt.facts for row in rows if row.receipt is not None]
    columns = []
    for name in dict.fromkeys(name for facts in told for name in facts):
        is_text = any(isinstance(facts.get(name), str) for facts in told)
        columns.append(
            Column(key=f"{_FACTS}{name}", title=name, read=_read_fact(name), word=_word_fact, is_text=is_text, rank=2)
        )
    return columns


def _read_fact(name: str) -> Callable[[JobResult], Value]:
    return lambda row: None if row.receipt is None else row.receipt.facts.get(name)


def _word_fact(value: float | str) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def list_columns(rows: Sequence[JobResult]) -> list[Column]:
    """Lists the columns that say something of a sweep to a person, by the names that fit its rows.

    Args:
        rows: The rows.
    """
    hidden = {column.key for column in COLUMNS if column.is_optional and not any(map(column.write, rows))}
    if "quantize" in find_swept([row.overrides for row in rows]):
        hidden.add("quantize")
    titles = {"save_seconds": _name_saving(rows)}
    metrics = {row.score.metric for row in rows if row.score is not None}
    counts = {row.score.samples for row in rows if row.score is not None}
    if len(metrics) == 1:
        hidden.add("metric")
        [titles["score"]] = metrics
    if len(counts) == 1:
        hidden.add("score_samples")
        titles["score"] = f"{titles.get('score', 'score')}\nn={next(iter(counts))}"
    return list_facts(rows) + [
        replace(column, title=titles.get(column.key, column.title), best=_name_best(column, metrics))
        for column in COLUMNS
        if column.key not in hidden
    ]


def _name_saving(rows: Sequence[JobResult]) -> str:
    """Names what it takes to write an artifact: of a deployed one that is its conversion."""
    are_converted = {row.receipt.deployment is not None for row in rows if row.receipt is not None}
    if are_converted == {True, False}:
        return "save or\nconvert"
    return "convert" if True in are_converted else "save"


def _name_best(column: Column, metrics: set[str]) -> str:
    """Names the best of a column; scores by several metrics have none."""
    if column.key != "score":
        return column.best
    return f"best {next(iter(metrics))}" if len(metrics) == 1 else ""
