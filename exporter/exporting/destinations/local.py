"""Where an artifact stands: at one path, or as a version in a directory that TF Serving watches.

TF Serving takes every entry of that directory whose name is an integer, as soon as it sees it, and ignores all others
(`file_system_storage_path_source.cc` in its sources). So a version is made under a name that begins with a dot and
appears complete by one rename; receipts, `1.receipt.json` beside `1`, and locks, with a dot in front, may stand there.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from exporter.artifacts.numbered_versions import find_newest, list_numbers
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Request
from exporter.artifacts.summary import name_for_server
from exporter.errors import ExportError
from exporter.exporting.destinations.publishing import place_request, publish_artifact
from exporter.exporting.destinations.versions import AUTO, TIMESTAMP, choose_version
from exporter.saving.formats.format import Format
from exporter.storage import staging
from exporter.storage.exchange import sync_tree
from exporter.storage.sidecars import name_request


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one artifact goes, chosen before its model is built.

    Attributes:
        target: The path; for a version that is numbered in the end, the number that it would have now.
        save_format: What is written there.
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

    def upload(self, staged: Path, note: Callable[[str, float | None], None]) -> None:
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

    def find_latest(self) -> Path | None:
        """Finds the newest version beside the one to come; None where there is none."""
        return find_newest(self.target.parent)

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
        with nullcontext() if self.version is None else staging.hold_names(directory):
            name = self.target.name if self.version is None else choose_version(directory, self.version)
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
        with staging.hold_names(newest.parent):
            versions = list_numbers(newest.parent)
            for version in versions[: -self.keep]:
                if version < int(newest.name):
                    older = newest.with_name(str(version))
                    _remove(older)
                    name_request(older).unlink(missing_ok=True)


def _remove(version: Path) -> None:
    """Takes a version out of the server's sight in one step, and then removes its files."""
    try:
        # Its number may be waited for by one who waits for the lock that is held here.
        with staging.stage_beside(version, alone=False) as hidden:
            version.rename(hidden)
    except OSError as error:
        raise ExportError(
            f"The new version was published, and the older one {version} could not be removed: {error}. "
            "Remove it by hand, or keep all with layout.keep=null."
        ) from error
