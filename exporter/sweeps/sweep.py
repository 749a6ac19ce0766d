"""A whole sweep, from its plan to its table: whatever becomes of the jobs, the table is written."""

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from exporter.errors import MissingDependencyError, print_error
from exporter.storage.own_files import open_to_append
from exporter.sweeps.job import close_worker, forgive, give_up
from exporter.sweeps.records.plans import PLAN, Plan, open_sweep
from exporter.sweeps.records.progress import find_heartbeat
from exporter.sweeps.records.results import STOPPED, read_row
from exporter.sweeps.records.results_store import forget_jobs, receive_jobs, send_files
from exporter.sweeps.showing.files import CSV, JSON, write_table
from exporter.sweeps.showing.monitor import Monitor
from exporter.sweeps.showing.report import REPORT, write_report
from exporter.sweeps.showing.table import print_table
from exporter.sweeps.tables.collecting import collect
from exporter.text.showing import find_first_line

_LAUNCHER_LOG = "launcher.log"
_OF_HYDRA = "multirun.yaml"
_SECONDS_OF_SILENCE = 15.0


def run_sweep(plan: Plan, run: Callable[[], None]) -> int:
    """Runs a sweep.

    Args:
        plan: The sweep.
        run: Runs all jobs of it, by whichever launcher.

    Returns:
        The exit code: the worst of the jobs' own, see `Sweep.exit_code`.

    Raises:
        ExportError: Another process runs a sweep in this directory.
        KeyboardInterrupt: The sweep was interrupted; the table is written all the same.
        Exception: What `run` raised before any job began.
    """
    directory = Path(plan.directory)
    interruption = None
    with open_sweep(plan):
        (directory / STOPPED).unlink(missing_ok=True)
        (directory / _OF_HYDRA).unlink(missing_ok=True)  # it would write through whatever stands there
        if not plan.resume:
            forget_jobs(plan.results_url, plan.cells)
        receive_jobs(plan.results_url, plan.cells)
        try:
            with Monitor(plan):
                _run_until_all_have_begun(plan, run)
        except KeyboardInterrupt as error:
            interruption = error
        finally:
            close_worker()
        receive_jobs(plan.results_url, plan.cells)
        sweep = collect(plan, was_interrupted=interruption is not None)
        write_table(sweep)
        try:
            report = str(write_report(sweep))
        except MissingDependencyError as error:
            report = str(error)
        print_table(sweep, report)
        send_files(plan.results_url, directory, (PLAN, JSON, CSV, REPORT))
    if interruption is not None:
        raise interruption
    return sweep.exit_code


def _run_until_all_have_begun(plan: Plan, run: Callable[[], None]) -> None:
    """Runs the jobs, and once more those that a launcher has not come to when it gave up on another one."""
    directory = Path(plan.directory)
    for cell in plan.cells:
        forgive(cell)
    waiting = len(plan.cells) + 1
    while True:
        try:
            run()
        except Exception as error:
            if not any(directory.glob("*/progress.json")):
                raise
            _log_launcher_error(error, directory / _LAUNCHER_LOG)
        else:
            return
        _wait_for_silence(plan)
        untouched = 0
        for cell in plan.cells:
            if read_row(Path(cell.directory)) is None:
                if find_heartbeat(Path(cell.directory)) is None:
                    untouched += 1
                else:
                    give_up(cell)
        if not 0 < untouched < waiting:
            return
        waiting = untouched


def _wait_for_silence(plan: Plan) -> None:
    """Waits while jobs give signs of life: on a cluster they go on when a launcher gives up on one of them."""
    last = time.monotonic()
    while time.monotonic() - last < _SECONDS_OF_SILENCE:
        for cell in plan.cells:
            age = find_heartbeat(Path(cell.directory))
            if age is not None and age < _SECONDS_OF_SILENCE and read_row(Path(cell.directory)) is None:
                last = max(last, time.monotonic() - age)
        time.sleep(1)


def _log_launcher_error(error: Exception, log: Path) -> None:
    """A launcher gives up when one of its workers dies; the rows tell which jobs that has cost."""
    logging.getLogger(__name__).debug("The launcher ended with an error.", exc_info=error)
    with open(open_to_append(log), "a", encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    first_line = find_first_line(error)
    print_error(f"the launcher ended with {type(error).__name__}: {first_line}; see {log}")
