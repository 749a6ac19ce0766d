"""A row of the sweep's table: what became of one job, as it stands in the job's directory."""

import math
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import SCHEMA_VERSION as RECEIPT_VERSION
from exporter.artifacts.records import Check, CheckKind, Measurements, Phase, Score, update_record
from exporter.config import Objective
from exporter.errors import ArtifactError, ExporterError, ProofError
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

SCHEMA_VERSION = 2
ROW = "row.json"
RECEIPT = "receipt.json"
LOG = "exporter.log"
STOPPED = "stopped"

# From the mildest to the worst exit code of a job.
EXIT_CODES = (0, 2, 3, 5, 4, 1)

_UNEXPECTED = 1
# What a receipt says of its job that every row says, also one without a receipt.
_OF_BOTH = ("filepath", "format", "started", "finished", "host")
_FORMER_VERSION = 1  # whose rows held figures of the receipt instead of it
_MOST_LEVELS = 100  # of a recipe
_MOST = 2**63 - 1  # of bytes, of seconds, and of whatever else is counted
_OF_A_METRIC = re.compile(r"\.scores\.\d+\.(model|artifact|loss)$")


class Outcome(StrEnum):
    """What became of a job."""

    PROVEN = "proven"  # a fresh process compared everything, and every check passed
    WRITTEN = "written"  # it was written, and at most loaded again
    REFUSED = "refused"  # its format does not have what it asks; nothing was published
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
        exit_code: With which the same job alone would have ended; one that was refused does not count for the sweep's.
        error: The first line of the error, or why the job was refused; empty where there was none.
        filepath: Absolute path of the artifact; the same path that a failed job would have written.
        format: `tf`, `h5` or `keras`.
        receipt: Of the artifact; None where none was published.
        failed_proof: Each comparison of a proof that failed; those of one that passed are in the receipt.
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
    receipt: Receipt | None = None
    failed_proof: tuple[Check, ...] = ()
    started: str | None = None
    finished: str | None = None
    host: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether there is an artifact."""
        return self.receipt is not None

    @property
    def sha256(self) -> str | None:
        """Of the whole artifact; see `exporter.storage.digests.digest_files`."""
        return None if self.receipt is None else digest_files(self.receipt.files)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Each comparison of the proof, also of one that failed."""
        return self.failed_proof if self.receipt is None else self.receipt.checks

    @property
    def measurements(self) -> Measurements | None:
        """What was measured of the artifact."""
        return None if self.receipt is None else self.receipt.measurements

    @property
    def save_seconds(self) -> float | None:
        """To write the artifact."""
        return None if self.receipt is None else self.receipt.seconds.get(Phase.WRITE)

    @property
    def output_difference(self) -> float | None:
        """The largest difference between two outputs; None where nothing was compared."""
        return _find_largest(check.difference for check in self.checks if check.kind is CheckKind.OUTPUTS)

    @property
    def state_difference(self) -> float | None:
        """The same for two weights, optimizer variables or random states."""
        return _find_largest(check.difference for check in self.checks if check.kind is CheckKind.STATE)

    @property
    def quantize(self) -> str | None:
        """How the artifact was quantised; None where it was not."""
        deployment = None if self.receipt is None else self.receipt.deployment
        return None if deployment is None else deployment.quantize

    @property
    def score(self) -> Score | None:
        """How well the output does on labelled data that has lost most; None where none was scored."""
        deployment = None if self.receipt is None else self.receipt.deployment
        scores = () if deployment is None else deployment.scores
        return max(scores, key=lambda each: each.loss, default=None)

    @property
    def error_rate(self) -> float | None:
        """The score as a figure that is the better the smaller it is: of an accuracy, what it lacks to 1."""
        score = self.score
        if score is None or score.higher_is_better is None:
            return None
        return 1 - score.artifact if score.higher_is_better else score.artifact

    @property
    def agreement(self) -> float | None:
        """The share of samples for which the artifact decides as the model does; None where that is not known."""
        deployment = None if self.receipt is None else self.receipt.deployment
        return None if deployment is None else deployment.agreement

    @property
    def rounding(self) -> float | None:
        """The largest difference of an output to the model's, in units of what rounding does to the model itself."""
        deployment = None if self.receipt is None else self.receipt.deployment
        return None if deployment is None else deployment.rounding

    @property
    def resumes(self) -> bool | None:
        """Whether a training goes on exactly as it would have; None where that was not proven."""
        if self.receipt is None:
            return None
        if self.receipt.recipe.get("include_optimizer") is False:
            return False
        steps = [check.difference for check in self.checks if check.kind is CheckKind.TRAINING]
        return True if steps and all(difference == 0.0 for difference in steps) else None

    def to_json(self) -> str:
        """Returns the row as indented JSON that ends with a newline."""
        return write_json(asdict(self))

    @classmethod
    def from_json(cls, text: str, read_receipt: Callable[[], bytes | None] = lambda: None) -> Self:
        """Reads what `to_json` wrote, or that of the version before.

        Args:
            text: The JSON text.
            read_receipt: Reads the receipt that lies beside the row, which the version before did not write into it;
                returns None where there is none.

        Raises:
            ArtifactError: The text is no row that this version can read.
        """
        fields = parse_json(text, "The row")
        version = fields.get("schema_version") if isinstance(fields, dict) else SCHEMA_VERSION
        if isinstance(fields, dict) and version == _FORMER_VERSION:
            fields = _update_row(fields, read_receipt)
        elif version != SCHEMA_VERSION:
            raise ArtifactError(
                f"The row has schema_version {describe_value(version)}; this version of exporter reads "
                f"{SCHEMA_VERSION}. Run its job again."
            )
        if isinstance(fields, dict):
            fields = {**fields, "receipt": update_record(fields.get("receipt"))}
        try:
            row = read_record(cls, fields, "the row")
        except RecordError as error:
            raise ArtifactError(f"The row is damaged: {error}. Run its job again.") from error
        odd = next(_list_odd_values(row), None)
        if odd is not None:
            raise ArtifactError(f"The row is damaged: {odd}. Run its job again.")
        return row


def _update_row(fields: dict[str, Any], read_receipt: Callable[[], bytes | None]) -> dict[str, Any]:
    """Writes a row of the version before as this one does: all that it says of an artifact, the receipt says too."""
    updated = {**fields, "schema_version": SCHEMA_VERSION, "receipt": None}
    if fields.get("outcome") not in (Outcome.PROVEN, Outcome.WRITTEN):
        return {**updated, "failed_proof": update_record(fields).get("checks", [])}
    receipt = read_receipt()
    if receipt is None:
        raise ArtifactError(
            f"The row has schema_version {_FORMER_VERSION}, and the receipt that belongs to it is not beside it. "
            "Run its job again."
        )
    return {**updated, "receipt": parse_json(receipt, "The receipt of the row")}


def _find_largest(differences: Iterable[float | None]) -> float | None:
    known = [difference for difference in differences if difference is not None]
    return max(known, key=lambda each: (math.isnan(each), each), default=None)


def _list_odd_values(row: JobResult) -> Iterator[str]:
    """Lists what no job has written: a row is a file, and others may write to the directory or the store it lies in."""
    if row.exit_code not in EXIT_CODES:
        yield f"exit_code is {describe_value(row.exit_code)}, not one of {', '.join(map(str, EXIT_CODES))}"
    if row.format not in FORMATS:
        yield f"format is {describe_value(row.format)}, not one of {', '.join(FORMATS)}"
    for name, text in (("started", row.started), ("finished", row.finished)):
        if text is not None and not is_moment(text):
            yield f"{name} is {describe_value(text)}, no ISO 8601 date with a time zone"
    if row.receipt is None:
        if row.outcome in (Outcome.PROVEN, Outcome.WRITTEN):
            yield f"outcome is {row.outcome}, and there is no receipt"
    else:
        yield from _list_contradictions(row, row.receipt)
        if _is_deeper(row.receipt.recipe, _MOST_LEVELS):
            yield f"the recipe in its receipt is nested more than {_MOST_LEVELS} levels deep"
    fields = asdict(row)
    if row.receipt is not None:
        del fields["receipt"]["recipe"]  # holds figures of the user's, which may be any
    yield from _list_odd_figures(fields, "")


def _list_contradictions(row: JobResult, receipt: Receipt) -> Iterator[str]:
    if receipt.schema_version != RECEIPT_VERSION:
        yield f"its receipt has schema_version {receipt.schema_version}, not {RECEIPT_VERSION}"
    told = {"outcome": receipt.status, **{name: getattr(receipt, name) for name in _OF_BOTH}}
    for name, value in told.items():
        if getattr(row, name) != value:
            own, other = describe_value(str(getattr(row, name))), describe_value(str(value))
            yield f"{name} is {own}, and its receipt says {other}"


def _is_deeper(value: Any, most: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inside) and (most == 0 or any(_is_deeper(each, most - 1) for each in inside))


def _list_odd_figures(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, (Mapping, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _list_odd_figures(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, float) and path.endswith(
        ("difference", "rounding")
    ):  # outputs may be infinite, and so differ
        if value < 0:
            yield f"{path} is {value}, and no difference is below 0"
    elif isinstance(value, float) and _OF_A_METRIC.search(path):
        pass  # of the user's, who may count below 0
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
    """Returns the row of a job whose artifact was published."""
    told = {name: getattr(receipt, name) for name in _OF_BOTH}
    return JobResult(
        **{**_begin(cell), **told}, outcome=Outcome(receipt.status.value), exit_code=0, error="", receipt=receipt
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
    return JobResult(
        **_begin(cell),
        outcome=Outcome.REFUSED if isinstance(error, ExporterError) and error.is_refusal else Outcome.FAILED,
        exit_code=error.exit_code if isinstance(error, ExporterError) else _UNEXPECTED,
        error=first_line if is_known else f"unexpected {type(error).__name__}: {first_line}",
        failed_proof=error.checks if isinstance(error, ProofError) else (),
        started=started,
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        host=platform.node(),
    )


def describe_death(
    cell: SweepJob, how: str, host: str = "", started: str | None = None, finished: str | None = None
) -> JobResult:
    """Returns the row of a job whose process ended before it could write one.

    Args:
        cell: The job.
        how: What is known about the end.
        host: The machine, where that is known.
        started: When the job began, where that is known.
        finished: When it ended, where that is known.
    """
    fields = {**_begin(cell), "host": host, "started": started, "finished": finished}
    return JobResult(**fields, outcome=Outcome.FAILED, exit_code=_UNEXPECTED, error=how)


def describe_missing(cell: SweepJob, why: str) -> JobResult:
    """Returns the row of a job that has not been run."""
    return JobResult(**_begin(cell), outcome=Outcome.MISSING, exit_code=_UNEXPECTED, error=why)


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
    content = _read_own(directory / ROW)
    if content is None:
        return None
    return JobResult.from_json(content.decode(errors="replace"), lambda: _read_own(directory / RECEIPT))


def _read_own(path: Path) -> bytes | None:
    try:
        return read_bytes(path, MAX_JSON)
    except OSError:
        return None


def find_objective(row: JobResult, objective: Objective) -> float:
    """Returns what a sweeper shall make small.

    A job without the figure, as after a failure, is the worst there is: Optuna's sweeper ends at what is not a number.
    """
    measured = row.measurements
    figures: dict[Objective, float | None] = {
        Objective.BYTES: None if row.receipt is None else row.receipt.total_bytes,
        Objective.SAVE: row.save_seconds,
        Objective.DIFFERENCE: _find_largest((row.output_difference, row.state_difference)),
        Objective.ACCURACY: row.error_rate,
        Objective.AGREEMENT: None if row.agreement is None else 1 - row.agreement,
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
