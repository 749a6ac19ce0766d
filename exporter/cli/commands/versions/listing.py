"""Lists the numbered versions in a directory that a model server watches, the newest first.

Only their receipts and manifests are read: `exporter verify DIR/N` reads every byte of a version. Versions with the
same contract have the same endpoints, with the same names, shapes and dtypes.
"""

import argparse
import os
from typing import TYPE_CHECKING

from exporter.cli.commands.locating import locate_versions

if TYPE_CHECKING:
    from exporter.artifacts.inspection.showing.versions_page import Versions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("directory", metavar="DIR", help="the directory of the versions")
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    found = list_versions(arguments.directory)
    if arguments.json:
        print(found.to_json(), end="")
    else:
        found.print()
    return 0


def list_versions(directory: str | os.PathLike[str]) -> "Versions":
    """Lists the numbered versions of a directory.

    Args:
        directory: On the disk.
    """
    from exporter.artifacts.inspection.showing.versions_page import Versions
    from exporter.artifacts.numbered_versions import read_versions_of

    path = locate_versions(directory)
    return Versions(path, read_versions_of(path))
