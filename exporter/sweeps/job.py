"""One job of a sweep, in the process that a launcher runs it in."""

import atexit
import json
import logging
import platform
import signal
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exporter.config import JobConfig, OnError
from exporter.errors import ExportError, Fault, UsageError
from exporter.processes.fresh_process import FreshProcess, ProcessEndedError
from exporter.storage.own_files import read_bytes, replace_bytes
from exporter.storage.remote import is_url
from exporter.storage.remote.addresses import split_name
from exporter.sweeps.records.progress import find_heartbeat, read_progress, remove_progress
from exporter.sweeps.records.results import (
    ROW,
    STOPPED,
    JobResult,
    Outcome,
    SweepJob,
    describe_death,
    describe_failure,
    describe_missing,
    is_intact,
    read_row,
    write_row,
)
from exporter.sweeps.records.results_store import receive_jobs, send_job

_GIVEN_UP = "given-up"

# Launchers run many jobs in one process: they share the worker, which shares models and the process of the proofs.
_worker: FreshProcess | None = None


def run_sweep_job(
    config: JobConfig, cell: SweepJob, sweep_directory: Path, refusals: Sequence[Fault] = ()
) -> JobResult:
    """Runs one job, unless it is finished already.

    Args:
        config: The job.
        cell: The same, as the sweep knows it.
        sweep_directory: Of the whole sweep.
        refusals: Why its format cannot do what it asks; see `Fault.is_refusal`.

    Returns:
        The row of the job, which also stands in its directory, unless the job was not run.
    """
    directory = Path(cell.directory)
    try:
        receive_jobs(config.results_url, (cell,))
    except ExportError as error:
        logging.getLogger(__name__).error("What has become of it elsewhere is not known: %s", error)
    earlier = read_row(directory)
    if earlier is not None and _is_of(earlier, cell) and _is_settled(earlier, refusals):
        return earlier
    if (sweep_directory / STOPPED).exists():
        return describe_missing(cell, read_bytes(sweep_directory / STOPPED).decode(errors="replace").strip())
    if earlier is not None and (directory / _GIVEN_UP).exists():
        return earlier
    (directory / ROW).unlink(missing_ok=True)
    remove_progress(directory)
    if refusals:
        write_row(describe_failure(cell, UsageError(refusals), _tell_time()), directory)
    else:
        _export(config, cell)
    send_job(config.results_url, cell)
    row = read_row(directory) or describe_death(cell, "its row could not be written", platform.node())
    if row.outcome is Outcome.FAILED and config.on_error is OnError.STOP:
        replace_bytes(sweep_directory / STOPPED, f"not run: job {cell.number} had failed\n".encode())
    return row


def _export(config: JobConfig, cell: SweepJob) -> None:
    """Lets the worker export a job and write its row, or writes how the worker has ended."""
    worker = _open_worker()
    try:
        worker.ask("export", None, config=json.loads(json.dumps(asdict(config))), cell=asdict(cell))
    except ProcessEndedError as error:
        row = _describe_end(worker, cell)
        logging.getLogger(__name__).error("%s", row.error, exc_info=error)
        if read_row(Path(cell.directory)) is None:  # else it ended after its work
            write_row(row, Path(cell.directory))


def _is_settled(row: JobResult, refusals: Sequence[Fault]) -> bool:
    """Whether a job need not run again; what the check of its recipe refused, a later version may not refuse."""
    by_recipe = row.exit_code == UsageError.exit_code
    return is_intact(row) or (row.outcome is Outcome.REFUSED and by_recipe is bool(refusals))


def _is_of(row: JobResult, cell: SweepJob) -> bool:
    """Whether a row is of a job, and names no other store: whoever writes the file does not choose who is contacted."""
    is_near = not is_url(row.filepath) or split_name(row.filepath)[0] == split_name(cell.filepath)[0]
    return row.recipe_hash == cell.recipe_hash and is_near


def give_up(cell: SweepJob) -> None:
    """Writes the row of a job that began and has ended without one, and lets it rest until the sweep is resumed."""
    directory = Path(cell.directory)
    progress = read_progress(directory)
    during = f" during `{progress.phase}`" if progress is not None and progress.phase else ""
    host, started = ("", None) if progress is None else (progress.host, progress.started)
    # It gave signs of life until then; who ran beside it was not measured alone.
    finished = _tell_time(find_heartbeat(directory) or 0.0)
    write_row(describe_death(cell, f"ended without a result{during} (killed?)", host, started, finished), directory)
    replace_bytes(directory / _GIVEN_UP, b"")


def forgive(cell: SweepJob) -> None:
    """Lets a job run that an earlier run of the sweep has given up on."""
    (Path(cell.directory) / _GIVEN_UP).unlink(missing_ok=True)


def _open_worker() -> FreshProcess:
    global _worker
    if _worker is not None and not _worker.is_ready():
        _worker.close()
        _worker = None
    if _worker is None:
        _worker = FreshProcess("exporter.sweeps.worker")
        atexit.register(_worker.close)
    return _worker


def close_worker() -> None:
    """Ends the worker of this process, if there is one; an export that it is in the middle of leaves nothing behind."""
    global _worker
    if _worker is not None:
        _worker.interrupt()
        _worker = None


def _describe_end(worker: FreshProcess, cell: SweepJob) -> JobResult:
    progress = read_progress(Path(cell.directory))
    end = worker.describe_end()
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM):
        end = end.replace(f"signal {int(number)}", f"signal {int(number)} ({number.name})")
    where = f" during `{progress.phase}`" if progress is not None and progress.phase else ""
    started = None if progress is None else progress.started
    return describe_death(cell, f"its process {end}{where}", platform.node(), started, _tell_time())


def _tell_time(seconds_ago: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="milliseconds")
