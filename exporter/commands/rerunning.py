"""Makes an artifact again, from the recipe inside it, with overrides as in an export.

The new one goes into the working directory under the old one's name and `-rerun`, and replaces nothing, unless
`filepath=` and `overwrite=true` say otherwise. Relative paths of the recipe start at the working directory; the files
that it reads must be the same as before. The recipe may name only what exporter and Keras bring, and reads nothing from
the environment, unless you allow it.
"""

import argparse
import os
from datetime import datetime
from pathlib import Path

from exporter.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the artifact, or its URL")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="what shall be different")
    parser.add_argument(
        "--trust", metavar="MODULE", action="append", default=[], help="a module or package that the recipe may import"
    )
    parser.add_argument(
        "--environment",
        metavar="NAME",
        action="append",
        default=[],
        help="a variable of the environment that the recipe may read",
    )
    parser.add_argument("--allow-drift", action="store_true", help="take the files that it reads also if they changed")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter._logs import open_log
    from exporter.cli import prepare_process, print_faults, run_alone
    from exporter.rerunning import plan_rerun
    from exporter.stores import find_artifact

    prepare_process(os.getcwd())
    try:
        config = plan_rerun(
            find_artifact(arguments.path),
            arguments.overrides,
            trusted=arguments.trust,
            variables=arguments.environment,
            allow_drift=arguments.allow_drift,
        )
    except UsageError as error:
        print_faults(error)
        return error.exit_code
    directory = Path(datetime.now().strftime(f".exporter/runs/%Y-%m-%d/%H-%M-%S-%f-{os.getpid()}"))
    directory.mkdir(parents=True)
    open_log(directory / "exporter.log")
    return run_alone(lambda: config, directory)
