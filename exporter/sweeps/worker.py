"""The process that exports the jobs of a sweep, one after the other: `python -m exporter.sweeps.worker`.

It is not the process that a launcher starts but a child of it. So whatever ends an export, be it a crash below Python
or the system that ran out of memory, leaves somebody behind who writes the row.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter.artifacts.summary import print_summary
from exporter.config import JobConfig, MeasureMode, Origin
from exporter.config.checking import convert
from exporter.errors import ExporterError, UsageError
from exporter.exporting.job import run_export
from exporter.exporting.session import ExportSession
from exporter.processes.fresh_process import answer_requests
from exporter.processes.imports import claim_process
from exporter.processes.interrupts import raise_if_ended
from exporter.storage.logs import open_log
from exporter.storage.own_files import open_to_append
from exporter.storage.sidecars import locate_receipt
from exporter.sweeps.records.progress import ProgressWriter
from exporter.sweeps.records.results import LOG, JobResult, SweepJob, describe_failure, describe_success, write_row

OUTPUT = "output.log"

_LOGGER = logging.getLogger("exporter.sweeps")


class Worker:
    """Exports jobs that share their models and the process of their proofs."""

    def __init__(self) -> None:
        self._session = ExportSession()

    def close(self) -> None:
        """Ends the processes that the jobs shared, and removes their directories."""
        self._session.close()

    def export(self, config: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one job and writes its row.

        Args:
            config: A `JobConfig` as plain data.
            cell: A `SweepJob` as plain data.

        Returns:
            Nothing but that it was done.
        """
        job = SweepJob(**{**cell, "overrides": tuple(cell["overrides"])})
        directory = Path(job.directory)
        with ProgressWriter(directory) as progress:
            try:
                with _output_kept(directory / OUTPUT), _log_kept(directory / LOG):
                    row = self._export(config, job, progress)
            except OSError as error:  # there cannot be a log
                row = describe_failure(job, error, progress.started)
        write_row(row, directory)
        return {}

    def _export(self, config: Mapping[str, Any], job: SweepJob, progress: ProgressWriter) -> JobResult:
        directory = Path(job.directory)
        try:
            receipt = run_export(
                _read_config(config), run_directory=directory, reporter=progress, session=self._session
            )
            row = describe_success(job, receipt)
            print_summary(receipt, locate_receipt(receipt.filepath), verbose=True)
        except ExporterError as error:
            _LOGGER.exception("The export failed.")
            row = describe_failure(job, error, progress.started)
        except Exception as error:
            raise_if_ended(error)
            _LOGGER.exception("The export ended with an unexpected error.")
            row = describe_failure(job, error, progress.started)
        return row


def _read_config(values: Mapping[str, Any]) -> JobConfig:
    config, faults = convert({name: value for name, value in values.items() if name != "origin"}, JobConfig)
    if config is None:
        raise UsageError(faults)
    config.origin = Origin(**values["origin"])
    if config.measure.mode is MeasureMode.SWEEPS:
        config.measure = replace(config.measure, mode=MeasureMode.ALWAYS)
    return config


@contextmanager
def _output_kept(file: Path) -> Iterator[None]:
    """Lets everything that is printed, in Python or below it, end up in a file."""
    opened = open_to_append(file)
    kept = os.dup(1), os.dup(2)
    for descriptor in (1, 2):
        os.dup2(opened, descriptor)
    os.close(opened)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, former in zip((1, 2), kept, strict=True):
            os.dup2(former, descriptor)
            os.close(former)
        if file.stat().st_size == 0:
            file.unlink()


@contextmanager
def _log_kept(file: Path) -> Iterator[None]:
    handler = open_log(file)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


if __name__ == "__main__":
    # In the TensorFlow that is imported later; what it says in C++ is kept in the job's own file all the same.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    claim_process()
    worker = Worker()
    answer_requests(worker)
    worker.close()
