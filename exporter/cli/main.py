"""The command line: a recipe and its overrides become one export or a sweep of them."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from exporter.cli.command_line import read_command_line
from exporter.cli.composing import PRIMARY, VERSION_BASE, open_own_hydra, own_hydra, to_config, to_sweep_config
from exporter.cli.help.exit_codes import UNEXPECTED
from exporter.cli.shorthands import make_importable
from exporter.config import ExportConfig, JobConfig
from exporter.config.directories import CONFIG_DIRECTORY
from exporter.errors import MOST_FAULTS, ExporterError, ForeignFileError, UsageError, print_error
from exporter.processes.interrupts import Terminated, raise_endings, raise_if_ended
from exporter.storage.own_files import make_directory, replace_bytes
from exporter.text.failures import find_own_place
from exporter.text.hiding import hide
from exporter.text.printable import escape
from exporter.text.showing import find_first_line, join_lines, print_line


def main(commands: Collection[str] = ()) -> None:
    """Runs the command line and ends the process with its exit code.

    Args:
        commands: The names of the commands beside the export.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print a traceback where it can raise
    prepare_process(os.getcwd())
    raise_endings()
    try:
        with own_hydra():
            code = _run(commands)
    except UsageError as error:
        print_faults(error)
        sys.exit(error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        print_error(f"Hydra cannot start the run: {find_first_line(error)}")
        sys.exit(UsageError.exit_code)
    except OSError as error:
        print_error(f"the directory of the run cannot be written: {join_lines(error)}")
        sys.exit(ExporterError.exit_code)
    except ExporterError as error:
        print_error(hide(str(error)))
        sys.exit(error.exit_code)
    except Terminated as ending:
        print(f"exporter: ended by {signal.Signals(ending.number).name}", file=sys.stderr)
        sys.exit(128 + ending.number)
    except KeyboardInterrupt:
        print("exporter: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    sys.exit(code)


def _run(commands: Collection[str]) -> int:
    asked = read_command_line(sys.argv[1:], commands)
    sys.argv[1:] = asked.words
    job = Job(asked.directories)
    run = hydra.main(version_base=VERSION_BASE, config_path=str(CONFIG_DIRECTORY), config_name=PRIMARY)(job)
    if asked.plan is None:
        run()
        return job.exit_code
    from exporter.sweeps.sweep import run_sweep

    return run_sweep(asked.plan, run)


def prepare_process(directory: str, others: Sequence[str] = ()) -> None:
    """Makes this process, which a launcher may have started elsewhere, one like that of the command line.

    Args:
        directory: In which the command was given.
        others: More directories with modules of the user's own.
    """
    # TensorFlow reads these when it is imported, here and in the processes that this one starts.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of this machine would report itself
    os.chdir(directory)  # relative paths are the caller's
    make_importable([directory, *others])  # a `_target_` of the caller's own


class Job:
    """What Hydra runs: one export, alone or as a job of a sweep; a failure is recorded and not raised.

    Attributes:
        exit_code: Of an export that ran alone.
        directories: Where modules of the user's own are, beside the working directory.
    """

    def __init__(self, directories: Sequence[str] = ()) -> None:
        self.exit_code = 0
        self.directories = tuple(directories)

    def __call__(self, composed: object) -> float | None:
        """Runs the export.

        Args:
            composed: What Hydra composed for this job.

        Returns:
            The objective of a job, for a sweeper that searches; None where there is none.
        """
        settings = HydraConfig.get()
        prepare_process(settings.runtime.cwd, self.directories)
        if settings.mode is RunMode.MULTIRUN:
            return _run_in_a_sweep(composed, settings)
        _keep_composition(composed, settings)
        self.exit_code = _run_alone(composed, Path(settings.runtime.output_dir))
        return None

    def __reduce__(self) -> tuple[Callable[[Sequence[str]], "Job"], tuple[tuple[str, ...]]]:
        return _restore_job, (self.directories,)


def _restore_job(directories: Sequence[str]) -> Job:
    """Makes the job in a process of a launcher, which Hydra lets resolve `${exporter.*}` next."""
    open_own_hydra()
    return Job(directories)


def _keep_composition(composed: Any, settings: Any) -> None:
    """Writes what Hydra would write into the directory of a job, and through whatever stands there."""
    folder = Path(settings.runtime.output_dir) / ".hydra"
    make_directory(folder)
    parts = {"config": composed, "hydra": HydraConfig.instance().cfg, "overrides": settings.overrides.task}
    for name, part in parts.items():
        replace_bytes(folder / f"{name}.yaml", OmegaConf.to_yaml(part).encode())


def _run_in_a_sweep(composed: Any, settings: Any) -> float | None:
    from exporter.sweeps.job import run_sweep_job
    from exporter.sweeps.records.plans import describe_job, hash_recipe
    from exporter.sweeps.records.results import describe_failure, find_objective, write_row

    config, refusals = to_sweep_config(composed)
    directory = settings.runtime.output_dir
    overrides: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)
    cell = describe_job(settings.job.num, overrides, config, hash_recipe(config), directory)
    try:
        _keep_composition(composed, settings)
    except ForeignFileError as error:
        row = describe_failure(cell, error, datetime.now(UTC).isoformat(timespec="milliseconds"))
        write_row(row, Path(directory))
    else:
        row = run_sweep_job(config, cell, Path(settings.sweep.dir), refusals)
    return None if config.objective is None else find_objective(row, config.objective)


def _run_alone(composed: Any, run_directory: Path) -> int:
    return run_alone(lambda: to_config(composed), run_directory)


def run_alone(read_config: Callable[[], ExportConfig], run_directory: Path) -> int:
    """Runs one export for a person, and logs why it failed.

    Args:
        read_config: Returns the export.
        run_directory: For its receipt and logs.

    Returns:
        The exit code of the process.
    """
    try:
        # Not above: a usage fault does not pay for them.
        from exporter.artifacts.summary import print_summary
        from exporter.exporting.job import run_export
        from exporter.exporting.reporting import TerminalReporter
        from exporter.storage.logs import check_logs
        from exporter.storage.sidecars import locate_receipt

        check_logs()
        config = read_config()
        with TerminalReporter(run_directory / "tensorflow.log") as reporter:
            receipt = run_export(config, run_directory=run_directory, reporter=reporter)
        verbose = isinstance(config, JobConfig) and config.verbose
        print_summary(receipt, locate_receipt(receipt.filepath), verbose=verbose)
    except ExporterError as error:
        logging.getLogger(__name__).exception("The export failed.")
        print_error(hide(str(error)))
        if find_own_place(error):
            print_line(f"  the whole traceback is in {run_directory / 'exporter.log'}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        raise_if_ended(error)
        logging.getLogger(__name__).exception("The export ended with an unexpected error.")
        log = run_directory / "exporter.log"
        print_error(escape(f"unexpected {type(error).__name__}: {hide(str(error))}; its traceback is in {log}"))
        return UNEXPECTED
    return 0


def print_faults(error: UsageError) -> None:
    """Prints every fault of a command line or a recipe, a line each."""
    places = list(dict.fromkeys(fault.place for fault in error.faults))
    where = f" in {' and '.join(places)}" if all(places) else ""
    print_line(f"exporter: {len(error.faults)} fault{'s' * (len(error.faults) > 1)}{where}", file=sys.stderr)
    for fault in error.faults[:MOST_FAULTS]:
        print_line(f"  {fault.path}: {hide(fault.message)}", file=sys.stderr)
    if len(error.faults) > MOST_FAULTS:
        print(f"  and {len(error.faults) - MOST_FAULTS:,} more", file=sys.stderr)
