"""An artifact that exists becomes the next version in a directory that a server watches.

Its bytes are copied, never linked: two versions that share a file would change together. The receipt and the signature
go with them. All is done under the lock of the directory, so that no export removes or adds a version meanwhile.
"""

import os
import shlex
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from exporter.artifacts.manifest import Integrity, check_integrity, compare_files
from exporter.artifacts.numbered_versions import list_numbers, read_text
from exporter.artifacts.receipt import Receipt
from exporter.errors import ArgumentError, ArtifactError, ExporterError, ExportError
from exporter.exporting.destinations.publishing import place_request, publish_artifact
from exporter.exporting.destinations.versions import AUTO, choose_version, explain_model_among_versions
from exporter.saving.formats import FORMATS, find_format, join_nouns
from exporter.saving.layout.names import GRAPH, MANIFEST
from exporter.saving.safety.files import check_directory
from exporter.storage import staging
from exporter.storage.digests import record_files
from exporter.storage.sidecars import name_receipt, name_request, name_signature
from exporter.text.showing import list_first


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCopy:
    """A version that was made of an artifact's bytes.

    Attributes:
        path: Where it is.
        source: Whose bytes it has.
        files: How many files were copied.
        total_bytes: Of them.
        is_checked: Whether they were held against a manifest; what another software wrote has none.
        has_receipt: Whether there was a receipt to go with it.
    """

    path: Path
    source: Path
    files: int
    total_bytes: int
    is_checked: bool
    has_receipt: bool


def roll_back(directory: Path, to: int | None = None) -> PublishedCopy:
    """Publishes the bytes of an older version as the newest one.

    Args:
        directory: Of the versions.
        to: The older version; None for the one before the newest.

    Raises:
        ArgumentError: There is no such version, or it is the newest.
        ArtifactError: It is damaged.
        ExportError: It could not be copied; all is as it was.
    """
    if not list_numbers(directory):
        raise ArgumentError(f"{directory} holds no versions to roll back. Give a directory that has some.")
    return _publish(directory, lambda: _choose_older(directory, to), lambda source: f"version {source.name}")


def promote(artifact: Path, directory: Path, shown: str) -> PublishedCopy:
    """Publishes the bytes of an artifact that was exported elsewhere as the newest version.

    Args:
        artifact: A SavedModel.
        directory: Of the versions; it is made where it is missing.
        shown: Where the artifact is, for its receipt.

    Raises:
        ArgumentError: It is no SavedModel, or the directory is one.
        ArtifactError: It is damaged, or cannot be checked.
        ExportError: It could not be copied; all is as it was.
    """
    _check_artifact(artifact, directory)
    if (directory / GRAPH).exists():
        raise ArgumentError(explain_model_among_versions(str(directory)))
    if directory.resolve().is_relative_to(artifact.resolve()):
        raise ArgumentError(f"{directory} is inside of {artifact}. Give a directory outside of it.")
    if not (artifact / MANIFEST).is_file():
        raise ArtifactError(
            f"{artifact} has no manifest to hold its files against: it was not exported by `exporter`, or was damaged. "
            "Export it anew to have one: "
            f"{shlex.join(['exporter', str(artifact), '-o', str(directory), 'layout=tf_serving'])}"
        )
    return _publish(directory, lambda: artifact, lambda _: shown)


def _check_artifact(artifact: Path, directory: Path) -> None:
    if not os.path.lexists(artifact):
        raise ArgumentError(f"There is no {artifact}. Give the path of a SavedModel that was exported.")
    found = find_format(artifact)
    if found is None:
        raise ArgumentError(f"{artifact} is no artifact. Give the path of a SavedModel that was exported.")
    if not found.is_served:
        served = join_nouns(each.name for each in FORMATS.values() if each.is_served)
        again = [] if found.holds_model else ["rerun"]
        settings = [f"save_format={served}", "layout=tf_serving", f"filepath={directory}"]
        raise ArgumentError(
            f"{artifact} is {found.noun}, which no server of versions takes. Export the model as one: "
            f"{shlex.join(['exporter', *again, str(artifact), *settings])}"
        )


def _choose_older(directory: Path, to: int | None) -> Path:
    numbers = list_numbers(directory)
    *older, newest = numbers
    if not older:
        raise ArgumentError(
            f"{directory} has one version, {newest}, and none to go back to. Publish another one with: exporter "
            f"promote ARTIFACT {shlex.quote(str(directory))}"
        )
    if to == newest:
        raise ArgumentError(f"{directory / str(to)} is the newest version already. Give an older one: {_list(older)}.")
    if to is not None and to not in older:
        raise ArgumentError(f"{directory} has no version {to}. Give one of these with --to: {_list(older)}.")
    return directory / str(older[-1] if to is None else to)


def _list(numbers: list[int]) -> str:
    return list_first([str(number) for number in reversed(numbers)], 10)


def _publish(
    directory: Path,
    choose_source: Callable[[], Path],
    name_origin: Callable[[Path], str],
) -> PublishedCopy:
    try:
        with (
            staging.stage_beside(directory / "version", alone=False) as staged,
            staging.hold_names(directory),
        ):
            source = choose_source()
            receipt, integrity = _copy(source, staged)
            target = directory / choose_version(directory, AUTO)
            body = None
            if receipt is not None:
                request, body = place_request(_read_request(receipt, source), target)
                receipt = replace(
                    receipt,
                    filepath=str(target.absolute()),
                    request=request,
                    finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    came_from=name_origin(source),
                )
            publish_artifact(staged, target, False, receipt, body, _read_text(name_signature(source)))
    except ExporterError:
        raise
    except (OSError, shutil.Error) as error:
        raise ExportError(
            f"The version could not be copied into {directory}: {error}. What was there is unchanged. Free space, or "
            "choose a directory that can be written."
        ) from error
    return PublishedCopy(
        path=target,
        source=source,
        files=integrity.files,
        total_bytes=integrity.bytes,
        is_checked="manifest" in integrity.witnesses,
        has_receipt=receipt is not None,
    )


def _copy(source: Path, staged: Path) -> tuple[Receipt | None, Integrity]:
    """Copies an artifact with its receipt, and holds the copy against both: it may be damaged on the way, too."""
    text = _read_text(name_receipt(source))
    try:
        check_directory(source)
        shutil.copytree(source, staged, symlinks=True)
        staged.chmod(staged.stat().st_mode | stat.S_IWUSR)  # who may not write to a directory cannot rename it
        check_directory(staged)
        if text is not None:
            name_receipt(staged).write_text(text, encoding="utf-8")
        tells = text is not None or (source / MANIFEST).is_file()
        integrity = check_integrity(staged) if tells else _compare(source, staged)
    except ArtifactError as error:
        raise ArtifactError(str(error).replace(str(staged), str(source))) from error
    if integrity.mismatches:
        wrong = [f"{each.path} {each.message}" for each in integrity.mismatches]
        raise ArtifactError(
            f"{source} is not as it was exported: {list_first(wrong)}. Nothing was published. Take another one, or "
            "bring it here again from where it is whole."
        )
    return None if text is None else Receipt.from_json(text), integrity


def _compare(source: Path, staged: Path) -> Integrity:
    """Holds a copy against what it was copied from, where that says nothing of itself."""
    before, after = record_files(source, source.name), record_files(staged, source.name)
    return Integrity((), len(after), sum(record.size for record in after), tuple(compare_files(before, after)))


def _read_request(receipt: Receipt, source: Path) -> tuple[str, str] | None:
    """Reads the request to a server: from the receipt, or where it is long, from the file beside the artifact."""
    request = receipt.request
    if request is None:
        return None
    body = request.body if request.file is None else _read_text(name_request(source))
    return None if body is None else (request.endpoint, body)


def _read_text(path: Path) -> str | None:
    if not os.path.lexists(path):
        return None
    try:
        return read_text(path)
    except (ArtifactError, OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Move it away to go on without it.") from error
