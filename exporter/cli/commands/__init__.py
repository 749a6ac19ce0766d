"""The commands beside the export itself: `exporter inspect` and others.

Most of them need neither Hydra nor TensorFlow, and none pays for what it does not need.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from exporter.errors import ExporterError, UsageError, print_error
from exporter.storage.remote import show_urls
from exporter.text.showing import print_line

# The module of each command, below this one: `add_arguments(parser)` and `run(arguments) -> exit code`.
COMMANDS = {
    "inspect": "inspecting",
    "diff": "comparing",
    "verify": "verifying",
    "rerun": "rerunning",
    "sign": "signing",
    "versions": "versions.listing",
    "rollback": "versions.rolling_back",
    "promote": "versions.promoting",
    "predict": "predicting",
    "sweeps": "sweeps.listing",
    "compare": "sweeps.comparing",
    "recipes": "recipes.listing",
    "init": "recipes.beginning",
    "check": "recipes.checking",
    "help": "explaining.helping",
    "completion": "explaining.completing",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends the process as every fault in a command line does."""
        print("exporter: 1 fault in the command line", file=sys.stderr)
        print_line(f"  {self.prog.partition(' ')[2]}: {message}", file=sys.stderr)
        print(f"  see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def run_command(arguments: Sequence[str]) -> int:
    """Runs a command.

    Args:
        arguments: Its name, and what follows.

    Returns:
        The exit code of the process.
    """
    name, *others = arguments
    command = _import_command(name)
    parser = make_parser(name)
    try:
        code: int = command.run(parser.parse_intermixed_args(others))
        sys.stdout.flush()
    except UsageError as error:
        parser.error("; ".join(f"{fault.path}: {fault.message}" for fault in error.faults))
    except ExporterError as error:
        print_error(show_urls(str(error)))
        return getattr(command, "TROUBLE", error.exit_code)
    except BrokenPipeError:  # a pager that was closed
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print("exporter: interrupted", file=sys.stderr)
        return 130
    return code


def make_parser(name: str) -> argparse.ArgumentParser:
    """Makes the parser of a command.

    Args:
        name: Its name.
    """
    command = _import_command(name)
    parser = _Parser(
        prog=f"exporter {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser


def _import_command(name: str) -> Any:
    return import_module(f"exporter.cli.commands.{COMMANDS[name]}")
