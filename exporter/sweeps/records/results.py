"""A row of the sweep's table: what became of one job, as it stands in the job's directory."""

import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Check, CheckKind, Measurements, name_kinds
from exporter.config import Objective
from exporter.errors import ArtifactError, ExporterError, ProofError
from exporter.saving.contents import ContentItem, Omission
from exporter.saving.formats import FORMATS
from exporter.saving.layout.documents import MAX_JSON, parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.storage.digests import digest_files, record_files
from exporter.storage.own_files import read_bytes
from exporter.storage.remote import Store, is_url
from exporter.storage.remote.addresses import split_name
from exporter.storage.remote.replacing import find_previous
from exporter.storage.sidecars import name_receipt
from exporter.storage.staging import replace_text
from exporter.text.hiding import hide
from exporter.text.showing import describe_value, find_first_line, write_json

SCHEMA_VERSION = 1
ROW = "row.json"
LOG = "exporter.log"
STOPPED = "stopped"

# From the mildest to the worst exit code of a job.
EXIT_CODES = (0, 2, 3, 4, 1)

_UNEXPECTED = 1
_MOST = 2**63 - 1  # of bytes, of seconds, and of whatever else is counted


class Outcome(StrEnum):
    """What became of a job."""

    PROVEN = "proven"  # a fresh process compared everything, and every check passed
    WRITTEN = "written"  # it was written, and at most loaded again
    FAILED = "failed"  # nothing was published
    MISSING = "missing"  # it has not been run


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """One job of a sweep.

    Attributes:
        schema_version: Of this record's layout.
        number: Of the job in its sweep.
        overrides: What it was composed with.
        recipe_hash: sha256 of the resolved recipe and of what is measured; see `plans.hash_recipe`.
        outcome: What became of it.
        exit_code: With which the same job alone would have ended.
        error: The first line of the error; empty where there was none.
        filepath: Absolute path of the artifact; the same path that a failed job would have written.
        format: `tf`, `h5` or `keras`.
        sha256: Of the whole artifact; see `exporter.storage.digests.digest_files`.
        total_bytes: Of the artifact.
        held: What the artifact holds.
        left_out: What it does not hold, and why.
        checks: Each comparison of the proof, also of one that failed.
        output_difference: The largest difference between two outputs; None where nothing was compared.
        state_difference: The same for two weights, optimizer variables or random states.
        resumes: Whether a training goes on exactly as it would have; None where that was not proven.
        seconds: Duration of each phase, by name, in order.
        save_seconds: To write the artifact.
        measurements: What was measured of the artifact.
        peak_memory_bytes: The largest resident size of the exporting process during the job.
        started: ISO 8601 with a time zone.
        finished: ISO 8601 with a time zone.
        host: Name of the machine that ran it.
    """

    schema_version: int
    number: int
    overrides: tuple[str, ...]
    recipe_hash: str
    outcome: Outcome
    exit_code: int
    error: str
    filepath: str
    format: str
    sha256: str | None = None
    total_bytes: int | None = None
    held: tuple[ContentItem, ...] = ()
    left_out: tuple[Omission, ...] = ()
    checks: tuple[Check, ...] = ()
    output_difference: float | None = None
    state_difference: float | None = None
    resumes: bool | None = None
    seconds: Mapping[str, float] | None = None
    save_seconds: float | None = None
    measurements: Measurements | None = None
    peak_memory_bytes: int | None = None
    started: str | None = None
    finished: str | None = None
    host: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether there is an artifact."""
        return self.outcome in (Outcome.PROVEN, Outcome.WRITTEN)

    def to_json(self) -> str:
        """Returns the row as indented JSON that ends with a newline."""
        return write_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: The JSON text.

        Raises:
            ArtifactError: The text is no row that this version can read.
        """
        try:
            row = read_record(cls, name_kinds(parse_json(text, "The row")), "the row")
        except RecordError as error:
            raise ArtifactError(f"The row is damaged: {error}. Run its job again.") from error
        if row.schema_version != SCHEMA_VERSION:
            raise ArtifactError(
                f"The row has schema_version {row.schema_version!r}; this version of exporter reads {SCHEMA_VERSION}."
            )
        odd = next(_list_odd_values(row), None)
        if odd is not None:
            raise ArtifactError(f"The row is damaged: {odd}. Run its job again.")
        return row


def _list_odd_values(row: JobResult) -> Iterator[str]:
    """Lists what no job has written: a row is a file, and others may write to the directory or the store it lies in."""
    if row.exit_code not in EXIT_CODES:
        yield f"exit_code is {describe_value(row.exit_code)}, not one of {', '.join(map(str, EXIT_CODES))}"
    if row.format not in FORMATS:
        yield f"format is {describe_value(row.format)}, not one of {', '.join(FORMATS)}"
    for name, text in (("started", row.started), ("finished", row.finished)):
        if text is not None and not is_moment(text):
            yield f"{name} is {describe_value(text)}, no ISO 8601 date with a time zone"
    yield from _list_odd_figures(asdict(row), "")


def _list_odd_figures(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, (Mapping, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _list_odd_figures(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, float) and path.endswith("difference"):  # outputs may be infinite, and so differ
        if value < 0:
            yield f"{path} is {value}, and no difference is below 0"
    elif isinstance(value, (int, float)) and not 0 <= value <= _MOST:
        yield f"{path} is {describe_value(value)}, not from 0 to {_MOST}"


def is_moment(text: str) -> bool:
    """Whether a text is an ISO 8601 date with a time zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepJob:
    """A job of a sweep before it is run.

    Attributes:
        number: Of the job in its sweep.
        overrides: What it is composed with, apart from Hydra's own settings.
        recipe_hash: See `JobResult`.
        filepath: Absolute path of the artifact.
        format: `tf`, `h5` or `keras`.
        directory: Absolute path of the job's own directory.
    """

    number: int
    overrides: tuple[str, ...]
    recipe_hash: str
    filepath: str
    format: str
    directory: str


def _begin(cell: SweepJob) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "number": cell.number,
        "overrides": cell.overrides,
        "recipe_hash": cell.recipe_hash,
        "filepath": cell.filepath,
        "format": cell.format,
    }


def describe_success(cell: SweepJob, receipt: Receipt) -> JobResult:
    """Returns the row of a job whose artifact was published: a view of its receipt."""
    fields = _begin(cell)
    fields.update(filepath=receipt.filepath, format=receipt.format)
    return JobResult(
        **fields,
        outcome=Outcome(receipt.status.value),
        exit_code=0,
        error="",
        sha256=digest_files(receipt.files),
        total_bytes=receipt.total_bytes,
        held=receipt.held,
        left_out=receipt.left_out,
        checks=receipt.checks,
        output_difference=_find_difference(receipt.checks, CheckKind.OUTPUTS),
        state_difference=_find_difference(receipt.checks, CheckKind.STATE),
        resumes=_read_resumption(receipt),
        seconds=receipt.seconds,
        save_seconds=receipt.seconds.get("write the artifact"),
        measurements=receipt.measurements,
        peak_memory_bytes=receipt.peak_memory_bytes,
        started=receipt.started,
        finished=receipt.finished,
        host=receipt.host,
    )


def describe_failure(cell: SweepJob, error: BaseException, started: str) -> JobResult:
    """Returns the row of a job that ended with an error.

    Args:
        cell: The job.
        error: What ended it.
        started: When the job began, ISO 8601 with a time zone.
    """
    first_line = hide(find_first_line(error))
    is_known = isinstance(error, ExporterError)
    checks = error.checks if isinstance(error, ProofError) else ()
    return JobResult(
        **_begin(cell),
        outcome=Outcome.FAILED,
        exit_code=error.exit_code if isinstance(error, ExporterError) else _UNEXPECTED,
        error=first_line if is_known else f"unexpected {type(error).__name__}: {first_line}",
        checks=checks,
        output_difference=_find_difference(checks, CheckKind.OUTPUTS),
        state_difference=_find_difference(checks, CheckKind.STATE),
        started=started,
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        host=platform.node(),
    )


def describe_death(cell: SweepJob, how: str, host: str = "", started: str | None = None) -> JobResult:
    """Returns the row of a job whose process ended before it could write one.

    Args:
        cell: The job.
        how: What is known about the end.
        host: The machine, where that is known.
        started: When the job began, where that is known.
    """
    fields = {**_begin(cell), "host": host, "started": started}
    return JobResult(**fields, outcome=Outcome.FAILED, exit_code=_UNEXPECTED, error=how)


def describe_missing(cell: SweepJob, why: str) -> JobResult:
    """Returns the row of a job that has not been run."""
    return JobResult(**_begin(cell), outcome=Outcome.MISSING, exit_code=_UNEXPECTED, error=why)


def _find_difference(checks: tuple[Check, ...], kind: CheckKind) -> float | None:
    differences = [check.difference for check in checks if check.kind is kind]
    return max((difference for difference in differences if difference is not None), default=None)


def _read_resumption(receipt: Receipt) -> bool | None:
    if receipt.recipe.get("include_optimizer") is False:
        return False
    step = next((check for check in receipt.checks if check.kind is CheckKind.TRAINING), None)
    return True if step is not None and step.difference == 0.0 else None


def is_intact(row: JobResult) -> bool:
    """Whether the artifact of a row, and its receipt, are still as the job left them."""
    if is_url(row.filepath):
        return row.is_finished and _is_stored(row)
    artifact = Path(row.filepath)
    if not row.is_finished or not artifact.exists() or not name_receipt(artifact).is_file():
        return False
    return digest_files(record_files(artifact, artifact.name)) == row.sha256


def _is_stored(row: JobResult) -> bool:
    """Whether a store has the receipt of a row, and every object that it names, by its size."""
    directory, name = split_name(row.filepath)
    store = Store(directory)
    text = store.read(f"{name}.receipt.json")
    if text is None or find_previous(store, name) is not None:  # it is being replaced, or that was killed
        return False
    try:
        files = Receipt.from_json(text.decode(errors="replace")).files
    except ArtifactError:
        return False
    sizes: dict[str, int | None] = {record.path: record.size for record in files if record.link is None}
    # A single object lies at the name itself.
    there: dict[str, int | None] = {**store.list_objects(name)} or {name: store.measure(name)}
    return digest_files(files) == row.sha256 and there == sizes


def write_row(row: JobResult, directory: Path) -> None:
    """Writes a row into the directory of its job, in one step."""
    directory.mkdir(parents=True, exist_ok=True)
    replace_text(directory / ROW, row.to_json())


def read_row(directory: Path) -> JobResult | None:
    """Reads the row of a job; None where there is none that can be read."""
    try:
        return load_row(directory)
    except ArtifactError:
        return None


def load_row(directory: Path) -> JobResult | None:
    """Reads the row of a job; None where there is none.

    Raises:
        ArtifactError: It is damaged.
    """
    try:
        content = read_bytes(directory / ROW, MAX_JSON)
    except OSError:
        return None
    return JobResult.from_json(content.decode(errors="replace"))


def find_objective(row: JobResult, objective: Objective) -> float:
    """Returns what a sweeper shall make small.

    A job without the figure, as after a failure, is the worst there is: Optuna's sweeper ends at what is not a number.
    """
    measured = row.measurements
    differences = [each for each in (row.output_difference, row.state_difference) if each is not None]
    figures: dict[Objective, float | None] = {
        Objective.BYTES: row.total_bytes,
        Objective.SAVE: row.save_seconds,
        Objective.DIFFERENCE: max(differences, default=None),
    }
    if measured is not None:
        figures |= {
            Objective.LOAD: measured.load_seconds,
            Objective.FIRST: measured.first_seconds,
            Objective.LATENCY: measured.median_seconds,
            Objective.P90: measured.p90_seconds,
            Objective.P99: measured.p99_seconds,
            Objective.MEMORY: measured.memory_bytes,
        }
    figure = figures.get(objective) if row.is_finished else None
    return math.inf if figure is None or math.isnan(figure) else float(figure)
