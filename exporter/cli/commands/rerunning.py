"""Makes an artifact again, from the recipe inside it, with overrides as in an export.

The new one goes into the working directory under the old one's name and `-rerun`, and replaces nothing, unless
`filepath=` and `overwrite=true` say otherwise. Relative paths of the recipe start at the working directory; the files
that it reads must be the same as before. The recipe may name only what exporter and Keras bring, reads no other file,
no URL and nothing from the environment, unless you allow it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.cli.commands.confining import add_limits, run_recipe
from exporter.config import JobConfig
from exporter.errors import UsageError
from exporter.text.showing import print_line

if TYPE_CHECKING:
    from exporter.artifacts.receipt import Receipt


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
    parser.add_argument(
        "--input",
        metavar="PATH",
        action="append",
        default=[],
        help="a file or a URL that the recipe may read, whatever it holds; imagenet: weights that Keras downloads",
    )
    add_limits(parser)
    parser.add_argument("--allow-drift", action="store_true", help="take the files that it reads also if they changed")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.cli.main import prepare_process, print_faults
    from exporter.storage.remote import find_artifact

    prepare_process(os.getcwd())
    given = {
        "path": str(find_artifact(arguments.path)),
        "overrides": arguments.overrides,
        "trusted": arguments.trust,
        "variables": arguments.environment,
        "inputs": arguments.input,
        "allow_drift": arguments.allow_drift,
    }
    try:
        _plan(given, lambda line: print_line(f"! {line}", sys.stderr))
    except UsageError as error:
        print_faults(error)
        return error.exit_code
    code: int = run_recipe(f"{__name__}:rerun", given, "The export", arguments.timeout, arguments.memory)
    return code


def rerun(**given: object) -> int:
    """Runs the recipe inside an artifact as the command line runs one.

    Args:
        **given: The arguments of `exporter.cli.rerunning.plan_rerun`, with the path as text.

    Returns:
        The exit code.
    """
    from exporter.cli.main import prepare_process, run_alone
    from exporter.storage.logs import open_log

    prepare_process(os.getcwd())
    config = _plan(given)
    directory = Path(datetime.now().strftime(f".exporter/runs/%Y-%m-%d/%H-%M-%S-%f-{os.getpid()}"))
    directory.mkdir(parents=True)
    open_log(directory / "exporter.log")
    return run_alone(lambda: config, directory)


def rerun_quietly(**given: object) -> str:
    """Runs the recipe inside an artifact for a program.

    Args:
        **given: As for `rerun`.

    Returns:
        The receipt, as JSON.
    """
    from exporter.cli.main import prepare_process
    from exporter.exporting.job import run_export

    prepare_process(os.getcwd())
    return run_export(_plan(given)).to_json()


def make_again(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    trust: Sequence[str] = (),
    environment: Sequence[str] = (),
    inputs: Sequence[str] = (),
    allow_drift: bool = False,
    timeout: float | None = None,
    memory: float | None = None,
) -> "Receipt":
    """Makes an artifact again; see `exporter.rerun`.

    Args:
        path: See there, also for the others.
        overrides: See there.
        trust: See there.
        environment: See there.
        inputs: See there.
        allow_drift: See there.
        timeout: See there.
        memory: See there.
    """
    from exporter.artifacts.receipt import Receipt
    from exporter.storage.remote import find_artifact

    given = {
        "path": str(find_artifact(os.fspath(path))),
        "overrides": list(overrides),
        "trusted": list(trust),
        "variables": list(environment),
        "inputs": list(inputs),
        "allow_drift": allow_drift,
    }
    _plan(given)  # its faults are named here, each by itself
    return Receipt.from_json(run_recipe(f"{__name__}:rerun_quietly", given, "The export", timeout, memory))


def _plan(given: Mapping[str, Any], report: Callable[[str], None] | None = None) -> JobConfig:
    from exporter.cli.rerunning import plan_rerun

    return plan_rerun(**{**given, "path": Path(given["path"])}, report=report)
