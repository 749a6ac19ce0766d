"""Where the artifact of a config goes: to the disk, or to a store."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from exporter.config import ExportConfig, LayoutKind
from exporter.errors import ArgumentError
from exporter.exporting.destinations.local import Destination
from exporter.exporting.destinations.versions import AUTO, TIMESTAMP, choose_version, explain_model_among_versions
from exporter.saving.layout.names import GRAPH
from exporter.saving.plans import check_target
from exporter.storage.remote import is_url


def choose_destination(config: ExportConfig, on_wait: Callable[[Path | str, str], None] | None = None) -> Destination:
    """Chooses where an artifact goes, and refuses a place that it cannot take, before anything is built.

    Args:
        config: The export, checked.
        on_wait: Is called with a URL and its present writer, in words, where this one has to wait; None for a warning
            in the log.

    Returns:
        The place.

    Raises:
        ArgumentError: There cannot be an artifact at `config.filepath`.
        TargetExistsError: There is something, and it may not be replaced.
    """
    layout = config.layout
    version = None if layout.kind is LayoutKind.SINGLE else layout.version
    if is_url(config.filepath):
        from exporter.exporting.destinations.remote import (  # above this module, and not needed on the disk
            choose_remote_destination,
            warn,
        )

        return choose_remote_destination(config, on_wait or warn)
    filepath = Path(config.filepath).expanduser()
    if version is not None:
        if (filepath / GRAPH).exists():
            raise ArgumentError(explain_model_among_versions(str(filepath)))
        filepath /= choose_version(filepath, version)
    target, save_format = check_target(filepath, config.overwrite, config.save_format)
    # Whoever may replace has been asked: what exists by now may go, what appears later may not.
    may_replace = config.overwrite or os.path.lexists(target)
    place = Destination(target, save_format, may_replace, version, layout.keep)
    return replace(place, replace=may_replace and not place.is_named_late)


def find_target(config: ExportConfig) -> Path | None:
    """Finds the path that an export writes, or gives None where it will be one that nothing else has.

    Args:
        config: The export, checked.
    """
    # Only whether two are the same matters of a URL, and of that a path keeps enough.
    filepath = Path(config.filepath).expanduser()
    if config.layout.kind is LayoutKind.SINGLE:
        return filepath
    return None if config.layout.version in (AUTO, TIMESTAMP) else filepath / config.layout.version
