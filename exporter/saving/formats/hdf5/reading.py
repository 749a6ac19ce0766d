"""A model or its weights from an HDF5 file that we or Keras wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import h5py
import numpy as np

from exporter.errors import ArtifactError
from exporter.saving.formats.hdf5.names import CHECKSUMS, LEGACY, OURS
from exporter.saving.formats.hdf5.stock import read_stock
from exporter.saving.formats.parts.weights_file import StoredArrays, find_dataset
from exporter.saving.layout.checksums import Checksums, damage_explained
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.layout.structure import check_footer
from exporter.saving.rebuilding.record import StateReader, StateRecord, revive_state
from exporter.saving.requests import LoadRequest
from exporter.saving.safety.hdf5_objects import check_hdf5
from exporter.saving.safety.memory import limit_variables
from exporter.saving.state.collecting import Array
from exporter.typing.hdf5 import File, Group
from exporter.typing.keras import Model
from exporter.typing.structures import Config


def _read_bytes(group: Group, name: str, place: Path | str) -> bytes:
    with damage_explained(place, name):
        return bytes(np.asarray(find_dataset(group, name, place)[()], dtype=np.uint8).tobytes())


def read_hdf5(
    source: Path | h5py.File,
    request: LoadRequest,
) -> Model:
    """Loads an HDF5 file that we or Keras wrote; see `exporter.load_model`."""
    if isinstance(source, h5py.File):
        return _read_open_hdf5(source, source.filename, request)
    with _open_hdf5(source) as file:
        return _read_open_hdf5(file, source, request)


@contextmanager
def open_hdf5_weights(path: Path) -> Iterator[StoredArrays]:
    """Opens and checks an HDF5 file that holds a model or only weights, whoever wrote it.

    Args:
        path: The file, of any name.

    Raises:
        ArtifactError: It is damaged or refused.
    """
    with _open_hdf5(path) as file:
        check_hdf5(file, path)
        with damage_explained(path):
            is_ours = OURS in file.attrs
        yield StoredArrays(file, _read_checksums(file, path)[0] if is_ours else None, path)


@contextmanager
def _open_hdf5(path: Path) -> Iterator[File]:
    """Opens a file whose structure is held against its checksum first, if it has one."""
    with path.open("rb") as content:
        is_whole = check_footer(content, path)
        with damage_explained(path):
            file = h5py.File(content, "r")
        with file:
            with damage_explained(path):
                is_ours = OURS in file.attrs
            if is_ours and not is_whole:
                raise ArtifactError(f"{path} is damaged or incomplete: the checksum behind its end is cut off.")
            yield file


def _read_open_hdf5(
    file: File,
    place: Path | str,
    request: LoadRequest,
) -> Model:
    stored = check_hdf5(file, place, (*LEGACY, OURS))  # a caller's own file may hold other things
    with damage_explained(place):
        is_ours = OURS in file or OURS in file.attrs
    with limit_variables(stored if request.safe_mode else None):
        if is_ours:
            return _read_ours(file, place, request)
        return read_stock(file, place, request)


def _read_checksums(file: File, place: Path | str) -> tuple[Checksums, Group]:
    """Reads the checksums of a file of ours, and returns the group in which they are."""
    with damage_explained(place):
        ours = file.get(OURS)
    if not isinstance(ours, h5py.Group):
        raise ArtifactError(f"{place} lacks {OURS!r}: the file is incomplete.")
    return Checksums.from_json(_read_bytes(ours, CHECKSUMS, place), place), ours


def _read_ours(
    file: File,
    place: Path | str,
    request: LoadRequest,
) -> Model:
    checksums, ours = _read_checksums(file, place)

    def read_part(name: str) -> bytes:
        return checksums.check_part(name, _read_bytes(ours, name, place), place)

    arrays = StoredArrays(file, checksums, place)
    try:
        index = read_record(dict[str, str], parse_json(read_part("index"), f"The index of {place}"))
    except RecordError as error:
        raise ArtifactError(f"{place} cannot be read at 'index': {error}. It is damaged or incomplete.") from error
    addresses: dict[str, dict[str, str]] = {}
    for path, name in index.items():
        address, _, key = path.rpartition("vars/")
        addresses.setdefault(address.rstrip("/"), {})[key] = name

    def read(path: str) -> Array:
        if path not in index:
            raise ArtifactError(f"{place} holds no value for the variable {path!r}: the file is incomplete.")
        return arrays.read(index[path])

    reader = StateReader(
        variable=read,
        entries=lambda address: {key: arrays.read(name) for key, name in addresses.get(address, {}).items()},
        asset=lambda name: read_part(f"assets/{name}"),
    )
    record = StateRecord.from_json(read_part("state"))
    config = parse_json(read_part("config"), f"The configuration of {place}")
    return revive_state(cast(Config, config), record, reader, request)  # it refuses what is no mapping
