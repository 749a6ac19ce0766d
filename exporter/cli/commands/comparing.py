"""Compares two artifacts of any formats: configuration, layers, every tensor, optimizer, endpoints, operations, size.

The exit code is that of `diff`: 0 where they hold the same, 1 where they differ, 2 where one could not be read.
With --signatures, only a change that breaks a client of the first counts as a difference.
"""

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.cli.commands.locating import locate_artifact
from exporter.storage.remote import show_urls

if TYPE_CHECKING:
    from exporter.artifacts.inspection.comparison import Comparison, SignatureComparison

TROUBLE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("first", metavar="A", help="an artifact; with --signatures, the one that clients rely on")
    parser.add_argument("second", metavar="B", help="the artifact to compare it with, in any format")
    parser.add_argument("--json", action="store_true", help="print every difference as JSON")
    parser.add_argument("--signatures", action="store_true", help="compare nothing but the endpoints")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    found: Comparison | SignatureComparison
    if arguments.signatures:
        found = diff_signatures(arguments.first, arguments.second)
        same = found.compatible
    else:
        found = diff(arguments.first, arguments.second)
        same = found.same
    if arguments.json:
        print(found.to_json(), end="")
    else:
        found.print()
    return 0 if same else 1


def diff(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> "Comparison":
    """Compares all that two artifacts hold.

    Args:
        first: An artifact, its URL, or a directory of versions.
        second: The one to compare it with.
    """
    from exporter.artifacts.inspection.comparison import compare_artifacts

    found = compare_artifacts(locate_artifact(first), locate_artifact(second))
    return replace(found, first=show_urls(found.first), second=show_urls(found.second))


def diff_signatures(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> "SignatureComparison":
    """Compares nothing but the endpoints.

    Args:
        first: The artifact that clients rely on.
        second: The one in its place.
    """
    from exporter.artifacts.inspection.comparison import SignatureComparison, compare_signatures, read_signatures

    paths = [locate_artifact(first), locate_artifact(second)]
    shown = [show_urls(str(path)) for path in paths]
    differences = compare_signatures(*map(read_signatures, paths))
    return SignatureComparison(first=shown[0], second=shown[1], differences=tuple(differences))
