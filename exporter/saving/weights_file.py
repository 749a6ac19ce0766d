"""Keras's weights file (`model.weights.h5`), with what Keras leaves out of it in the same tree.

The layout is that of `keras.src.saving.saving_lib`: the variables of the object at `layers/dense` are the datasets
`layers/dense/vars/0`, `layers/dense/vars/1`, ... Every dataset is contiguous, so that its bytes can be found at one
offset of the file.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
from keras.src.saving.saving_lib import safe_get_h5_dataset

from exporter.errors import ArtifactError
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


def find_dataset(group: h5py.Group, path: str) -> h5py.Dataset:
    """Finds a dataset whose values lie in the file itself.

    Args:
        group: Where to look: a file or a group of it.
        path: Its path from there.

    Returns:
        The dataset.

    Raises:
        ArtifactError: There is none, it takes its values from another file (a link, external storage, a virtual
            dataset), or it declares far more bytes than it stores.
    """
    try:
        return safe_get_h5_dataset(group, path.strip("/"))
    except KeyError:
        raise ArtifactError(f"{group.file.filename} lacks {path!r}: the file is incomplete.") from None
    except ValueError as error:
        raise ArtifactError(f"{group.file.filename} is refused for {path!r}: {error}") from error


def read_dataset(dataset: h5py.Dataset) -> Array:
    """Reads what `create_dataset` or Keras wrote.

    Args:
        dataset: The dataset.

    Returns:
        The array, with its own dtype.
    """
    value = np.asarray(dataset[()])
    name = dataset.attrs.get("dtype")
    return value.view(_OPAQUE_DTYPES[name]) if name in _OPAQUE_DTYPES else value


def write_weights(
    file: h5py.File, state: State, written: Callable[[str, h5py.Dataset, Array], None] | None = None
) -> None:
    """Writes the state of a model, one tensor in memory at a time.

    Args:
        file: An empty, writable file.
        state: The state.
        written: Called after each variable with its path, its dataset and its value.
    """
    paths = {id(variable): path for path, variable in state.variables.items()}
    datasets: dict[int, h5py.Dataset] = {}

    def write(group: h5py.Group, name: str, variable: keras.Variable) -> None:
        known = datasets.get(id(variable))
        if known is not None:
            # A loss-scale optimizer lists its inner optimizer's variables again: a hard link costs no bytes.
            group[name] = known
            return
        value = to_array(variable)
        dataset = datasets[id(variable)] = create_dataset(group, name, value)
        if written is not None:
            written(paths[id(variable)], dataset, value)

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
                create_dataset(group, key, np.asarray(keras.ops.convert_to_numpy(value)))
    for path, variable in state.variables.items():
        if id(variable) not in datasets:
            write(file, path, variable)


class Entries(Mapping[str, Array]):
    """What the file holds for one object of the tree, as Keras's `load_own_variables` takes it."""

    def __init__(self, file: h5py.File, path: str) -> None:
        self._file = file
        self._path = join(path, "vars")
        self._group = file.get(self._path, {})

    def __getitem__(self, key: str) -> Array:
        if key not in self._group:
            raise KeyError(key)
        return read_dataset(find_dataset(self._file, join(self._path, key)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)


def read_variable(file: h5py.File, path: str) -> Array:
    """Reads one variable by its path.

    Args:
        file: The weights file.
        path: The variable's path.

    Returns:
        Its value.

    Raises:
        ArtifactError: The file has no such dataset, or it must not be read; see `find_dataset`.
    """
    return read_dataset(find_dataset(file, path))
