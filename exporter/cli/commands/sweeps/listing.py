"""Lists the sweeps below a directory, the newest first.

Only their plans and rows are read. What is printed below them compares the two newest of one recipe.
"""

import argparse
from pathlib import Path

from exporter.text.showing import write_json

_DIRECTORY = ".exporter/sweeps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        default=_DIRECTORY,
        help=f"where the sweeps are; {_DIRECTORY} if left out",
    )
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.sweeps.tables.history import describe_sweep, list_sweeps

    sweeps = list_sweeps(Path(arguments.directory).expanduser())
    if arguments.json:
        print(write_json({"sweeps": [describe_sweep(sweep) for sweep in sweeps]}), end="")
    else:
        from exporter.sweeps.showing.history import print_history

        print_history(sweeps)
    return 0
