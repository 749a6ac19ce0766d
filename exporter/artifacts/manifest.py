"""What an artifact knows of its own bytes, so that it can be checked wherever it was copied.

A directory has `assets.extra/exporter/manifest.json`: every other file with its size and digest. A single file ends
with a line that holds the digest of all bytes before it. An HDF5 file and a FlatBuffer may have bytes behind their end,
in a `.keras` archive the line is the comment with which a zip may end, and in an ONNX file it is a field that readers
pass over, so that every reader takes the file as it is.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from exporter.artifacts.receipt import Receipt
from exporter.errors import ArtifactError
from exporter.saving.formats import find_format
from exporter.saving.layout.names import MANIFEST
from exporter.saving.layout.records import read_record
from exporter.saving.layout.structure import ends_with_footer
from exporter.storage.digests import FileRecord, record_files
from exporter.storage.sidecars import name_receipt

VERSION = 1

_SEAL_HEAD = b"\nexporter sha256 "
_SEAL_SIZE = len(_SEAL_HEAD) + 64 + 1
_CHUNK_BYTES = 1 << 20
# With what a zip without a comment ends (APPNOTE.TXT 4.3.16).
_END_OF_ZIP, _REST_OF_END = b"PK\x05\x06", 18


@dataclass(frozen=True, slots=True)
class _Manifest:
    version: int
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One file that is not as it was written.

    Attributes:
        path: Of the file, relative to the artifact.
        message: What is wrong with it.
    """

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Integrity:
    """What the bytes of an artifact were held against.

    Attributes:
        witnesses: `manifest`, `digest` and `receipt`: those that there were; `checksums` where an artifact was saved
            and not exported, of which every tensor and record has one.
        files: How many files were read.
        bytes: How many bytes they have.
        mismatches: What is not as it was written.
    """

    witnesses: tuple[str, ...]
    files: int
    bytes: int
    mismatches: tuple[Mismatch, ...]


class UnsealedError(ArtifactError):
    """There is nothing that says what all bytes of an artifact were."""


def write_manifest(artifact: Path, name: str) -> tuple[FileRecord, ...]:
    """Writes into an artifact what its bytes are; it must not be changed afterwards.

    Args:
        artifact: A SavedModel directory, an HDF5 file or a `.keras` archive, without a seal.
        name: Of the artifact, where it is one file.

    Returns:
        Every file of the sealed artifact.
    """
    if not artifact.is_dir():
        return (_seal_file(artifact, name),)
    files = record_files(artifact, name)
    fields = asdict(_Manifest(VERSION, files))
    manifest = artifact / MANIFEST
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    content = manifest.read_bytes()
    own = FileRecord(path=MANIFEST, size=len(content), sha256=hashlib.sha256(content).hexdigest(), link=None)
    return tuple(sorted((*files, own), key=lambda record: Path(record.path)))


def _seal_file(path: Path, name: str) -> FileRecord:
    chosen = find_format(path)
    placeholder = (chosen.seal_head if chosen else b"") + _SEAL_HEAD + b"0" * 64 + b"\n"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path, "a") as archive:  # the zip itself says how long its comment is
            archive.comment = placeholder
    else:
        with path.open("ab") as file:
            file.write(placeholder)
    size = path.stat().st_size - _SEAL_SIZE
    digest = _hash_head(path, size)
    line = _SEAL_HEAD + digest.hexdigest().encode() + b"\n"
    with path.open("r+b") as file:
        file.seek(size)
        file.write(line)
    digest.update(line)  # now of the whole file, without reading it again
    return FileRecord(path=name, size=size + len(line), sha256=digest.hexdigest(), link=None)


def _hash_head(path: Path, size: int) -> "hashlib._Hash":
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0:
            chunk = file.read(min(size, _CHUNK_BYTES))
            if not chunk:
                break
            digest.update(chunk)
            size -= len(chunk)
    return digest


def check_integrity(path: Path) -> Integrity:
    """Holds every file of an artifact against what it says of itself, and against the receipt beside it.

    Args:
        path: The artifact.

    Returns:
        What was found.

    Raises:
        UnsealedError: There is nothing to hold it against.
        ArtifactError: There is no artifact, or what it is held against is damaged itself.
    """
    if not path.exists():
        raise ArtifactError(f"There is no {path}. Give the path of an artifact that was exported.")
    files = record_files(path, path.name)
    witnesses, mismatches = [], []
    if path.is_dir():
        if (path / MANIFEST).is_file():
            witnesses.append("manifest")
            others = [record for record in files if record.path != MANIFEST]
            mismatches += compare_files(read_manifest(path / MANIFEST), others)
    else:
        expected = _read_seal(path)
        if expected is not None:
            witnesses.append("digest")
            if _hash_head(path, path.stat().st_size - _SEAL_SIZE).hexdigest() != expected:
                mismatches.append(Mismatch(path.name, "its bytes do not match the digest at its end"))
    beside = name_receipt(path.absolute())
    if beside.is_file():
        witnesses.append("receipt")
        recorded = Receipt.from_json(beside.read_text(encoding="utf-8")).files
        if not path.is_dir():  # both may have been renamed
            recorded = tuple(replace(record, path=path.name) for record in recorded)
        known = {mismatch.path for mismatch in mismatches}
        mismatches += [found for found in compare_files(recorded, files) if found.path not in known]
    if not witnesses:
        raise UnsealedError(
            f"{path} says nothing of its own bytes, and there is no {beside.name} beside it: it was not exported by "
            "`exporter`, or it was damaged or changed afterwards. Export it anew to have it sealed."
        )
    return Integrity(
        witnesses=tuple(witnesses),
        files=sum(record.link is None for record in files),
        bytes=sum(record.size for record in files),
        mismatches=tuple(mismatches),
    )


def is_bare(path: Path) -> bool:
    """Tells whether an artifact is as a save leaves it: nothing stands behind its end, not even a part of a digest.

    Args:
        path: A directory, an HDF5 file of ours or a `.keras` archive.
    """
    if path.is_dir():
        return not (path / MANIFEST).exists()
    with path.open("rb") as file:
        file.seek(max(file.seek(0, 2) - len(_END_OF_ZIP) - _REST_OF_END, 0))
        return file.read().startswith(_END_OF_ZIP) or ends_with_footer(file)


def compare_files(expected: Iterable[FileRecord], received: Iterable[FileRecord]) -> list[Mismatch]:
    """Lists every file that is missing, was added, or is another one.

    Args:
        expected: The files as they should be.
        received: The files as they are.
    """
    before = {record.path: record for record in expected}
    after = {record.path: record for record in received}
    mismatches = []
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            mismatches.append(Mismatch(path, "is missing"))
        elif path not in before:
            mismatches.append(Mismatch(path, "was added"))
        elif before[path] != after[path]:
            mismatches.append(Mismatch(path, _describe(before[path], after[path])))
    return mismatches


def _describe(before: FileRecord, after: FileRecord) -> str:
    if before.link != after.link:
        kinds = [f"a link to {record.link}" if record.link is not None else "a file" for record in (before, after)]
        return f"was {kinds[0]} and is {kinds[1]}"
    if before.size != after.size:
        return f"had {before.size:,} bytes and has {after.size:,}"
    return "has other bytes of the same number"


def read_manifest(path: Path) -> tuple[FileRecord, ...]:
    """Reads the files that a manifest names, which is every file of its artifact but itself.

    Args:
        path: The manifest.

    Raises:
        ArtifactError: It is damaged, or of another version.
    """
    try:
        fields = json.loads(path.read_bytes())
        if fields["version"] != VERSION:
            raise ArtifactError(
                f"{path} is of version {fields['version']!r}; this exporter reads version {VERSION}. "
                "Verify it with the exporter that wrote it."
            )
        return read_record(_Manifest, fields).files
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} is damaged: {error!r}. The artifact cannot be verified.") from error


def _read_seal(path: Path) -> str | None:
    """Returns the digest at the end of a file, or None if there is no such line."""
    size = path.stat().st_size
    if size < _SEAL_SIZE:
        return None
    with path.open("rb") as file:
        file.seek(size - _SEAL_SIZE)
        line = file.read(_SEAL_SIZE)
    if not (line.startswith(_SEAL_HEAD) and line.endswith(b"\n")):
        return None
    return line[len(_SEAL_HEAD) : -1].decode("ascii", errors="replace")
