"""The datasets of an HDF5 file: HDF5 gives each one its place, and the bytes go there in one pass.

HDF5 lays a new file out in memory, where it holds nothing but its structure: a contiguous dataset has its offset as
soon as it is made. The bytes of the arrays then go from the variables' own memory straight into a file, or into a
member of a zip, from its start to its end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import google_crc32c
import h5py
import ml_dtypes
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5g, h5o, h5p, h5s, h5t

from exporter.processes.arrays import Array
from exporter.saving.layout.checksums import Checksums, checksum_values, describe_dtype
from exporter.saving.layout.sparse_memory import SparseMemory
from exporter.saving.layout.structure import Structure
from exporter.typing.hdf5 import File, Group

# HDF5 knows these as opaque bytes of the same width, with the name in the attribute `dtype`, as Keras does for
# bfloat16.
OPAQUE_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
}
# Of a file that is written in many small pieces and few large ones, in bytes.
BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """One array in a file.

    Attributes:
        path: Of its dataset.
        offset: Of its first byte from the file's start; 0 for an empty array, which has no place.
        size: Of its bytes.
        dtype: Its own.
        shape: Its own.
        checksum: The CRC-32C of its bytes.
    """

    path: str
    offset: int
    size: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    checksum: int


class Datasets:
    """Adds datasets to an open file, in groups that it makes. Nothing that it adds has a date.

    Attributes:
        file: The file.
        checksums: Those of the datasets that were added.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self.checksums = Checksums()
        self._types: dict[np.dtype[np.generic], tuple[h5t.TypeID, str, str]] = {}
        self._spaces: dict[tuple[int, ...], h5s.SpaceID] = {}
        self._creation = h5p.create(h5p.DATASET_CREATE)
        self._creation.set_layout(h5d.CONTIGUOUS)
        self._creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        self._creation.set_fill_time(h5d.FILL_TIME_NEVER)
        self._creation.set_obj_track_times(False)
        self._links = h5p.create(h5p.LINK_CREATE)
        self._links.set_char_encoding(h5t.CSET_UTF8)
        self._group_creation = h5p.create(h5p.GROUP_CREATE)
        self._group_creation.set_obj_track_times(False)
        self._groups = {"": h5g.open(file.id, b"/")}

    def add(self, path: str, read: Callable[[], Array]) -> Stored:
        """Adds one array as a contiguous dataset.

        Args:
            path: Of the dataset; the groups above it are made.
            read: Returns the array, of any dtype of NumPy's or of ml_dtypes; it may be called again later.

        Returns:
            Where the array is.
        """
        value = read()
        stored_type, meaning, opaque = self._find_type(value.dtype)
        space = self._find_space(value.shape)
        above, _, name = path.rpartition("/")
        dataset = h5d.create(self._find_group(above), name.encode(), stored_type, space, self._creation, self._links)
        if opaque:
            h5py.Dataset(dataset).attrs["dtype"] = opaque
        checksum = checksum_values(value)
        self.checksums.add_tensor(path, checksum, meaning, value.shape)
        stored = Stored(path, dataset.get_offset() or 0, value.nbytes, value.dtype, value.shape, checksum)
        if value.nbytes:
            self._place(dataset, stored, value, read)
        return stored

    def add_bytes(self, path: str, content: bytes) -> None:
        """Adds bytes as an array of them, without a checksum of its own."""
        self._find_group(path.rpartition("/")[0])
        self.file.create_dataset(path, data=np.frombuffer(content, dtype=np.uint8))

    def add_group(self, path: str) -> Group:
        """Adds a group and those above it, as far as they were not added before."""
        group: Group = h5py.Group(self._find_group(path))
        return group

    def set_attribute(self, owner: Group, name: str, value: Array) -> None:
        """Gives a group an attribute of a dtype of NumPy's; `owner.attrs` takes three times as long."""
        if h5a.exists(owner.id, name.encode()):
            h5a.delete(owner.id, name.encode())
        stored_type, _, _ = self._find_type(value.dtype)
        h5a.create(owner.id, name.encode(), stored_type, self._find_space(value.shape)).write(value)

    def link(self, path: str, stored: Stored) -> None:
        """Gives a dataset another path, a hard link: tied weights cost no bytes."""
        self._find_group(path.rpartition("/")[0])
        h5o.link(h5o.open(self.file.id, stored.path.encode()), self.file.id, path.encode(), lcpl=self._links)
        self.checksums.tensors[path] = self.checksums.tensors[stored.path]

    def _find_group(self, path: str) -> h5g.GroupID:
        """Returns a group, made if it was not yet, with those above it: HDF5 looks up each part of a long path anew."""
        found = self._groups.get(path)
        if found is None:
            plain = "/".join(part for part in path.split("/") if part not in ("", "."))  # HDF5 passes over these
            if plain == path:
                above, _, name = path.rpartition("/")
                found = h5g.create(self._find_group(above), name.encode(), self._links, self._group_creation)
            else:
                found = self._find_group(plain)
            self._groups[path] = found
        return found

    def _find_space(self, shape: tuple[int, ...]) -> h5s.SpaceID:
        found = self._spaces.get(shape)
        if found is None:
            found = self._spaces[shape] = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        return found

    def _find_type(self, dtype: np.dtype[np.generic]) -> tuple[h5t.TypeID, str, str]:
        """Returns HDF5's type of a dtype, how its checksum names it, and its name if HDF5 does not know it."""
        found = self._types.get(dtype)
        if found is None:
            opaque = dtype.name if dtype.name in OPAQUE_DTYPES else ""
            stored_type = h5t.py_create(np.dtype((np.void, dtype.itemsize)) if opaque else dtype, logical=True)
            found = self._types[dtype] = stored_type, describe_dtype(stored_type.dtype, opaque), opaque
        return found

    def _place(self, dataset: h5d.DatasetID, stored: Stored, value: Array, read: Callable[[], Array]) -> None:
        content = np.ascontiguousarray(value).view(dataset.dtype).reshape(value.shape)
        dataset.write(h5s.ALL, h5s.ALL, content, dataset.get_type())


class FileLayout(Datasets):
    """The datasets of a new file, which is written when all of them are known."""

    def __init__(self, memory: SparseMemory) -> None:
        super().__init__(_make_file(memory))
        self._memory = memory
        self._pending: list[tuple[Stored, Callable[[], Array]]] = []
        self._structure: Structure | None = None
        self._gaps: list[bytes] = []

    def _place(self, dataset: h5d.DatasetID, stored: Stored, value: Array, read: Callable[[], Array]) -> None:
        # A view of a variable's memory costs nothing to keep; a copy would take the memory of the whole model.
        kept = read if value.flags.owndata else lambda: value
        self._pending.append((stored, kept))

    def close(self) -> Structure:
        """Ends the structure of the file.

        Returns:
            Where the arrays will be, and the checksum of all else.
        """
        if self._structure is None:
            self.file.close()
            self._pending.sort(key=lambda pending: pending[0].offset)
            arrays = tuple((stored.offset, stored.size) for stored, _ in self._pending)
            structure = Structure(self._memory.size, arrays, 0)
            self._gaps = [self._memory.read_at(start, end - start) for start, end in structure.list_gaps()]
            self._structure = replace(structure, crc32c=google_crc32c.value(b"".join(self._gaps)))
        return self._structure

    def write(self, sink: IO[bytes]) -> None:
        """Writes the file from its start to its end.

        Args:
            sink: What takes the bytes; it need not seek.

        Raises:
            OSError: The disk is full, or the file could not be written for another reason.
        """
        self.close()
        for gap, (_, read) in zip(self._gaps, self._pending, strict=False):  # one gap is left, the last
            sink.write(gap)
            sink.write(np.ascontiguousarray(read()).reshape(-1).view(np.uint8).data)
        sink.write(self._gaps[-1])


def _make_file(memory: SparseMemory) -> File:
    """Makes a file as HDF5 has written them since 1.8 (2008): its structure takes half as many bytes as the former."""
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    access.set_fileobj_driver(h5fd.fileobj_driver, memory)
    file: File = h5py.File(h5f.create(repr(memory).encode(), h5f.ACC_TRUNC, creation, access))
    return file


@contextmanager
def lay_out_file() -> Iterator[FileLayout]:
    """Makes the layout of a new HDF5 file.

    Yields:
        The layout, without datasets.
    """
    layout = FileLayout(SparseMemory())
    try:
        yield layout
    finally:
        layout.close()


def write_file(path: Path, layout: FileLayout, behind: bytes = b"") -> None:
    """Writes a new file.

    Args:
        path: Where; nothing may be there.
        layout: What it holds.
        behind: What follows behind its end, where HDF5 does not look.

    Raises:
        OSError: The disk is full, or the file could not be written for another reason.
    """
    try:
        with path.open("xb", buffering=BUFFER) as file:
            layout.write(file)
            file.write(behind)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
