"""Where the jobs of a sweep meet that share no file system: a place in a store, with a directory for each job.

The directory is named by the hash of the job's recipe, so a job that is asked for again, on whatever machine and in
whatever sweep, finds what has become of it. The row is written after the other files: who finds it finds all.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from exporter.errors import ArtifactError, ExportError
from exporter.storage.own_files import read_bytes, replace_bytes
from exporter.storage.remote import Store
from exporter.storage.staging import replace_text
from exporter.sweeps.records.results import LOG, RECEIPT, ROW, JobResult, SweepJob, read_row
from exporter.text.printable import escape

_OF_A_JOB = (RECEIPT, LOG, "output.log", ROW)


def send_job(url: str | None, cell: SweepJob) -> None:
    """Sends what a job has left in its directory; a store that refuses costs the job nothing but is named in its log.

    Args:
        url: Of the results_url place; None where there is none.
        cell: The job.
    """
    if url is None:
        return
    try:
        _send(Store(url), Path(cell.directory), _OF_A_JOB, f"jobs/{cell.recipe_hash}/")
    except ExportError as error:
        logging.getLogger(__name__).error("The row stays in %s: %s", escape(cell.directory), error)


def receive_jobs(url: str | None, cells: Sequence[SweepJob]) -> None:
    """Brings what other machines have sent into the directories of jobs that have no row here.

    Args:
        url: Of the results_url place; None where there is none.
        cells: The jobs.

    Raises:
        ExportError: The store refused.
    """
    missing = [cell for cell in cells if not _has_row(cell)]
    if url is None or not missing:
        return
    store = Store(url)
    for cell in missing:
        row = _read(store, f"jobs/{cell.recipe_hash}")
        if row is None or row.recipe_hash != cell.recipe_hash:
            continue
        directory = Path(cell.directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name in _OF_A_JOB[:-1]:
            content = store.read(f"jobs/{cell.recipe_hash}/{name}")
            if content is not None:
                replace_bytes(directory / name, content)
        # In the sweep that it is read in, a job has the number and the words of that sweep.
        replace_text(directory / ROW, replace(row, number=cell.number, overrides=cell.overrides).to_json())


def forget_jobs(url: str | None, cells: Sequence[SweepJob]) -> None:
    """Removes the rows of earlier runs, so that a row that is found is of this one.

    Args:
        url: Of the results_url place; None where there is none.
        cells: The jobs that run anew.

    Raises:
        ExportError: The store refused.
    """
    if url is not None:
        store = Store(url)
        store.check_reachable()
        for cell in cells:
            store.remove(f"jobs/{cell.recipe_hash}/{ROW}")


def send_files(url: str | None, directory: Path, names: Sequence[str]) -> None:
    """Sends files of a sweep's own directory.

    Args:
        url: Of the results_url place; None where there is none.
        directory: Of the sweep.
        names: Of the files; those that are not there are left out.

    Raises:
        ExportError: The store refused; all of it stands in the sweep's directory.
    """
    if url is not None:
        _send(Store(url), directory, names, "")


def _send(store: Store, directory: Path, names: Sequence[str], below: str) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            store.write(f"{below}{name}", read_bytes(directory / name))


def _has_row(cell: SweepJob) -> bool:
    row = read_row(Path(cell.directory))
    return row is not None and row.recipe_hash == cell.recipe_hash


def _read(store: Store, place: str) -> JobResult | None:
    content = store.read(f"{place}/{ROW}")
    if content is None:
        return None
    try:
        return JobResult.from_json(content.decode(errors="replace"), lambda: store.read(f"{place}/{RECEIPT}"))
    except ArtifactError:
        return None
