"""Every file of an artifact with its digest, and one digest for all of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of an artifact.

    Attributes:
        path: Relative to the artifact, with forward slashes; the artifact's own name when it is one file.
        size: Bytes; 0 for a symbolic link.
        sha256: Hexadecimal digest of the bytes; None for a symbolic link.
        link: Where a symbolic link points; None for a regular file.
    """

    path: str
    size: int
    sha256: str | None
    link: str | None


def record_files(artifact: Path, name: str) -> tuple[FileRecord, ...]:
    """Lists every file of an artifact with its size and digest.

    The bytes are streamed, so memory does not grow with the files. A symbolic link is recorded as a link
    and not followed: its target is a file of the artifact and is listed once.

    Args:
        artifact: A file or a directory.
        name: Of the record, where the artifact is one file.

    Returns:
        A record per file, sorted by path.
    """
    if not artifact.is_dir():
        return (_record_file(artifact, name),)
    paths = sorted(path for path in artifact.rglob("*") if path.is_symlink() or path.is_file())
    return tuple(_record_file(path, path.relative_to(artifact).as_posix()) for path in paths)


def digest_files(files: Sequence[FileRecord]) -> str:
    """Returns one digest for a whole artifact: equal if and only if every file of it is.

    Args:
        files: What `record_files` found.

    Returns:
        The sha256 of the file where the artifact is one file; of a directory, the sha256 of a line per file, in the
        order of their paths: the file's sha256 or where the link points, two spaces, and its path.
    """
    if len(files) == 1 and files[0].sha256 is not None and "/" not in files[0].path:
        return files[0].sha256
    lines = "".join(f"{record.sha256 or record.link}  {record.path}\n" for record in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _record_file(path: Path, name: str) -> FileRecord:
    if path.is_symlink():
        return FileRecord(path=name, size=0, sha256=None, link=path.readlink().as_posix())
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileRecord(path=name, size=size, sha256=digest.hexdigest(), link=None)
