"""Keras's weights file (`model.weights.h5`), with what Keras leaves out of it in the same tree.

The layout is that of `keras.src.saving.saving_lib`: the variables of the object at `layers/dense` are the datasets
`layers/dense/vars/0`, `layers/dense/vars/1`, ... Every dataset is contiguous, so that its bytes can be found at one
offset of the file.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
from keras.src.saving.saving_lib import safe_get_h5_dataset

from exporter.errors import ArtifactError
from exporter.saving.checksums import Checksums, checksum_dataset, checksum_values, damage_explained
from exporter.saving.state import Array, State, join, to_array

_OPAQUE_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
}


class _Target:
    """A file that HDF5 writes to, which keeps the first error of the disk for later.

    HDF5 cannot close a file that it cannot write: it leaves its objects behind, and the process crashes when they
    are freed. So it is told that all is well, and what it writes after an error is dropped.
    """

    def __init__(self, raw: FileIO) -> None:
        self.error: OSError | None = None
        self._raw = raw

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(size) or b""

    def readinto(self, buffer: Any) -> int:
        return self._raw.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._attempt(self._raw.truncate, size)

    def flush(self) -> None:
        """The file has no buffer of its own."""

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest and self.error is None:  # one call of the system writes at most 2 GiB
            rest = rest[self._attempt(self._raw.write, rest) :]
        return len(data)

    def _attempt(self, act: Callable[[Any], int | None], argument: Any) -> int:
        if self.error is None:
            try:
                return act(argument) or 0
            except OSError as error:
                self.error = error
        return 0


@contextmanager
def create_file(path: Path) -> Iterator[h5py.File]:
    """Makes a new HDF5 file, and closes it in the end.

    Args:
        path: Where; nothing may be there.

    Yields:
        The file, empty and writable.

    Raises:
        OSError: The disk is full, or the file could not be written for another reason; raised in the end.
    """
    with path.open("x+b", buffering=0) as raw:
        target = _Target(raw)
        with h5py.File(target, "w") as file:
            yield file
        if target.error is not None:
            target.error.filename = str(path)
            raise target.error


def create_dataset(group: h5py.Group, name: str, value: Array) -> h5py.Dataset:
    """Writes one array as a contiguous dataset.

    Args:
        group: Where to write it.
        name: Its name; missing groups in between are made.
        value: Any dtype of NumPy's or of ml_dtypes; the latter become opaque bytes of the same width, with the name
            in the attribute `dtype`, as Keras does for bfloat16.

    Returns:
        The dataset.
    """
    dataset = group.create_dataset(name, data=value)
    if value.dtype.name in _OPAQUE_DTYPES:
        dataset.attrs["dtype"] = value.dtype.name
    return dataset


def _join_names(group: h5py.Group, name: str) -> str:
    return join(str(group.name).strip("/"), name.strip("/"))


def find_dataset(group: h5py.Group, path: str, place: Path | str | None = None) -> h5py.Dataset:
    """Finds a dataset whose values lie in the file itself.

    Args:
        group: Where to look: a file or a group of it.
        path: Its path from there.
        place: The artifact, for errors; by default the name of the file.

    Returns:
        The dataset.

    Raises:
        ArtifactError: There is none, it takes its values from another file (a link, external storage, a virtual
            dataset), or it declares far more bytes than it stores.
    """
    place = place or group.file.filename
    try:
        return safe_get_h5_dataset(group, path.strip("/"))
    except KeyError:
        raise ArtifactError(f"{place} lacks {path!r}: the file is incomplete.") from None
    except ValueError as error:
        raise ArtifactError(f"{place} is refused for {path!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class StoredArrays:
    """The arrays of one file, each held against its checksum when it is read.

    Attributes:
        file: The file, open.
        checksums: Those of the file; None if somebody else wrote it.
        place: The artifact, for errors.
    """

    file: h5py.File
    checksums: Checksums | None
    place: Path | str

    def read(self, path: str) -> Array:
        """Reads one array.

        Args:
            path: Of its dataset.

        Returns:
            The array, with its own dtype.

        Raises:
            ArtifactError: It is not there, it is damaged, or it must not be read; see `find_dataset`.
        """
        path = path.strip("/")
        with damage_explained(self.place, path):
            dataset = find_dataset(self.file, path, self.place)
            value = np.asarray(dataset[()])
            if self.checksums is not None:
                self.checksums.check_tensor(path, checksum_dataset(dataset, checksum_values(value)), self.place)
            name = dataset.attrs.get("dtype")
            return value.view(_OPAQUE_DTYPES[name]) if name in _OPAQUE_DTYPES else value


def write_weights(
    file: h5py.File,
    state: State,
    checksums: Checksums,
    written: Callable[[str, h5py.Dataset, Array, int], None] | None = None,
) -> None:
    """Writes the state of a model, one tensor in memory at a time.

    Args:
        file: An empty, writable file.
        state: The state.
        checksums: Gets that of every tensor.
        written: Called after each variable with its path, its dataset, its value, and the CRC-32C of its bytes.
    """
    paths = {id(variable): path for path, variable in state.variables.items()}
    datasets: dict[int, h5py.Dataset] = {}

    def write(group: h5py.Group, name: str, variable: keras.Variable) -> None:
        known = datasets.get(id(variable))
        if known is not None:
            # A loss-scale optimizer lists its inner optimizer's variables again: a hard link costs no bytes.
            group[name] = known
            checksums.tensors[_join_names(group, name)] = checksums.tensors[known.name.strip("/")]
            return
        value = to_array(variable)
        dataset = datasets[id(variable)] = create_dataset(group, name, value)
        checksum = checksum_values(value)
        checksums.tensors[dataset.name.strip("/")] = checksum_dataset(dataset, checksum)
        if written is not None:
            written(paths[id(variable)], dataset, value, checksum)

    for saveable in state.tree:
        name = getattr(saveable.target, "name", None)
        if not saveable.entries and not (hasattr(saveable.target, "save_own_variables") and isinstance(name, str)):
            continue
        group = file.require_group(join(saveable.path, "vars"))
        if isinstance(name, str):
            group.attrs["name"] = name
        for key, value in saveable.entries.items():
            if isinstance(value, keras.Variable) and id(value) in paths:
                write(group, key, value)
            else:
                array = np.asarray(keras.ops.convert_to_numpy(value))
                dataset = create_dataset(group, key, array)
                checksums.tensors[dataset.name.strip("/")] = checksum_dataset(dataset, checksum_values(array))
    for path, variable in state.variables.items():
        if id(variable) not in datasets:
            write(file, path, variable)


class Entries(Mapping[str, Array]):
    """What the file holds for one object of the tree, as Keras's `load_own_variables` takes it."""

    def __init__(self, arrays: StoredArrays, path: str) -> None:
        self._arrays = arrays
        self._path = join(path, "vars")
        with damage_explained(arrays.place, self._path):
            self._group = arrays.file.get(self._path, {})

    def __getitem__(self, key: str) -> Array:
        if key not in self._group:
            raise KeyError(key)
        return self._arrays.read(join(self._path, key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)
