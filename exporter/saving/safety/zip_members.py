"""Reading the members of a zip."""

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from exporter.saving.layout.checksums import FILE_FAULTS, damage_explained
from exporter.saving.layout.documents import check_length
from exporter.saving.safety.files import check_archive

# The local header of a member: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7.
_HEADER_SIZE = 30
_LENGTHS = slice(26, 30)  # of the name and of the extra field, which follow it


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[IO[bytes], zipfile.ZipFile]]:
    """Opens a zip once, and checks its members.

    Args:
        path: The zip, of any name.

    Yields:
        The file and the archive.

    Raises:
        ArtifactError: It is damaged or refused.
    """
    with path.open("rb") as file:
        with damage_explained(path, "", FILE_FAULTS):
            archive = zipfile.ZipFile(file)
        with archive:
            check_archive(path, archive, os.fstat(file.fileno()).st_size)
            yield file, archive


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Reads a member.

    Args:
        archive: The archive.
        name: The member; of JSON it must not be too long.
        path: The archive, for errors.

    Raises:
        ArtifactError: It is damaged, not there, or too long.
    """
    with damage_explained(path, name, FILE_FAULTS):
        if name.endswith(".json"):
            check_length(archive.getinfo(name).file_size, f"{path}, {name}")
        return archive.read(name)


def open_member(file: IO[bytes], archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Opens a member for reads in any order.

    `ZipFile.open` reads a member from its start again whenever a reader goes back, as HDF5 does for every dataset. So
    one that is stored is read where it lies, and another is unpacked into a temporary file.

    Args:
        file: The file of the archive; whoever opened it closes it after the member. Its path may name another by now.
        archive: The archive.
        name: The member.

    Returns:
        The open member. Whoever reads it checks its content.
    """
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED:
        with ExitStack() as stack:
            unpacked: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            with archive.open(name) as content:
                shutil.copyfileobj(content, unpacked)
            unpacked.seek(0)
            stack.pop_all()
        return unpacked
    archive.open(name).close()  # checks the local header
    lengths = os.pread(file.fileno(), _HEADER_SIZE, member.header_offset)[_LENGTHS]
    start = member.header_offset + _HEADER_SIZE
    start += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    return io.BufferedReader(_Window(file, start, member.file_size), 1 << 16)


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        count = os.preadv(self._file.fileno(), [view], self._start + self._position)
        self._position += count
        return count
