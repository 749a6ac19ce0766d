"""A checksum of everything that an artifact holds: of every tensor, and of every file or record beside them.

They are CRC-32C (RFC 3720, appendix B.4), which processors compute faster than a disk reads.
"""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import google_crc32c
import numpy as np

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.layout.structure import Structure
from exporter.typing.hdf5 import Dataset


def checksum_values(value: Array) -> int:
    """Returns the CRC-32C of the bytes of an array, in the order of its elements."""
    if not value.nbytes:
        return 0
    return int(google_crc32c.value(np.ascontiguousarray(value).reshape(-1).view(np.uint8)))


def checksum_dataset(dataset: Dataset, values: int) -> int:
    """Returns the checksum of an HDF5 dataset: of its bytes, and of how they are to be read.

    Args:
        dataset: The dataset.
        values: The checksum of its bytes.
    """
    return _extend(values, describe_dtype(dataset.dtype, dataset.attrs.get("dtype", "")), dataset.shape)


def describe_dtype(stored: np.dtype[np.generic], opaque: object) -> str:
    """Returns a dataset's dtype as its checksum covers it.

    Args:
        stored: The dtype as HDF5 has it.
        opaque: The name of the dtype whose bytes HDF5 does not know; empty for others.
    """
    return f"{stored.str} {opaque}"


def _extend(values: int, dtype: str, shape: tuple[int, ...]) -> int:
    return int(google_crc32c.extend(values, f"{dtype} {shape}".encode()))


@dataclass(slots=True)
class Checksums:
    """The checksums of one artifact.

    Attributes:
        tensors: Of every dataset, by its path in the HDF5 file.
        parts: Of every file or record that is read, by its name in the artifact.
        structure: Of the HDF5 file that holds the datasets, where the checksums lie beside it.
    """

    tensors: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    structure: Structure | None = None

    def add_tensor(self, path: str, values: int, dtype: str, shape: tuple[int, ...]) -> None:
        """Adds the checksum of a dataset.

        Args:
            path: Of the dataset.
            values: The checksum of its bytes.
            dtype: As `describe_dtype` gives it.
            shape: Its shape.
        """
        self.tensors[path] = _extend(values, dtype, shape)

    def add_part(self, name: str, content: bytes) -> bytes:
        """Adds the checksum of a part, and returns its content."""
        self.parts[name] = int(google_crc32c.value(content))
        return content

    def check_structure(self, file: IO[bytes], place: object) -> None:
        """Holds the HDF5 file against the checksum of its structure, before HDF5 opens it.

        Args:
            file: The file, from the first byte of HDF5 on.
            place: The artifact, for the error.

        Raises:
            ArtifactError: It is damaged.
        """
        if self.structure is not None:
            self.structure.check(file, place)

    def check_part(self, name: str, content: bytes, place: object) -> bytes:
        """Holds a part against its checksum.

        Args:
            name: Of the part.
            content: What was read.
            place: The artifact, for the error.

        Returns:
            The content.

        Raises:
            ArtifactError: They do not match, or there is no checksum.
        """
        if self.parts.get(name) != google_crc32c.value(content):
            raise ArtifactError(f"{place} is damaged: its part {name!r} does not match its checksum.")
        return content

    def check_tensor(self, name: str, checksum: int, place: object) -> None:
        """Holds a tensor against its checksum.

        Args:
            name: Its path in the HDF5 file.
            checksum: Of what was read.
            place: The artifact, for the error.

        Raises:
            ArtifactError: They do not match, or there is no checksum.
        """
        if self.tensors.get(name) != checksum:
            raise ArtifactError(f"{place} is damaged: the tensor {name!r} does not match its checksum.")

    def to_json(self) -> bytes:
        """Returns the checksums as JSON, with one of themselves."""
        structure = None if self.structure is None else self.structure.to_fields()
        body = {"tensors": self.tensors, "parts": self.parts, "structure": structure}
        text = json.dumps(body)
        return f'{{"crc32c": {google_crc32c.value(text.encode())}, "of": {text}}}'.encode()

    @classmethod
    def from_json(cls, text: str | bytes, place: object) -> "Checksums":
        """Reads what `to_json` wrote.

        Args:
            text: It.
            place: The artifact, for the error.

        Raises:
            ArtifactError: It is damaged.
        """
        fields = parse_json(text, f"The list of checksums of {place}")
        try:
            sealed = read_record(_Sealed, fields)
            if sealed.crc32c != google_crc32c.value(json.dumps(sealed.of).encode()):
                raise RecordError("they do not match their own checksum")
            body = read_record(_Body, sealed.of)
            structure = None if body.structure is None else Structure.from_fields(body.structure)
        except (RecordError, RecursionError) as error:
            raise ArtifactError(f"{place} is damaged: its checksums cannot be read: {error}.") from error
        return cls(body.tensors, body.parts, structure)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Checksums with one of themselves."""

    crc32c: int
    of: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Body:
    """The same as JSON has it."""

    tensors: dict[str, int]
    parts: dict[str, int]
    structure: Any


# What files and zipfile raise where a file is damaged.
FILE_FAULTS = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
# What h5py raises beside these. Our own faults are of the same kinds, so nothing else is done where they are caught.
_DAMAGE = (*FILE_FAULTS, TypeError, AttributeError)


@contextmanager
def damage_explained(place: object, part: str = "", faults: tuple[type[Exception], ...] = _DAMAGE) -> Iterator[None]:
    """Makes one error of what libraries raise inside when a file is damaged.

    Args:
        place: The artifact.
        part: What is read; empty for the whole.
        faults: What may be raised inside.

    Raises:
        ArtifactError: Something was raised inside.
    """
    try:
        yield
    except ArtifactError:
        raise
    except faults as error:
        where = f" at {part!r}" if part else ""
        raise ArtifactError(f"{place} cannot be read{where}: {error}. It is damaged or incomplete.") from error
