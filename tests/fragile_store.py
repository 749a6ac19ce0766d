"""A store in memory that is lost in the middle: fsspec's own, whose writes can be made to fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FragileFileSystem(MemoryFileSystem):
    """The file system in memory, with faults.

    Attributes:
        done: How many objects were written, copied or removed, without the claims.
        fails: The numbers of those that fail instead.
    """

    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    done: ClassVar[int] = 0
    fails: ClassVar[range] = range(0)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("fragile://")))

    @staticmethod
    def _count(path: str) -> None:
        kind = FragileFileSystem
        fails = kind.done in kind.fails
        if ".exporter-claim-" not in path:  # a thread writes those, whenever it wants
            kind.done += 1
        if fails:
            raise ConnectionResetError("the store is lost")

    def find(self, path: str, **kwargs: Any) -> Any:
        """Answers as adlfs does: with a list where the path is that of one object."""
        return [self._strip_protocol(path)] if self.isfile(path) else super().find(path, **kwargs)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._count(path)
        super().pipe_file(path, value, mode=mode, **kwargs)

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self._count(rpath)
        with open(lpath, "rb") as file:
            super().pipe_file(rpath, file.read())

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._count(path2)
        super().cp_file(path1, path2, **kwargs)

    def rm_file(self, path: str) -> None:
        self._count(path)
        super().rm_file(path)


fsspec.register_implementation("fragile", FragileFileSystem)


@contextmanager
def failing(numbers: range) -> Iterator[type[FragileFileSystem]]:
    """Lets those writes fail that have these numbers, counted from here."""
    kind = FragileFileSystem
    kind.done, kind.fails = 0, numbers
    try:
        yield kind
    finally:
        kind.fails = range(0)
