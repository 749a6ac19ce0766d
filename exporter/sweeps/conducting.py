"""A whole sweep, from its plan to its table: whatever becomes of the jobs, the table is written."""

import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from exporter.errors import MissingDependencyError
from exporter.sweeps.monitor import Monitor
from exporter.sweeps.plans import Plan, open_sweep
from exporter.sweeps.progress import read_progress
from exporter.sweeps.report import write_report
from exporter.sweeps.rows import read_row
from exporter.sweeps.running import STOPPED, close_worker
from exporter.sweeps.table import collect, print_table, write_table

_LAUNCHER_LOG = "launcher.log"


def conduct(plan: Plan, run: Callable[[], None]) -> int:
    """Runs a sweep.

    Args:
        plan: The sweep.
        run: Runs all jobs of it, by whichever launcher.

    Returns:
        The exit code: the worst of the jobs' own.

    Raises:
        ExportError: Another process runs a sweep in this directory.
        KeyboardInterrupt: The sweep was interrupted; the table is written all the same.
        Exception: What `run` raised before any job began.
    """
    directory = Path(plan.directory)
    interruption = None
    with open_sweep(plan):
        (directory / STOPPED).unlink(missing_ok=True)
        try:
            with Monitor(plan):
                run()
        except KeyboardInterrupt as error:
            interruption = error
        except Exception as error:
            jobs = [Path(cell.directory) for cell in plan.cells]
            if not any(read_row(job) or read_progress(job) for job in jobs):
                raise
            _log_launcher_error(error, directory / _LAUNCHER_LOG)
        finally:
            close_worker()
        sweep = collect(plan, was_interrupted=interruption is not None)
        write_table(sweep)
        try:
            report = str(write_report(sweep))
        except MissingDependencyError as error:
            report = str(error)
        print_table(sweep, report)
    if interruption is not None:
        raise interruption
    return sweep.exit_code


def _log_launcher_error(error: Exception, log: Path) -> None:
    """A launcher gives up when one of its workers dies; the rows tell which jobs that has cost."""
    logging.getLogger(__name__).debug("The launcher ended with an error.", exc_info=error)
    with log.open("a", encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    first_line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    print(f"exporter: the launcher ended with {type(error).__name__}: {first_line}; see {log}", file=sys.stderr)
