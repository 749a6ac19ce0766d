"""Publishes an older version again, as the newest one: a model server goes back to it by itself.

The older version is copied and stays; its receipt goes with the copy and says which version it came from. Asked again,
it goes back to what was there before: the version before the newest one.
"""

import argparse

from exporter.cli.commands.locating import locate_versions
from exporter.cli.commands.versions.words import print_published


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("directory", metavar="DIR", help="the directory of the versions")
    parser.add_argument("--to", metavar="N", type=int, help="the older version (default: the one before the newest)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.exporting.destinations.copying import roll_back

    published = roll_back(locate_versions(arguments.directory), arguments.to)
    print_published(published, f"version {published.source.name}")
    return 0
