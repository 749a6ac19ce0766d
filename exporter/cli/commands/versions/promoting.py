"""Publishes a SavedModel that was exported elsewhere as the next version for a model server.

Its files are held against its manifest first. It is copied and stays; its receipt goes with the copy and says where it
came from.
"""

import argparse

from exporter.cli.commands.locating import locate_artifact, locate_versions
from exporter.cli.commands.versions.words import print_published
from exporter.storage.remote import show_urls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="a SavedModel, or its URL; of versions, the newest")
    parser.add_argument("directory", metavar="DIR", help="the directory of the versions; it is made if it is missing")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.exporting.destinations.copying import promote

    artifact = locate_artifact(arguments.artifact)
    shown = show_urls(str(artifact.absolute()))
    published = promote(artifact, locate_versions(arguments.directory), shown)
    print_published(published, show_urls(str(artifact)))
    return 0
