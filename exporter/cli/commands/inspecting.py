"""Shows what an artifact holds: a SavedModel, an HDF5 file or a .keras archive, by whomever it was written.

Nothing of it is run, and TensorFlow is not imported.
"""

import argparse
from dataclasses import replace

from exporter.cli.commands.locating import locate_artifact
from exporter.storage.remote import show_urls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the artifact, or its URL; of a directory of versions, the newest")
    parser.add_argument("--json", action="store_true", help="print all as JSON, with every tensor and digest")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.artifacts.inspection import inspect_artifact

    inspection = inspect_artifact(locate_artifact(arguments.path))
    receipt = inspection.receipt
    if receipt is not None:
        receipt = replace(receipt, path=show_urls(receipt.path), fault=show_urls(receipt.fault))
    inspection = replace(inspection, path=show_urls(inspection.path), receipt=receipt)
    if arguments.json:
        print(inspection.to_json(), end="")
    else:
        from exporter.artifacts.inspection.showing.inspection_page import print_inspection

        print_inspection(inspection)
    return 0
