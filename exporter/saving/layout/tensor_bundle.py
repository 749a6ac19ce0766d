"""TensorFlow's checkpoint index: a table from a tensor's name to a place in a data file.

With it, a data file that was written for another reader (here: HDF5) serves TensorFlow too. The index is a LevelDB
table (https://github.com/google/leveldb/blob/main/doc/table_format.md) of `BundleEntryProto`
(`tensorflow/core/protobuf/tensor_bundle.proto`); the entry under the empty key is the `BundleHeaderProto`.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.saving.layout.messages import DTYPES, BundleEntryProto, BundleHeaderProto

# `tensorflow/core/lib/io/table_options.h` and `format.h`.
_BLOCK_SIZE = 256 << 10
_RESTART_INTERVAL = 16
_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
_TRAILER_SIZE = 5  # compression type, masked checksum
_NO_COMPRESSION = 0
_LITTLE_ENDIAN = 0  # `BundleHeaderProto.Endianness`
_REFERENCE = 100  # `DT_FLOAT_REF` is `DT_FLOAT` and this

# TensorFlow finds a variable's tensor in a checkpoint by this end of its key (`tensorflow/python/checkpoint`).
KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# The key of what a checkpoint says of its objects.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """One tensor of a bundle.

    Attributes:
        dtype: The number of its `DataType` in TensorFlow's `types.proto`.
        shape: Its dimensions.
        offset: Where its bytes begin in the data file.
        size: How many bytes it has.
        crc32c: The CRC-32C of its bytes, unmasked. For strings, see `encode_string`.
        shard: The number of the data file.
        slices: For a tensor that is cut into several entries, the start and the length of every dimension of each;
            a length of -1 is the whole dimension.
    """

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    crc32c: int
    shard: int = 0
    slices: tuple[tuple[tuple[int, int], ...], ...] = ()


def mask_crc32c(checksum: int) -> int:
    """Returns a CRC-32C as LevelDB stores it: rotated and shifted, so that a checksum of checksums stays useful."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def unmask_crc32c(masked: int) -> int:
    """Reverses `mask_crc32c`."""
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def encode_string(value: bytes) -> tuple[bytes, int]:
    """Encodes a scalar string tensor as `tensorflow/core/util/tensor_bundle` lays it out.

    Args:
        value: The string, shorter than 4 GiB.

    Returns:
        The bytes (length, checksum of the length, string) and their CRC-32C, which covers the length as 4 bytes.
    """
    checksum = google_crc32c.value(struct.pack("<I", len(value)))
    length_checksum = struct.pack("<I", mask_crc32c(checksum))
    checksum = google_crc32c.extend(google_crc32c.extend(checksum, length_checksum), value)
    return _varint(len(value)) + length_checksum + value, checksum


def decode_string(content: bytes) -> bytes:
    """Reverses `encode_string`.

    Raises:
        ValueError: The bytes are damaged.
    """
    try:
        size, position = read_varint(content, 0)
    except IndexError:
        raise ValueError("a string is cut off") from None
    value = content[position + 4 :]
    if len(value) != size or content != encode_string(value)[0]:
        raise ValueError("a string does not match its checksum")
    return value


def write_index(path: Path, entries: Mapping[str, BundleEntry], shards: int = 1) -> None:
    """Writes an index file.

    Args:
        path: The file, named `<prefix>.index`; the data files are `<prefix>.data-00000-of-00001` and so on.
        entries: The tensors by name.
        shards: How many data files there are.
    """
    header = BundleHeaderProto(num_shards=shards)
    header.version.producer = 1
    table = [(b"", header.SerializeToString(deterministic=True))]
    table += sorted((name.encode(), _to_proto(entry)) for name, entry in entries.items())
    path.write_bytes(_build_table(table))


def _to_proto(entry: BundleEntry) -> bytes:
    message = BundleEntryProto(
        dtype=entry.dtype,
        shard_id=entry.shard,
        offset=entry.offset,
        size=entry.size,
        crc32c=mask_crc32c(entry.crc32c),
    )
    message.shape.SetInParent()
    for size in entry.shape:
        message.shape.dim.add(size=size)
    return bytes(message.SerializeToString(deterministic=True))


def read_index(path: Path) -> dict[str, BundleEntry]:
    """Reads an index file, checking every block's checksum.

    Args:
        path: The index file.

    Returns:
        The tensors by name, in the order of their names.

    Raises:
        ArtifactError: The file is damaged, or of a kind that TensorFlow does not write.
    """
    try:
        rows = list(_read_table(path.read_bytes()))
        if not rows or rows[0][0] != b"":
            raise ValueError("it has no header")
        header = BundleHeaderProto.FromString(rows[0][1])
        if header.endianness != _LITTLE_ENDIAN:
            raise ValueError("it was written on a big-endian machine")
        return {_decode_name(name): _from_proto(value) for name, value in rows[1:]}
    except (ValueError, IndexError, struct.error, DecodeError) as error:
        raise ArtifactError(f"{path} is not a whole checkpoint index: {error}.") from error


def _from_proto(value: bytes) -> BundleEntry:
    message = BundleEntryProto.FromString(value)
    if message.dtype % _REFERENCE not in DTYPES:
        raise ValueError(f"the dtype {message.dtype} is unknown")
    return BundleEntry(
        dtype=message.dtype,
        shape=tuple(dim.size for dim in message.shape.dim),
        offset=message.offset,
        size=message.size,
        crc32c=unmask_crc32c(message.crc32c),
        shard=message.shard_id,
        slices=tuple(tuple((extent.start, extent.length or -1) for extent in each.extent) for each in message.slices),
    )


def _decode_name(name: bytes) -> str:
    # What TensorFlow itself makes of the name of a cut tensor is no text; see `name_slice`.
    return name.decode(errors="surrogateescape" if name.startswith(b"\0") else "strict")


def name_slice(name: str, extents: Iterable[tuple[int, int]]) -> str:
    """Returns the name of one entry of a tensor that is cut into several.

    The encoding is that of `EncodeTensorNameSlice` in `tensorflow/core/util/saved_tensor_slice_util.cc` and of
    `tensorflow/core/lib/strings/ordered_code.cc`.

    Args:
        name: Of the tensor.
        extents: One item of `BundleEntry.slices`.

    Returns:
        The name in the index, as `read_index` gives it.
    """
    extents = list(extents)
    text = name.encode().replace(b"\x00", b"\x00\xff")  # UTF-8 has no byte 0xff to be replaced too
    encoded = _encode_number(0) + text + b"\x00\x01" + _encode_number(len(extents))
    for start, length in extents:
        encoded += _encode_signed(start) + _encode_signed(length)
    return _decode_name(encoded)


def _encode_number(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _encode_signed(number: int) -> bytes:
    """Encodes a number so that its bytes sort as it does: as many leading ones as bytes, then two's complement."""
    size = (number if number >= 0 else ~number).bit_length() // 7 + 1
    header = ((1 << size) - 1) << (7 * size)
    return ((number & ((1 << 8 * size) - 1)) ^ header).to_bytes(size, "big")


def _build_table(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Lays sorted rows out in blocks, followed by an empty meta-index, an index of the blocks, and the footer."""
    output = bytearray()
    index: list[tuple[bytes, bytes]] = []
    block: list[tuple[bytes, bytes]] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row[0]) + len(row[1])
        if size >= _BLOCK_SIZE:
            index.append((row[0], _append_block(output, block, _RESTART_INTERVAL)))
            block, size = [], 0
    if block:
        index.append((block[-1][0], _append_block(output, block, _RESTART_INTERVAL)))
    meta_handle = _append_block(output, [], _RESTART_INTERVAL)
    index_handle = _append_block(output, index, 1)
    handles = meta_handle + index_handle
    output += handles.ljust(_FOOTER_SIZE - 8, b"\0") + struct.pack("<Q", _MAGIC)
    return bytes(output)


def _append_block(output: bytearray, rows: list[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    """Appends one block and returns its handle: the varints of its offset and size."""
    body = bytearray()
    restarts: list[int] = []
    previous = b""
    for number, (key, value) in enumerate(rows):
        shared = 0
        if number % restart_interval == 0:
            restarts.append(len(body))
        else:
            limit = min(len(previous), len(key))
            while shared < limit and previous[shared] == key[shared]:
                shared += 1
        body += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    body += struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))
    handle = _varint(len(output)) + _varint(len(body))
    content = bytes(body) + bytes([_NO_COMPRESSION])
    output += content + struct.pack("<I", mask_crc32c(google_crc32c.value(content)))
    return handle


def _read_table(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    if len(data) < _FOOTER_SIZE or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("the footer is missing")
    footer = data[-_FOOTER_SIZE:-8]
    meta_offset, meta_size, position = _read_handle(footer, 0)
    index_offset, index_size, _ = _read_handle(footer, position)
    _read_block(data, meta_offset, meta_size)
    end = 0
    for _, handle in _read_block(data, index_offset, index_size):
        offset, size, _ = _read_handle(handle, 0)
        if offset < end:
            raise ValueError("its blocks overlap")
        yield from _read_block(data, offset, size)
        end = offset + size


def _read_handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Returns the offset and the size of a block, and where its handle ends."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return offset, size, position


def _read_block(data: bytes, offset: int, size: int) -> list[tuple[bytes, bytes]]:
    end = offset + size
    if end + _TRAILER_SIZE > len(data) - _FOOTER_SIZE:
        raise ValueError("a block lies outside the file")
    if unmask_crc32c(struct.unpack("<I", data[end + 1 : end + _TRAILER_SIZE])[0]) != google_crc32c.value(
        data[offset : end + 1]
    ):
        raise ValueError("the checksum of a block does not match its bytes")
    if data[end] != _NO_COMPRESSION:
        raise ValueError("a block is compressed")
    block = data[offset:end]
    (restarts,) = struct.unpack("<I", block[-4:])
    limit = len(block) - 4 - 4 * restarts
    rows: list[tuple[bytes, bytes]] = []
    key, position = b"", 0
    while position < limit:
        shared, position = read_varint(block, position)
        added, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or position + added + length > limit:
            raise ValueError("a row lies outside its block")
        key = key[:shared] + block[position : position + added]
        position += added
        rows.append((key, block[position : position + length]))
        position += length
    return rows


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number as protocol buffers and LevelDB write it, and returns it with the position behind it.

    Raises:
        IndexError: The bytes end in the middle of it.
        ValueError: It has more than 64 bits.
    """
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def is_checkpoint(prefix: Path) -> bool:
    """Tells whether a path is the prefix of a TensorFlow checkpoint's files."""
    try:
        return bool(prefix.name) and prefix.with_name(f"{prefix.name}.index").is_file()
    except OSError:  # a name that is too long
        return False
