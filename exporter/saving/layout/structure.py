"""A checksum of what HDF5 itself reads of a file, taken before it does.

The arrays of a file have their own checksums. What is left is the structure: headers, names, trees. HDF5 reads it in
C, and a flipped bit there can end the process. So what we write says where the arrays are and what the CRC-32C of all
other bytes is: a SavedModel and an archive beside the weights, and an HDF5 file behind its own end, where HDF5 does not
look. Whoever changes such a file with HDF5 cuts that off, or leaves it where it is and makes the file longer.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import google_crc32c

from exporter.errors import ArtifactError
from exporter.saving.layout.records import RecordError, read_record

_FOOTER = b"\nexporter structure "
_DIGITS = 12
# What may follow the footer, such as the digest with which an exported file ends.
_BEHIND = 256
_CHUNK_BYTES = 1 << 20
# The end-of-file address in a superblock, by its signature and version (HDF5 File Format Specification, II.A). We write
# version 2.
_ENDS = {
    b"\x89HDF\r\n\x1a\n\0": slice(40, 48),
    b"\x89HDF\r\n\x1a\n\2": slice(28, 36),
    b"\x89HDF\r\n\x1a\n\3": slice(28, 36),
}
_HEAD_BYTES = 48


@dataclass(frozen=True, slots=True)
class Structure:
    """The bytes of an HDF5 file that are not those of its arrays.

    Attributes:
        size: Of the whole file, in bytes.
        arrays: The offset and the size of each array, in the order of the file.
        crc32c: Of all other bytes.
    """

    size: int
    arrays: tuple[tuple[int, int], ...]
    crc32c: int

    def list_gaps(self) -> Iterator[tuple[int, int]]:
        """Gives where each part begins and ends that belongs to no array."""
        start = 0
        for offset, size in self.arrays:
            yield start, offset
            start = offset + size
        yield start, self.size

    def check(self, file: IO[bytes], place: object) -> None:
        """Reads all bytes but those of the arrays.

        Args:
            file: The file, from the first byte of HDF5 on.
            place: The artifact, for the error.

        Raises:
            ArtifactError: They do not match the checksum.
        """
        crc32c = 0
        for start, end in self.list_gaps():
            file.seek(start)
            while start < end:
                content = file.read(min(end - start, _CHUNK_BYTES))
                if not content:
                    raise ArtifactError(f"{place} is damaged: it ends after {start} bytes of {self.size}.")
                crc32c = google_crc32c.extend(crc32c, content)
                start += len(content)
        if crc32c != self.crc32c:
            raise ArtifactError(f"{place} is damaged: the structure of its HDF5 file does not match its checksum.")

    def to_fields(self) -> dict[str, object]:
        """Returns what JSON can hold."""
        return {"size": self.size, "arrays": self.arrays, "crc32c": self.crc32c}

    @classmethod
    def from_fields(cls, fields: object) -> "Structure":
        """Reads what `to_fields` returned.

        Raises:
            RecordError: It is damaged.
        """
        structure = read_record(cls, fields, "its structure")
        if any(start > end for start, end in structure.list_gaps()):
            raise RecordError("the arrays of its structure overlap")
        return structure


def make_footer(structure: Structure) -> bytes:
    """Returns what stands behind the end of an HDF5 file that is an artifact of its own."""
    body = json.dumps(structure.to_fields()).encode()
    fields = json.dumps({"crc32c": int(google_crc32c.value(body)), "of": body.decode()}).encode()
    return fields + _FOOTER + f"{len(fields):0{_DIGITS}d}".encode()


def check_footer(file: IO[bytes], place: object) -> bool:
    """Holds an HDF5 file against the footer that stands behind it, if one does.

    Args:
        file: The file, open.
        place: The artifact, for the error.

    Returns:
        False if something else stands behind the end of the file, such as a part of a footer. HDF5 itself leaves
        nothing there.

    Raises:
        ArtifactError: It is damaged.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    place_of_end = _ENDS.get(head[:9])
    end = int.from_bytes(head[place_of_end], "little") if place_of_end else None
    structure = _read_footer(file, place)
    is_all = file.seek(0, 2) == end
    # A file that HDF5 made longer since may still hold the footer that it had.
    if structure is not None and not is_all:
        structure.check(file, place)
        return True
    return end is None or is_all


def ends_with_footer(file: IO[bytes]) -> bool:
    """Tells whether nothing stands behind the footer of an HDF5 file, as a digest would or what is left of one.

    Args:
        file: The file, open.
    """
    length = len(_FOOTER) + _DIGITS
    file.seek(max(file.seek(0, 2) - length, 0))
    tail = file.read(length)
    return tail.startswith(_FOOTER) and tail[len(_FOOTER) :].isdigit()


def _read_footer(file: IO[bytes], place: object) -> Structure | None:
    size = file.seek(0, 2)
    start = max(0, size - _BEHIND)
    file.seek(start)
    tail = file.read()
    found = tail.rfind(_FOOTER)
    if found < 0:
        return None
    digits = tail[found + len(_FOOTER) :][:_DIGITS]
    try:
        if not digits.isdigit():
            raise RecordError("it has no length")
        file.seek(max(0, start + found - int(digits)))
        sealed = read_record(_Sealed, json.loads(file.read(int(digits))))
        if sealed.crc32c != google_crc32c.value(sealed.of.encode()):
            raise RecordError("it does not match its own checksum")
        return Structure.from_fields(json.loads(sealed.of))
    except (ValueError, RecursionError) as error:  # of JSON, and of records
        raise ArtifactError(f"{place} is damaged: the checksum of its structure cannot be read: {error}.") from error


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A structure as JSON, with its checksum."""

    crc32c: int
    of: str
