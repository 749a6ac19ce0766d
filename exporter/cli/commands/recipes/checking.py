"""Tells of an export, without writing anything, whether it can be made, and what each format can hold of its model.

The overrides are those of the export itself: exporter check model=file model.filepath=old.h5. The model is built once,
or loaded, and traced; nothing is saved and nothing is proven. The exit code is that of the export, as far as it is
known: 0 where the format that was asked for can hold the model.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from exporter.errors import Fault, UsageError
from exporter.saving.contents import format_bytes
from exporter.text.page import Page, escape_markup, make_console

if TYPE_CHECKING:
    from exporter.config import JobConfig
    from exporter.exporting.dry_run.forecast import Forecast, FormatForecast

# Hydra and what builds a model are imported by what uses them: `--help` does not pay for them.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("overrides", metavar="OVERRIDE", nargs="*", help="as for an export: KEY=VALUE, GROUP=OPTION")
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
        _CheckPage(make_console(sys.stdout)).show(forecast)
    return forecast.exit_code


def _compose(arguments: argparse.Namespace) -> "JobConfig":
    from exporter.cli.composing import COMMAND_LINE, PRIMARY, open_loader, own_hydra
    from exporter.cli.preflight.jobs import Preflight

    with own_hydra():
        recipe = arguments.config_name or PRIMARY
        preflight = Preflight(open_loader(arguments.config_dir), recipe, COMMAND_LINE)
        [job, *others] = preflight.check(arguments.overrides)
    if others:
        message = f"is a sweep of {len(others) + 1} jobs; add the override hydra.mode=RUN to check one of them"
        raise UsageError([Fault(recipe, message, COMMAND_LINE)])
    return job.config


class _CheckPage(Page):
    def show(self, forecast: "Forecast") -> None:
        """Prints what a dry run found."""
        self._show_formats(forecast)
        self._wrapped("target", escape_markup(forecast.fault or f"{forecast.filepath} can be written"))
        if forecast.space is not None:
            needed, free = format_bytes(forecast.space.needed), format_bytes(forecast.space.free)
            self._wrapped("space", escape_markup(f"{needed} at least, {free} are free in {forecast.space.directory}"))
        self._wrapped("needs", escape_markup(", ".join(forecast.needs) or "no code but Keras's own"))
        if forecast.hints:
            self._wrapped("", escape_markup(forecast.hints))
        if forecast.no_endpoints:
            self._wrapped("endpoints", escape_markup(f"none: {forecast.no_endpoints}"))
        for name, endpoint in forecast.endpoints.items():
            self._line("endpoint", escape_markup(name))
            self._flow(*endpoint.describe())

    def _show_formats(self, forecast: "Forecast") -> None:
        from rich.table import Table

        table = Table.grid(padding=(0, 2, 0, 0))
        for name in ("format", "model", "size", "Keras"):
            table.add_column(name, no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("[dim]format[/]", "[dim]model[/]", "[dim]size[/]", "[dim]oldest Keras[/]", "")
        for each in forecast.formats:
            mark = "→ " if each.name == forecast.asked else "  "
            table.add_row(f"{mark}{each.name}", *map(escape_markup, _word(each)))
        self._grid(table)


def _word(each: "FormatForecast") -> tuple[str, str, str, str]:
    size = "" if each.bytes is None else format_bytes(each.bytes)
    return str(each.holding), size, each.oldest_keras, " ".join(each.remarks)
