"""Tells of an export, without writing anything, whether it can be made, and what each format can hold of its model.

The overrides are those of the export itself: exporter check model=file model.filepath=old.h5. The model is built once,
or loaded, and traced; nothing is saved and nothing is proven. The exit code is that of the export, as far as it is
known: 0 where the format that was asked for can hold the model.
"""

import argparse
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.errors import Fault, UsageError

if TYPE_CHECKING:
    from exporter.config import JobConfig

# Hydra and what builds a model are imported by what uses them: `--help` does not pay for them.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "overrides", metavar="OVERRIDE", nargs="*", help="as for an export: KEY=VALUE, a recipe, a model"
    )
    parser.add_argument("-cn", "--config-name", metavar="NAME", help="a recipe")
    parser.add_argument("-cd", "--config-dir", metavar="DIRECTORY", help="a directory with recipes of your own")
    parser.add_argument("--json", action="store_true", help="print all as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.cli.main import prepare_process, print_faults

    prepare_process(os.getcwd())
    sys.dont_write_bytecode = True  # of the user's modules
    try:
        config = _compose(arguments)
    except UsageError as error:
        print_faults(error)
        return error.exit_code
    from exporter.exporting.dry_run.forecast import forecast_export
    from exporter.exporting.reporting import TerminalReporter

    with TerminalReporter() as reporter:
        forecast = forecast_export(config, reporter)
    if arguments.json:
        print(forecast.to_json(), end="")
    else:
        forecast.print()
    return forecast.exit_code


def _compose(arguments: argparse.Namespace) -> "JobConfig":
    from exporter.cli.composing import COMMAND_LINE, PRIMARY, open_loader, own_hydra
    from exporter.cli.preflight.jobs import Preflight
    from exporter.cli.shorthands import expand, make_importable

    with own_hydra():
        try:
            found = expand(arguments.overrides, (), arguments.config_dir, arguments.config_name)
        except UsageError as error:
            raise UsageError([replace(fault, place=COMMAND_LINE) for fault in error.faults]) from None
        make_importable(found.directories)
        recipe = found.config_name or PRIMARY
        preflight = Preflight(open_loader(found.config_dir), recipe, COMMAND_LINE)
        [job, *others] = preflight.check(found.overrides)
    if others:
        message = f"is a sweep of {len(others) + 1} jobs; add the override hydra.mode=RUN to check one of them"
        raise UsageError([Fault(recipe, message, COMMAND_LINE)])
    return job.config
