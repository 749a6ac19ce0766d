"""The tensors of an artifact, by path, each read when it is asked for."""

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np
from google.protobuf.message import DecodeError

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array
from exporter.saving.layout.messages import DTYPES, TrackableObjectGraph
from exporter.saving.layout.names import INDEX
from exporter.saving.layout.tensor_bundle import (
    KEY_SUFFIX,
    OBJECT_GRAPH,
    BundleEntry,
    decode_string,
    name_slice,
    read_index,
)
from exporter.typing.messages import TrackableObject

# What h5py and zipfile raise on a damaged file, and what plain data of another shape than expected comes to.
DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error),
)

# Dtypes that NumPy does not have, and HDF5 keeps as opaque bytes.
_FURTHER_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "int4", "uint4")
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of an artifact.

    Attributes:
        dtype: The name of its dtype.
        shape: Its dimensions.
        size: How many bytes it has on disk.
        read: Reads its value, for strings the stored bytes; raises ArtifactError if it is damaged.
        trainable: Whether it is trained; None if the artifact does not say.
    """

    dtype: str
    shape: tuple[int, ...]
    size: int
    read: Callable[[], Array]
    trainable: bool | None = None

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape, dtype=np.int64))


def find_dtype(name: str) -> "np.dtype[Any]":
    """Returns NumPy's dtype of a name, also for those that NumPy does not have by itself.

    Raises:
        ArtifactError: There is no such dtype for numbers.
    """
    try:
        return _FURTHER_DTYPES[name] if name in _FURTHER_DTYPES else np.dtype(name)
    except TypeError:
        raise ArtifactError(f"Values of the dtype {name!r} cannot be read here.") from None


def read_checkpoint(directory: Path) -> dict[str, StoredTensor]:
    """Lists the tensors of a SavedModel's `variables/`.

    Args:
        directory: The directory of the SavedModel.

    Returns:
        The tensors by their key in the checkpoint, without its end. Ours have the path of the state.

    Raises:
        ArtifactError: The index is damaged, or a data file is missing.
    """
    index_path = directory / INDEX
    if not index_path.is_file():
        return {}
    index = read_index(index_path)
    files = {entry.shard for entry in index.values() if entry.size}
    shards = sorted(index_path.parent.glob("variables.data-?????-of-?????"))
    by_number = {int(path.name.removeprefix("variables.data-")[:5]): path for path in shards}
    for number in sorted(files - by_number.keys()):
        raise ArtifactError(f"{directory} is incomplete: variables/ lacks the data file number {number}.")
    checkpoint = _Checkpoint(index, by_number)
    names = _name_keys(checkpoint)
    return {names.get(key, key.removesuffix(KEY_SUFFIX)): checkpoint.describe(key) for key in checkpoint.list_keys()}


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    index: Mapping[str, BundleEntry]
    shards: Mapping[int, Path]

    def list_keys(self) -> list[str]:
        """The tensors, without their parts and without the object graph."""
        return [key for key in self.index if not key.startswith("\0") and key != OBJECT_GRAPH]

    def describe(self, key: str) -> StoredTensor:
        entry = self.index[key]
        dtype = DTYPES.get(entry.dtype, f"dtype {entry.dtype}")
        parts = [self.index.get(name_slice(key, extents)) for extents in entry.slices]
        size = sum(part.size for part in parts if part is not None) if parts else entry.size
        return StoredTensor(dtype, entry.shape, size, lambda: self._read(key))

    def _read(self, key: str) -> Array:
        entry = self.index[key]
        if DTYPES[entry.dtype] == "string":
            return np.frombuffer(self.read_bytes(entry), np.uint8)
        dtype = find_dtype(DTYPES[entry.dtype])
        if not entry.slices:
            return self._read_entry(key, entry, dtype)
        value = np.zeros(entry.shape, dtype)
        for extents in entry.slices:
            part = self.index.get(name_slice(key, extents))
            if part is None:
                raise ArtifactError(f"The checkpoint lacks a part of {key.removesuffix(KEY_SUFFIX)}.")
            place = tuple(slice(start, None if length < 0 else start + length) for start, length in extents)
            value[place] = self._read_entry(key, part, dtype)
        return value

    def _read_entry(self, key: str, entry: BundleEntry, dtype: "np.dtype[Any]") -> Array:
        content = self.read_bytes(entry)
        name = key.removesuffix(KEY_SUFFIX)
        if google_crc32c.value(content) != entry.crc32c and entry.size:
            raise ArtifactError(f"The tensor {name} is damaged: its bytes do not match their checksum.")
        try:
            return np.frombuffer(content, dtype).reshape(entry.shape)
        except ValueError as error:
            raise ArtifactError(f"The tensor {name} is damaged: {error}.") from error

    def read_bytes(self, entry: BundleEntry) -> bytes:
        path = self.shards[entry.shard] if entry.size else None
        if path is None:
            return b""
        if entry.offset < 0 or entry.offset + entry.size > path.stat().st_size:
            raise ArtifactError(f"{path} is incomplete: the index names bytes behind its end.")
        with path.open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.size)


def _name_keys(checkpoint: _Checkpoint) -> dict[str, str]:
    """Finds the paths of the state for the keys that TensorFlow's own writer gave our variables."""
    entry = checkpoint.index.get(OBJECT_GRAPH)
    if entry is None:
        return {}
    content = checkpoint.read_bytes(entry)
    try:
        nodes = TrackableObjectGraph.FromString(decode_string(content)).nodes
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"The checkpoint's object graph is damaged: {error}.") from error
    state = _find_child(nodes, _find_child(nodes, 0, "exporter"), "state")
    if state is None:
        return {}
    names = {}
    for child in nodes[state].children:
        if child.node_id < len(nodes):
            for attribute in nodes[child.node_id].attributes:
                names[attribute.checkpoint_key] = child.local_name
    return names


def _find_child(nodes: Sequence[TrackableObject], number: int | None, name: str) -> int | None:
    if number is None or not 0 <= number < len(nodes):
        return None
    return next((child.node_id for child in nodes[number].children if child.local_name == name), None)
