"""The tensors of Keras's HDF5 files, read with h5py alone."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from exporter.artifacts.inspection.tensors import DAMAGE, StoredTensor, find_dtype
from exporter.errors import ArtifactError
from exporter.processes.arrays import Array
from exporter.saving.layout.checksums import Checksums, checksum_dataset, checksum_values
from exporter.typing.hdf5 import Dataset, File, Group
from exporter.typing.structures import Config

_LEGACY = ("model_weights", "optimizer_weights")


def list_weights(file: File) -> dict[str, StoredTensor]:
    """Lists what is in `model.weights.h5`, by the path of the state.

    Args:
        file: The file, open.

    Returns:
        Every tensor that lies in the file itself, once.
    """
    tensors = {path: _describe(dataset) for path, dataset in _walk(file)}
    return dict(sorted(tensors.items(), key=lambda item: _sort_key(item[0])))


def list_recorded(
    file: File, artifact: Path, record: Config, checksums: Checksums, index: Mapping[str, str] = {}
) -> dict[str, StoredTensor]:
    """Lists the variables of a file that we wrote, by the path of the state.

    Args:
        file: The file, open.
        artifact: Its path, for errors.
        record: Our record of the state.
        checksums: Those of the file.
        index: Path of the state -> path in the file, of those that lie elsewhere: in the legacy layout.

    Returns:
        The variables that the record names.

    Raises:
        ArtifactError: The file lacks one.
    """
    tensors = {}
    for path in record["variables"]:
        dataset = _find(file, index.get(path, path))
        if dataset is None:
            raise ArtifactError(f"{artifact} is incomplete: it lacks {path!r}.")
        tensors[path] = _describe(dataset, checksums, index.get(path, path))
    return tensors


def list_legacy(file: File, artifact: Path, addresses: Mapping[str, str]) -> dict[str, StoredTensor]:
    """Lists the variables of a file in the legacy layout that Keras wrote.

    A layer's variables get the path of the state where the layer holds them itself, and otherwise their own names.

    Args:
        file: The file, open.
        artifact: Its path, for errors.
        addresses: Of the layers, by name.

    Returns:
        The tensors.
    """
    tensors: dict[str, StoredTensor] = {}
    for group_name in _LEGACY:
        group = file.get(group_name)
        layers = _read_names(group, "layer_names") if group_name == "model_weights" and group is not None else []
        places = [("optimizer", group)] if group_name == "optimizer_weights" and group is not None else []
        places += [(name, group.get(name)) for name in [*layers, "top_level_model_weights"] if group_name == _LEGACY[0]]
        for owner, place in places:
            if place is None:
                continue
            names = _read_names(place, "weight_names")
            by_keras_2 = any(name.endswith(":0") for name in names)
            if owner == "optimizer":
                address = None if by_keras_2 else "optimizer"
            else:
                direct = all(name.split("/")[-2:-1] == [owner] for name in names)
                address = addresses.get(owner) if direct else None
            for number, name in enumerate(names):
                dataset = _find(place, name)
                if dataset is None:
                    raise ArtifactError(f"{artifact} is incomplete: it lacks {place.name}/{name}.")
                plain = name.removesuffix(":0")
                path = f"optimizer/{plain}" if owner == "optimizer" else plain
                tensors[f"{address}/vars/{number}" if address else path] = _describe(dataset)
    return tensors


def read_json(group: Group, artifact: Path, name: str) -> Config:
    """Reads one of our own records.

    Args:
        group: Our group.
        artifact: The path of the file, for errors.
        name: Of the record.

    Raises:
        ArtifactError: It is damaged.
    """
    try:
        content: Config = json.loads(read_bytes(group, artifact, name))
    except ValueError as error:
        raise ArtifactError(f"{artifact} is damaged: exporter/{name} is no JSON: {error}.") from error
    return content


def read_bytes(group: Group, artifact: Path, name: str) -> bytes:
    """Reads one of our own notes.

    Raises:
        ArtifactError: It is not there.
    """
    dataset = _find(group, name)
    if dataset is None:
        raise ArtifactError(f"{artifact} is incomplete: it lacks exporter/{name}.")
    return bytes(np.asarray(dataset[()], dtype=np.uint8).tobytes())


def _read_names(group: Group, attribute: str) -> list[str]:
    """Reads a list of names, which Keras splits into numbered attributes when it is long."""
    if attribute in group.attrs:
        chunks = [group.attrs[attribute]]
    else:
        numbers = range(len(group.attrs))
        chunks = [group.attrs[f"{attribute}{number}"] for number in numbers if f"{attribute}{number}" in group.attrs]
    return [name.decode() if isinstance(name, bytes) else str(name) for chunk in chunks for name in chunk]


def _walk(file: File) -> Iterator[tuple[str, Dataset]]:
    """Gives every dataset once; links into other files are not followed."""
    import h5py

    found: list[tuple[str, Dataset]] = []
    file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    for name, dataset in found:
        if _lies_inside(dataset):
            yield name, dataset


def _find(group: Group, path: str) -> Dataset | None:
    """Finds a dataset by hard links alone, so that nothing outside the file is read."""
    import h5py

    item = group.file if path.startswith("/") else group
    for part in path.strip("/").split("/"):
        if not isinstance(item, h5py.Group) or not isinstance(item.get(part, getlink=True), h5py.HardLink):
            return None
        item = item.get(part)
    return item if isinstance(item, h5py.Dataset) and _lies_inside(item) else None


def _lies_inside(dataset: Dataset) -> bool:
    return not dataset.external and not dataset.is_virtual


def _describe(dataset: Dataset, checksums: Checksums | None = None, path: str = "") -> StoredTensor:
    opaque = dataset.attrs.get("dtype")
    dtype = str(opaque) if isinstance(opaque, str) else dataset.dtype.name

    name = dataset.name

    def read() -> Array:
        # Ours are written as they are: one that unpacks to more is somebody else's, and may fill the memory.
        if checksums is not None and dataset.nbytes > dataset.id.get_storage_size():
            raise ArtifactError(f"{dataset.file.filename} is damaged at {name}: it claims more than is stored.")
        try:
            value = np.asarray(dataset[...])
            if checksums is not None:
                checksum = checksum_dataset(dataset, checksum_values(value))
                checksums.check_tensor(path.strip("/"), checksum, dataset.file.filename)
            return value.view(find_dtype(dtype)) if isinstance(opaque, str) else value
        except ArtifactError:
            raise
        except DAMAGE as error:
            raise ArtifactError(f"{dataset.file.filename} is damaged at {name}: {error}.") from error

    return StoredTensor(dtype, tuple(dataset.shape), int(dataset.id.get_storage_size()), read)


def _sort_key(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in path.split("/")]
