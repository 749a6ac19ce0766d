"""The numbers of versions, as TF Serving reads them."""

import os
import re
import shlex
import time
from pathlib import Path

AUTO = "auto"
TIMESTAMP = "timestamp"
LATEST = "latest"

VERSION = re.compile(r"\s*-?[0-9]+\s*")  # what TF Serving reads as an integer


def explain_model_among_versions(directory: str) -> str:
    """Says why a directory that is a SavedModel can hold no versions.

    Args:
        directory: Its path or URL.
    """
    above, _, name = directory.rpartition("/")
    parent = above or "."
    remedy = f"Choose another `filepath`, or move it to {directory}/1."
    if VERSION.fullmatch(name):
        remedy = f"Give the directory that it is in: {shlex.quote(f'filepath={parent}')}."
    return f"{directory} is a SavedModel itself, and layout=tf_serving needs a directory of versions. {remedy}"


def choose_version(directory: Path, version: str) -> str:
    """Chooses the number of a version in a directory: the one that was given, or one that is free."""
    if version not in (AUTO, TIMESTAMP):
        return version
    return choose_free_number({int(name) for name in list_names(directory) if VERSION.fullmatch(name)}, version)


def choose_free_number(taken: set[int], version: str) -> str:
    """Chooses the number of a version.

    Args:
        taken: The numbers that there are.
        version: `auto` or `timestamp`.
    """
    if version == AUTO:
        return str(max(taken | {0}) + 1)
    seconds = int(time.time())
    while seconds in taken:  # of an export that ended in the same second
        seconds += 1
    return str(seconds)


def list_names(directory: Path) -> list[str]:
    """Lists what is in a directory, which need not be there."""
    return os.listdir(directory) if directory.is_dir() else []
