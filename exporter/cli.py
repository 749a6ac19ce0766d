"""The command line: a recipe and its overrides become one export or a sweep of them."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from exporter import _hydra
from exporter.errors import ExporterError, UsageError

_UNEXPECTED = 1
_INTERRUPTED = 130
_FROM_MILD_TO_WORST = (0, 2, 3, 4, _UNEXPECTED)

_exit_codes: list[int] = []


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    # TensorFlow reads these when it is imported, here and in the processes that this one starts.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print a traceback where it can raise
    sys.path.append(os.getcwd())  # a `_target_` of the caller's own
    try:
        sys.argv[1:] = _hydra.check_command_line(sys.argv[1:])
        run_job()
    except UsageError as error:
        _print_faults(error)
        sys.exit(error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"exporter: Hydra cannot start the run: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(UsageError.exit_code)
    except OSError as error:
        print(f"exporter: the directory of the run cannot be written: {error}", file=sys.stderr)
        sys.exit(ExporterError.exit_code)
    except KeyboardInterrupt:
        print("exporter: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    sys.exit(max(_exit_codes, key=_FROM_MILD_TO_WORST.index, default=0))


@hydra.main(version_base="1.3", config_path=str(_hydra.CONFIG_DIRECTORY), config_name=_hydra.PRIMARY)
def run_job(composed: Any) -> int:
    """Runs one export; a failure is recorded and not raised, so that the other jobs of a sweep still run.

    Args:
        composed: What Hydra composed for this job.

    Returns:
        The job's exit code.
    """
    run_directory = Path(HydraConfig.get().runtime.output_dir)
    code = 0
    try:
        # Not above: a usage fault and --help do not pay for them.
        from exporter._terminal import TerminalReporter, print_summary
        from exporter.jobs import export
        from exporter.publishing import name_receipt

        config = _hydra.to_config(composed)
        with TerminalReporter(run_directory / "tensorflow.log") as reporter:
            receipt = export(config, run_directory=run_directory, reporter=reporter)
        print_summary(receipt, name_receipt(Path(receipt.filepath)))
    except ExporterError as error:
        logging.getLogger(__name__).exception("The export failed.")
        print(f"exporter: {error}", file=sys.stderr)
        code = error.exit_code
    except Exception as error:
        logging.getLogger(__name__).exception("The export ended with an unexpected error.")
        log = run_directory / "exporter.log"
        print(f"exporter: unexpected {type(error).__name__}: {error}; its traceback is in {log}", file=sys.stderr)
        code = _UNEXPECTED
    _exit_codes.append(code)
    return code


def _print_faults(error: UsageError) -> None:
    places = list(dict.fromkeys(fault.place for fault in error.faults))
    where = f" in {' and '.join(places)}" if all(places) else ""
    print(f"exporter: {len(error.faults)} fault{'s' * (len(error.faults) > 1)}{where}", file=sys.stderr)
    for fault in error.faults:
        print(f"  {fault.path}: {fault.message}", file=sys.stderr)
