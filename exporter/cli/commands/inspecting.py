"""Shows what an artifact holds: a SavedModel, an HDF5 file or a .keras archive, by whomever it was written.

Nothing of it is run, and TensorFlow is not imported.
"""

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.cli.commands.locating import locate_artifact
from exporter.storage.remote import show_urls

if TYPE_CHECKING:
    from exporter.artifacts.inspection import Inspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the artifact, or its URL; of a directory of versions, the newest")
    parser.add_argument("--json", action="store_true", help="print all as JSON, with every tensor and digest")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    inspection = inspect(arguments.path)
    if arguments.json:
        print(inspection.to_json(), end="")
    else:
        inspection.print()
    return 0


def inspect(path: str | os.PathLike[str]) -> "Inspection":
    """Reads what an artifact says of itself.

    Args:
        path: The artifact, its URL, or a directory of versions.
    """
    from exporter.artifacts.inspection import inspect_artifact

    inspection = inspect_artifact(locate_artifact(path))
    receipt = inspection.receipt
    if receipt is not None:
        receipt = replace(receipt, path=show_urls(receipt.path), fault=show_urls(receipt.fault))
    return replace(inspection, path=show_urls(inspection.path), receipt=receipt)
