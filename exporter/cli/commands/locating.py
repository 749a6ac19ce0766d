"""Where what a command line names is on the disk: an artifact, or a directory of numbered versions."""

import os
import sys
from pathlib import Path

from exporter.artifacts.numbered_versions import find_newest
from exporter.errors import Fault, UsageError
from exporter.storage.remote import find_artifact, is_url, show_urls
from exporter.text.showing import print_line


def locate_artifact(given: str | os.PathLike[str]) -> Path:
    """Returns the path of an artifact; of a directory of versions, the newest one, which is said.

    Args:
        given: A path or a URL, as it was typed.
    """
    path = find_artifact(os.fspath(given))
    newest = find_newest(path)
    if newest is None:
        return path
    print_line(f"! {show_urls(str(path))} is a directory of versions: this is the newest, {newest.name}", sys.stderr)
    return newest


def locate_versions(given: str | os.PathLike[str]) -> Path:
    """Returns the path of a directory of versions.

    Args:
        given: As it was typed.

    Raises:
        UsageError: It is a URL.
    """
    if is_url(os.fspath(given)):
        message = "received a URL, and this works in a directory on the disk; bring the versions there first"
        raise UsageError([Fault("DIR", message, "the command line")])
    return Path(given).expanduser()
