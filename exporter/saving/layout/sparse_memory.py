"""A file in memory in which what was never written takes no place."""

import io
from collections import defaultdict
from typing import Any

# As large as the few bytes of structure between two arrays.
_PAGE = 512


class SparseMemory(io.RawIOBase):
    """A file that holds the pages which were written; all others read as zeros.

    Attributes:
        size: Of the file, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self._pages: dict[int, bytearray] = defaultdict(lambda: bytearray(_PAGE))
        self._position = 0

    @property
    def held(self) -> int:
        """How many bytes of memory it takes."""
        return len(self._pages) * _PAGE

    def seekable(self) -> bool:
        """Says that it can."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place, also behind the end."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self.size
        self._position = offset
        return self._position

    def tell(self) -> int:
        """Returns the place of the next read or write."""
        return self._position

    def readable(self) -> bool:
        """Says that it can."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer, as far as there is something."""
        view = memoryview(buffer).cast("B")
        content = self.read_at(self._position, len(view))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def read_at(self, start: int, count: int) -> bytes:
        """Returns so many bytes from there, or as many as there are."""
        end = min(start + count, self.size)
        parts = []
        while start < end:
            page, inside = divmod(start, _PAGE)
            length = min(end - start, _PAGE - inside)
            parts.append(self._pages[page][inside : inside + length] if page in self._pages else bytes(length))
            start += length
        return b"".join(parts)

    def writable(self) -> bool:
        """Says that it can."""
        return True

    def write(self, data: Any) -> int:
        """Writes all of the bytes."""
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            page, inside = divmod(self._position + written, _PAGE)
            part = view[written : written + _PAGE - inside]
            self._pages[page][inside : inside + len(part)] = part
            written += len(part)
        self._position += written
        if written:
            self.size = max(self.size, self._position)
        return written

    def truncate(self, size: int | None = None) -> int:
        """Cuts the file off, or makes it longer by zeros."""
        size = self._position if size is None else size
        if size < self.size:
            page, inside = divmod(size, _PAGE)
            self._pages[page][inside:] = bytes(_PAGE - inside)
            for beyond in [number for number in self._pages if number > page]:
                del self._pages[beyond]
        self.size = size
        return size
