"""What a sweep is going to do: its jobs and its directory, written down before the first job begins."""

import hashlib
import json
import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from exporter.artifacts.versions import read_versions
from exporter.config import ExportConfig, OnError
from exporter.errors import ArtifactError, ExportError, LockTimeoutError
from exporter.exporting.provenance import describe_machine, describe_recipe
from exporter.saving.formats import find_chosen
from exporter.saving.layout.documents import MAX_JSON, parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.storage.locks import hold
from exporter.storage.own_files import read_bytes
from exporter.storage.remote import is_url
from exporter.storage.staging import replace_text
from exporter.sweeps.records.results import SweepJob, read_row
from exporter.text.showing import write_json

SCHEMA_VERSION = 1
PLAN = "plan.json"
_LOCK = ".lock"
_LONGEST_WAIT = 1.0  # for those that only clear up

# Overrides that say how the sweep goes, and nothing about a job.
_OF_THE_SWEEP = ("resume", "on_error", "objective", "results_url")

_PACKAGES = {
    "exporter": "keras-exporter",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "h5py": "h5py",
    "numpy": "numpy",
    "hydra": "hydra-core",
}


def hash_recipe(config: ExportConfig) -> str:
    """Returns the sha256 of what a job exports and measures: a job whose recipe has changed is another one."""
    measure = {**asdict(config.measure), "mode": None}
    described = describe_recipe(config, resolved=True) | {
        "measure": measure,
        "environments": config.verify.environments,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def describe_job(
    number: int, overrides: Sequence[str], config: ExportConfig, recipe_hash: str, directory: str
) -> SweepJob:
    """Returns a job as the sweep knows it.

    Args:
        number: Of the job in its sweep.
        overrides: What it is composed with.
        config: What that composes to.
        recipe_hash: See `hash_recipe`.
        directory: Of the job's log and row.
    """
    path = config.filepath if is_url(config.filepath) else str(Path(config.filepath).expanduser().absolute())
    return SweepJob(
        number=number,
        overrides=tuple(each for each in overrides if each.partition("=")[0] not in _OF_THE_SWEEP),
        recipe_hash=recipe_hash,
        filepath=path,
        format=find_chosen(path, config.save_format).name,
        directory=directory,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep before, while and after it runs.

    Attributes:
        schema_version: Of this record's layout.
        recipe: The name of the primary config.
        command: What was typed, word by word, without the program's name.
        job_command: The words that run one job of it alone, without its overrides.
        directory: Absolute path of the sweep's own directory.
        cells: The jobs, by their numbers; empty where the sweeper chooses them while it runs.
        on_error: What happens after a job that failed.
        resume: Whether jobs that were finished before are left as they are.
        results_url: URL of the place in a store where the jobs meet; None where they share the sweep's directory.
        started: ISO 8601 with a time zone.
        versions: Of the software, by name.
        host: Name of the machine that the sweep was started on.
        machine: That machine in a few words.
    """

    schema_version: int = SCHEMA_VERSION
    recipe: str
    command: tuple[str, ...]
    job_command: tuple[str, ...]
    directory: str
    cells: tuple[SweepJob, ...]
    on_error: OnError
    resume: bool = False
    results_url: str | None = None
    started: str
    versions: dict[str, str]
    host: str
    machine: str

    def to_json(self) -> str:
        """Returns the plan as indented JSON that ends with a newline."""
        return write_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: The JSON text.

        Raises:
            ArtifactError: The text is no plan that this version can read.
        """
        try:
            return read_record(cls, parse_json(text, "The plan of the sweep"), "the plan")
        except RecordError as error:
            raise ArtifactError(f"The plan of the sweep is damaged: {error}. Start a new sweep.") from error


def make_plan(**fields: Any) -> Plan:
    """Returns a plan with the versions and the machine of this process filled in."""
    return Plan(
        **fields,
        versions={"python": platform.python_version(), **read_versions(_PACKAGES)},
        host=platform.node(),
        machine=str(describe_machine()),
    )


def read_plan(directory: Path) -> Plan | None:
    """Reads the plan of a sweep; None where there is none that can be read."""
    try:
        return Plan.from_json(read_bytes(directory / PLAN, MAX_JSON).decode(errors="replace"))
    except (OSError, ArtifactError):
        return None


def find_earlier(root: Path, recipe: str, hashes: Sequence[str]) -> Path | None:
    """Finds the newest sweep that can be gone on with: of the same recipe, with at least one job in common.

    Args:
        root: The directory below which sweeps have theirs.
        recipe: The name of the primary config.
        hashes: Of the jobs.

    Returns:
        The sweep's directory; None where there is no such sweep.
    """
    known = set(hashes)
    plans = [plan for file in root.rglob(PLAN) if (plan := read_plan(file.parent)) is not None]
    fitting = [plan for plan in plans if plan.recipe == recipe and known & {cell.recipe_hash for cell in plan.cells}]
    return Path(max(fitting, key=lambda plan: plan.started).directory) if fitting else None


@contextmanager
def open_sweep(plan: Plan) -> Iterator[None]:
    """Takes the directory of a sweep for this process, and writes its plan.

    The lock dies with the process. Where the directory holds the rows of an earlier run, a job that has another
    number now finds its own directory under that number.

    Args:
        plan: The sweep.

    Raises:
        ExportError: Another process runs a sweep in this directory.
    """
    directory = Path(plan.directory)
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(directory / _LOCK, lambda holder: None, _LONGEST_WAIT))
        except LockTimeoutError:
            raise ExportError(
                f"Another sweep runs in {directory}. Wait for its end, or start this one in a directory of its own: "
                "leave hydra.sweep.dir out."
            ) from None
        _move_directories(plan)
        replace_text(directory / PLAN, plan.to_json())
        yield


def _move_directories(plan: Plan) -> None:
    """Gives each job of an earlier run the directory of the number that it has now."""
    earlier = read_plan(Path(plan.directory))
    if earlier is None:
        return
    rows = {cell.directory: row for cell in earlier.cells if (row := read_row(Path(cell.directory))) is not None}
    wanted = {cell.recipe_hash: cell.directory for cell in plan.cells}
    moves = {former: wanted.get(row.recipe_hash) for former, row in rows.items()}
    aside: dict[Path, str] = {}
    for former, new in moves.items():
        if new != former:
            place = Path(plan.directory) / f"earlier-{secrets.token_hex(4)}-{Path(former).name}"
            Path(former).rename(place)
            if new is not None:
                aside[place] = new
    for place, new in aside.items():
        if not os.path.lexists(new):
            place.rename(new)
