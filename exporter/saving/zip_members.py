"""Reading inside of a member of a zip that is stored as it is."""

import io
import os
import zipfile
from typing import IO, Any

# The local header of a member: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7.
_HEADER_SIZE = 30
_LENGTHS = slice(26, 30)  # of the name and of the extra field, which follow it


def open_member(file: IO[bytes], archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Opens a member for reads in any order.

    `ZipFile.open` reads a member from its start again whenever a reader goes back, as HDF5 does for every dataset.

    Args:
        file: The file of the archive; whoever opened it closes it after the member. Its path may name another by now.
        archive: The archive.
        name: The member.

    Returns:
        The open member. Whoever reads it checks its content.
    """
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return archive.open(name)
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
