"""Lists the numbered versions in a directory that a model server watches, the newest first.

Only their receipts and manifests are read: `exporter verify DIR/N` reads every byte of a version. Versions with the
same contract have the same endpoints, with the same names, shapes and dtypes.
"""

import argparse
from dataclasses import asdict

from exporter.cli.commands.locating import locate_versions
from exporter.text.showing import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("directory", metavar="DIR", help="the directory of the versions")
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.artifacts.numbered_versions import read_versions_of

    versions = read_versions_of(locate_versions(arguments.directory))
    if arguments.json:
        print(write_json({"versions": [asdict(version) for version in versions]}), end="")
    else:
        from exporter.artifacts.inspection.showing.versions_page import print_versions

        print_versions(versions)
    return 0
