"""Where an artifact stands: at one path, or as a version in a directory that TF Serving watches.

TF Serving takes every entry of that directory whose name is an integer, as soon as it sees it, and ignores all others
(`file_system_storage_path_source.cc` in its sources). So a version is made under a name that begins with a dot and
appears complete by one rename; receipts, `1.receipt.json` beside `1`, and locks, with a dot in front, may stand there.
"""

import os
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from exporter import _staging
from exporter._companions import name_request
from exporter._exchange import sync_tree
from exporter.config import ExportConfig, LayoutKind
from exporter.errors import ArgumentError, ExportError
from exporter.publishing import place_request, publish_artifact
from exporter.receipts import Receipt, Request
from exporter.saving.api import Format, check_target
from exporter.stores import is_url

AUTO = "auto"
TIMESTAMP = "timestamp"

_VERSION = re.compile(r"\s*-?[0-9]+\s*")  # what TF Serving reads as an integer


@dataclass(frozen=True, slots=True)
class Place:
    """Where one artifact goes, chosen before its model is built.

    Attributes:
        target: The path; for a version that is numbered in the end, the number that it would have now.
        save_format: `tf`, `h5` or `keras`.
        replace: Whether something that is at the target may be replaced.
        version: `auto`, `timestamp` or a number; None where the artifact stands alone.
        keep: How many versions stay; None for all of them.
    """

    target: Path
    save_format: Format
    replace: bool
    version: str | None = None
    keep: int | None = None

    @property
    def model_name(self) -> str:
        """The name of the model for a server."""
        return name_for_server(self.target if self.version is None else self.target.parent)

    @property
    def shown(self) -> str:
        """The place in a message."""
        return str(self.target)

    def close(self) -> None:
        """Gives back what the place needs beside the target: nothing on the disk."""

    def bring(self, staged: Path, note: Callable[[str], None]) -> None:
        """Does what takes time and changes nothing at the target.

        Args:
            staged: The complete artifact.
            note: Is told how far it has come.
        """
        sync_tree(staged)

    @property
    def is_named_late(self) -> bool:
        """Whether a version gets its number when it is published."""
        return self.version in (AUTO, TIMESTAMP)

    def publish(
        self,
        staged: Path,
        make_receipt: Callable[[Path, Request | None], Receipt],
        request: tuple[str, str] | None = None,
    ) -> Receipt:
        """Puts a staged artifact in its place in one step; a version is numbered under a lock.

        Args:
            staged: The complete artifact, beside the target.
            make_receipt: Makes the receipt, from where the artifact will stand and what to say of the request.
            request: The endpoint, and the body as JSON; None where there is none.

        Returns:
            The receipt, which stands beside the artifact.

        Raises:
            TargetExistsError: The target has appeared meanwhile and may not be replaced; it is as it was.
            ExportError: The artifact is in its place, and its receipt could not be written.
            OSError: The file system refused; what was there is as it was.
        """
        directory = self.target.parent
        with nullcontext() if self.version is None else _staging.hold_names(directory):
            name = self.target.name if self.version is None else _choose_version(directory, self.version)
            target = self.target.with_name(name)
            described, body = place_request(request, target)
            receipt = make_receipt(target, described)
            publish_artifact(staged, target, self.replace, receipt, body)
            return receipt

    def remove_older(self, published: str) -> None:
        """Removes the versions that need not be kept: directories which are numbered lower and hold a SavedModel.

        Their requests go with them, and their receipts stay: they say what was served when.

        Args:
            published: The version that has just been published.

        Raises:
            ExportError: One of them could not be removed; the new version stands.
        """
        if self.keep is None:
            return
        newest = Path(published)
        with _staging.hold_names(newest.parent):
            versions = _find_versions(newest.parent)
            for version in versions[: -self.keep]:
                if version < int(newest.name):
                    older = newest.with_name(str(version))
                    _remove(older)
                    name_request(older).unlink(missing_ok=True)


def choose_place(config: ExportConfig, on_wait: Callable[[Path | str, str], None] | None = None) -> Place:
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
        from exporter.remote_layouts import choose_remote_place, warn  # above this module, and not needed on the disk

        return choose_remote_place(config, on_wait or warn)
    filepath = Path(config.filepath).expanduser()
    if version is not None:
        if (filepath / "saved_model.pb").exists():
            raise ArgumentError(explain_model_among_versions(str(filepath)))
        filepath /= _choose_version(filepath, version)
    target, save_format = check_target(filepath, config.overwrite, config.save_format)
    # Whoever may replace has been asked: what exists by now may go, what appears later may not.
    may_replace = config.overwrite or os.path.lexists(target)
    place = Place(target, save_format, may_replace, version, layout.keep)
    return replace(place, replace=may_replace and not place.is_named_late)


def explain_model_among_versions(directory: str) -> str:
    """Says why a directory that is a SavedModel can hold no versions.

    Args:
        directory: Its path or URL.
    """
    parent, _, name = directory.rpartition("/")
    remedy = f"Choose another `filepath`, or move it to {directory}/1."
    if _VERSION.fullmatch(name):
        remedy = f"Give the directory that it is in: filepath={parent or '.'}."
    return f"{directory} is a SavedModel itself, and layout=tf_serving needs a directory of versions. {remedy}"


def name_for_server(directory: Path) -> str:
    """Names a model for a server, and for the address that it answers at.

    Args:
        directory: The artifact, or the directory of its versions.
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", directory.name).strip("_") or "model"


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


def _choose_version(directory: Path, version: str) -> str:
    if version not in (AUTO, TIMESTAMP):
        return version
    return choose_free_number({int(name) for name in _list_names(directory) if _VERSION.fullmatch(name)}, version)


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


def _find_versions(directory: Path) -> list[int]:
    """Finds what an exporter may have written: directories that are named by an integer and hold a SavedModel."""
    names = [name for name in _list_names(directory) if re.fullmatch("0|[1-9][0-9]*", name)]
    return sorted(int(name) for name in names if (directory / name / "saved_model.pb").is_file())


def _list_names(directory: Path) -> list[str]:
    return os.listdir(directory) if directory.is_dir() else []


def _remove(version: Path) -> None:
    """Takes a version out of the server's sight in one step, and then removes its files."""
    try:
        # Its number may be waited for by one who waits for the lock that is held here.
        with _staging.stage_beside(version, alone=False) as hidden:
            version.rename(hidden)
    except OSError as error:
        raise ExportError(
            f"The new version was published, and the older one {version} could not be removed: {error}. "
            "Remove it by hand, or keep all with layout.keep=null."
        ) from error
