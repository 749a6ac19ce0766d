"""Compares two artifacts of any formats: configuration, layers, every tensor, optimizer, endpoints, operations, size.

The exit code is that of `diff`: 0 where they hold the same, 1 where they differ, 2 where one could not be read.
With --signatures, only a change that breaks a client of the first counts as a difference.
"""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from exporter.cli.commands.locating import locate_artifact
from exporter.storage.remote import show_urls
from exporter.text.showing import write_json

TROUBLE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("first", metavar="A", help="an artifact; with --signatures, the one that clients rely on")
    parser.add_argument("second", metavar="B", help="the artifact to compare it with, in any format")
    parser.add_argument("--json", action="store_true", help="print every difference as JSON")
    parser.add_argument("--signatures", action="store_true", help="compare nothing but the endpoints")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    first, second = locate_artifact(arguments.first), locate_artifact(arguments.second)
    if arguments.signatures:
        return _compare_signatures(first, second, arguments.json)
    from exporter.artifacts.inspection.comparison import compare_artifacts

    comparison = compare_artifacts(first, second)
    comparison = replace(comparison, first=show_urls(comparison.first), second=show_urls(comparison.second))
    if arguments.json:
        print(comparison.to_json(), end="")
    else:
        from exporter.artifacts.inspection.showing.comparison_page import print_comparison

        print_comparison(comparison)
    return 0 if comparison.same else 1


def _compare_signatures(first: Path, second: Path, as_json: bool) -> int:
    from exporter.artifacts.inspection.comparison import compare_signatures, read_signatures

    differences = compare_signatures(read_signatures(first), read_signatures(second))
    compatible = all(difference.compatible for difference in differences)
    if as_json:
        found = {"compatible": compatible, "differences": [asdict(difference) for difference in differences]}
        print(write_json(found), end="")
    else:
        from exporter.artifacts.inspection.showing.comparison_page import print_signatures

        print_signatures(show_urls(str(first)), show_urls(str(second)), differences, sys.stdout)
    return 0 if compatible else 1
