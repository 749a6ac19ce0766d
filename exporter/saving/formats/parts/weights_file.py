"""Keras's weights file (`model.weights.h5`), with what Keras leaves out of it in the same tree.

The layout is that of `keras.src.saving.saving_lib`: the variables of the object at `layers/dense` are the datasets
`layers/dense/vars/0`, `layers/dense/vars/1`, ... Every dataset is contiguous, so that its bytes can be found at one
offset of the file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import first_line
from exporter.saving.layout.checksums import Checksums, checksum_dataset, checksum_values, damage_explained
from exporter.saving.layout.datasets import OPAQUE_DTYPES, Datasets, Stored
from exporter.saving.layout.names import WEIGHTS
from exporter.saving.private_api import DiskIOStore, H5IOStore, load_saved_state, safe_get_h5_dataset
from exporter.saving.state.collecting import Array, State, to_array
from exporter.saving.state.tree import join
from exporter.typing.hdf5 import Dataset, File, Group
from exporter.typing.keras import Layer, Model


def find_dataset(group: Group, path: str, place: Path | str) -> Dataset:
    """Finds a dataset whose values lie in the file itself.

    Args:
        group: Where to look: a file or a group of it.
        path: Its path from there.
        place: The artifact, for errors.

    Returns:
        The dataset.

    Raises:
        ArtifactError: There is none, it takes its values from another file (a link, external storage, a virtual
            dataset), or it declares far more bytes than it stores.
    """
    try:
        dataset: Dataset = safe_get_h5_dataset(group, path.strip("/"))
    except KeyError:
        raise ArtifactError(f"{place} lacks {path!r}: the file is incomplete.") from None
    except ValueError as error:
        raise ArtifactError(f"{place} is refused for {path!r}: {error}") from error
    return dataset


@dataclass(frozen=True, slots=True)
class StoredArrays:
    """The arrays of one file, each held against its checksum when it is read.

    Attributes:
        file: The file, open.
        checksums: Those of the file; None if somebody else wrote it.
        place: The artifact, for errors.
    """

    file: File
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
            value, name = np.asarray(dataset[...]), dataset.attrs.get("dtype")
        if self.checksums is not None:
            self.checksums.check_tensor(path, checksum_dataset(dataset, checksum_values(value)), self.place)
        if not (isinstance(name, str) and name in OPAQUE_DTYPES):
            return value
        with damage_explained(self.place, path, (TypeError, ValueError)):  # NumPy's, of bytes that fit no such number
            return value.view(OPAQUE_DTYPES[name])

    def check(self) -> None:
        """Reads every array that has a checksum.

        Raises:
            ArtifactError: One is not there, or damaged.
        """
        for path in self.checksums.tensors if self.checksums is not None else ():
            self.read(path)


def write_weights(datasets: Datasets, state: State) -> dict[str, Stored]:
    """Adds the state of a model to a file.

    Args:
        datasets: Those of an empty file.
        state: The state.

    Returns:
        Where each variable is, by its path in the state.
    """
    paths = {id(variable): path for path, variable in state.variables.items()}
    placed: dict[str, Stored] = {}
    for saveable in state.tree:
        name = getattr(saveable.target, "name", None)
        if not saveable.entries and not (hasattr(saveable.target, "save_own_variables") and isinstance(name, str)):
            continue
        address = join(saveable.path, "vars")
        group = datasets.add_group(address)
        if isinstance(name, str):
            group.attrs["name"] = name
        for key, value in saveable.entries.items():
            path = paths.get(id(value)) if isinstance(value, keras.Variable) else None
            if path is None:
                datasets.add(join(address, key), partial(_convert, value))
            elif path in placed:
                # A loss-scale optimizer lists its inner optimizer's variables again.
                datasets.link(join(address, key), placed[path])
            else:
                placed[path] = datasets.add(join(address, key), partial(to_array, value))
    for path, variable in state.variables.items():
        if path not in placed:
            placed[path] = datasets.add(path, partial(to_array, variable))
    return placed


def _convert(value: object) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(value))


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


# Tells where something is.
Find = Callable[[str], str]


class _OpenStore(H5IOStore):
    """Keras's way to the weights, over a file that was checked."""

    def __init__(self, file: File, find: Find | None) -> None:
        self._file = file
        self._find = find
        super().__init__(WEIGHTS)

    def get(self, path: str) -> object:
        return super().get(path if self._find is None else self._find(path))

    def _get_h5_file(self, path_or_io: object, mode: object = None) -> File:
        return self._file


def load_as_keras(
    model: Model | Layer, file: File, assets: DiskIOStore | None = None, place: str = "", find: Find | None = None
) -> None:
    """Gives a model, or a layer, what Keras itself reads of a weights file.

    Args:
        model: It, built.
        file: The file, open and checked.
        assets: The files of layers; None for those of none.
        place: Where its variables are in the file.
        find: Tells where in the file it is what Keras looks for; None if it is there.

    Raises:
        ValueError: It is not the file of such a model.
    """
    faults: dict[int, tuple[object, Exception]] = {}
    load_saved_state(
        model,
        weights_store=_OpenStore(file, find),
        assets_store=assets,
        inner_path=place,
        visited_saveables=set(),
        failed_saveables=set(),
        error_msgs=faults,
    )
    for layer, error in faults.values():
        raise ValueError(
            f"{len(faults)} objects could not be loaded, such as {getattr(layer, 'name', type(layer).__name__)!r}: "
            f"{first_line(error)}"
        ) from error
