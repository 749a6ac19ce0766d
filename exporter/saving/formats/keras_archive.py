"""The native Keras archive (`.keras`): a zip, or the same files in a directory.

Stock Keras opens it. What Keras does not keep stands in the same weights file, at addresses that Keras does not
look at, and is described under the key `exporter` of `metadata.json`: a member of its own would make Keras unpack
the whole archive into a temporary directory when it loads.
"""

import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import h5py
import keras

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import keras_explained
from exporter.saving.contents import Contents
from exporter.saving.formats.parts.contents import describe_contents
from exporter.saving.formats.parts.old_archives import modernize_path, read_keras_2, scale_loss
from exporter.saving.formats.parts.weights_file import Entries, StoredArrays, load_as_keras, write_weights
from exporter.saving.layout.checksums import FILE_FAULTS, Checksums, damage_explained
from exporter.saving.layout.datasets import BUFFER, lay_out_file
from exporter.saving.layout.documents import check_length, parse_json
from exporter.saving.layout.names import ASSETS, CONFIG, METADATA, WEIGHTS
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.private_api import DiskIOStore, ObjectSharingScope
from exporter.saving.rebuilding.deferral import defer_initialization
from exporter.saving.rebuilding.model_configuration import count_layers
from exporter.saving.rebuilding.record import StateReader, StateRecord, describe_state, read_assets, revive_state
from exporter.saving.requests import LoadRequest, SaveRequest
from exporter.saving.safety.files import check_directory
from exporter.saving.safety.hdf5_objects import check_hdf5
from exporter.saving.safety.memory import limit_variables
from exporter.saving.safety.zip_members import open_archive, open_member, read_member
from exporter.saving.state.collecting import collect
from exporter.saving.state.replicas import add_replicas
from exporter.typing.hdf5 import File
from exporter.typing.keras import Model
from exporter.typing.structures import Config

_STATE = "state"  # the record, inside of the metadata

# The first moment that a zip can name; without a date of the caller's the same model gives the same bytes.
_ZIP_EPOCH = 315532800


def write_keras_archive(request: SaveRequest) -> Contents:
    """Writes a `.keras` zip."""
    model, config = request.model, request.config or {}
    state = add_replicas(collect(model, request.include_optimizer))
    assets = read_assets(state)
    parts = {f"{ASSETS}/{name}": content for name, content in assets.items()}
    parts[CONFIG] = json.dumps(config).encode()
    record = describe_state(model, state, request.include_optimizer, tuple(assets))
    with lay_out_file() as layout:
        write_weights(layout, state)
        for name, content in parts.items():
            layout.checksums.add_part(name, content)
        layout.checksums.structure = layout.close()
        with request.target.open("xb", buffering=BUFFER) as file, zipfile.ZipFile(file, "w") as archive:
            _add(archive, METADATA, write_metadata(record, request.notes, layout.checksums))
            _add(archive, CONFIG, parts.pop(CONFIG))
            member = _describe_member(WEIGHTS)
            member.file_size = layout.checksums.structure.size
            with archive.open(member, "w") as weights:
                layout.write(weights)
            for name, content in parts.items():
                _add(archive, name, content)
    return describe_contents(request, state, config, tuple(assets))


def write_metadata(record: StateRecord, notes: Mapping[str, bytes], checksums: Checksums) -> bytes:
    """Returns `metadata.json`: Keras's own keys, and ours under `exporter`.

    Args:
        record: What is known of the state.
        notes: Files that are kept inside, by name.
        checksums: Those of the archive; that of the record is added.
    """
    date = time.strftime("%Y-%m-%d@%H:%M:%S", time.gmtime(_source_date()))
    state = json.loads(record.to_json())
    checksums.add_part(_STATE, json.dumps(state).encode())
    ours = {
        "state": state,
        "notes": {name: text.decode() for name, text in notes.items()},
        "checksums": checksums.to_json().decode(),
    }
    return json.dumps({"keras_version": keras.__version__, "date_saved": date, "exporter": ours}).encode()


def _source_date() -> int:
    """Returns the date inside the archive, in seconds since 1970 (https://reproducible-builds.org)."""
    return max(int(os.environ.get("SOURCE_DATE_EPOCH", _ZIP_EPOCH)), _ZIP_EPOCH)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_describe_member(name), content)


def _describe_member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, time.gmtime(_source_date())[:6])
    member.external_attr = 0o644 << 16
    return member


def read_keras_archive(
    path: Path,
    request: LoadRequest,
) -> Model:
    """Loads a `.keras` zip that we or Keras wrote; see `exporter.load_model`."""
    with _open_parts(path) as parts:
        return _read(parts, None, request)


@contextmanager
def open_archived_weights(path: Path) -> Iterator[StoredArrays]:
    """Opens and checks the weights of a `.keras` zip that we or Keras wrote.

    Args:
        path: The zip, of any name.

    Raises:
        ArtifactError: It is damaged or refused.
    """
    with _open_parts(path) as parts:
        known = _read_known(parts)
        with _open_weights(parts, known) as file:
            check_hdf5(file, path)
            yield StoredArrays(file, None if known is None else known[1], path)


@contextmanager
def _open_parts(path: Path) -> Iterator["_Parts"]:
    with ExitStack() as stack:
        file, archive = stack.enter_context(open_archive(path))
        names = archive.namelist()
        missing = {CONFIG, METADATA, WEIGHTS} - set(names)
        if missing:
            raise ArtifactError(f"{path} is not a whole .keras archive: it lacks {', '.join(sorted(missing))}.")
        with damage_explained(path, WEIGHTS, FILE_FAULTS):
            weights = stack.enter_context(open_member(file, archive, WEIGHTS))
        assets = [name.removeprefix(f"{ASSETS}/") for name in names if name.startswith(f"{ASSETS}/")]
        yield _Parts(path, lambda name: read_member(archive, name, path), weights, [name for name in assets if name])


def read_keras_directory(
    path: Path,
    request: LoadRequest,
    known: tuple[StateRecord, Checksums] | None = None,
) -> Model:
    """Loads an unzipped archive; with a record of its state, given or in its metadata, exactly."""
    check_directory(path)

    def read(name: str) -> bytes:
        with damage_explained(path, name, FILE_FAULTS), (path / name).open("rb") as file:
            if name.endswith(".json"):
                check_length(os.fstat(file.fileno()).st_size, f"{path}, {name}")
            return file.read()

    folder = path / ASSETS
    assets = [entry.relative_to(folder).as_posix() for entry in folder.rglob("*") if entry.is_file()]
    with ExitStack() as stack:
        with damage_explained(path, WEIGHTS, FILE_FAULTS):
            weights = stack.enter_context((path / WEIGHTS).open("rb"))
        return _read(_Parts(path, read, weights, assets), known, request)


@dataclass(frozen=True, slots=True)
class _Parts:
    """An archive or a directory, open.

    Attributes:
        path: It, for errors.
        read: Reads a part by its name.
        weights: The HDF5 file.
        assets: The names of the files of layers.
    """

    path: Path
    read: Callable[[str], bytes]
    weights: IO[bytes]
    assets: Sequence[str]


def _read(
    parts: _Parts,
    known: tuple[StateRecord, Checksums] | None,
    request: LoadRequest,
) -> Model:
    path, read = parts.path, parts.read
    config = read(CONFIG)
    if known is None:
        known = _read_known(parts)
    with ExitStack() as stack:
        file = stack.enter_context(_open_weights(parts, known))
        stored = check_hdf5(file, path)
        stack.enter_context(limit_variables(stored if request.safe_mode else None))
        if known is None:
            body = parse_json(config, f"{path}, {CONFIG}")
            if not isinstance(body, dict):
                raise ArtifactError(f"{path}, {CONFIG} is damaged: expected a mapping, received {type(body).__name__}.")
            if not request.compile:
                body["compile_config"] = None
            version = _read_version(parts)
            if version.startswith("2"):
                with _open_assets(parts) as assets:
                    return read_keras_2(body, version, file, assets, path, request)
            scale_loss(body, file)
            request.check(body)
            return _read_stock(parts, body, file, request)
        record, checksums = known
        arrays = StoredArrays(file, checksums, path)
        reader = StateReader(
            variable=arrays.read,
            entries=lambda address: Entries(arrays, address),
            asset=lambda name: checksums.check_part(f"{ASSETS}/{name}", read(f"{ASSETS}/{name}"), path),
        )
        body = parse_json(checksums.check_part(CONFIG, config, path), f"{path}, {CONFIG}")
        return revive_state(cast(Config, body), record, reader, request)  # it refuses what is no mapping


def _read_known(parts: _Parts) -> tuple[StateRecord, Checksums] | None:
    """Reads what we know of the state; None if Keras wrote the archive."""
    metadata = parse_json(parts.read(METADATA), f"{parts.path}, {METADATA}")
    ours = metadata.get("exporter") if isinstance(metadata, dict) else None
    return _read_record(ours, parts.path) if ours is not None else None


@contextmanager
def _open_weights(parts: _Parts, known: tuple[StateRecord, Checksums] | None) -> Iterator[File]:
    """Opens the HDF5 file, whose structure is held against its checksum first, if it has one."""
    if known is not None:
        with damage_explained(parts.path, WEIGHTS, FILE_FAULTS):
            known[1].check_structure(parts.weights, parts.path)
    with damage_explained(parts.path, WEIGHTS):
        file = h5py.File(parts.weights, "r")
    with file:
        yield file


def _read_record(ours: object, path: Path) -> tuple[StateRecord, Checksums]:
    try:
        fields = read_record(_Metadata, ours)
    except RecordError as error:
        raise ArtifactError(f"{path} cannot be read at {METADATA!r}: {error}. It is damaged or incomplete.") from error
    checksums = Checksums.from_json(fields.checksums, path)
    state = json.dumps(fields.state).encode()
    return StateRecord.from_json(checksums.check_part(_STATE, state, path)), checksums


@dataclass(frozen=True, slots=True)
class _Metadata:
    """What we keep in Keras's metadata."""

    checksums: str
    state: Mapping[str, Any]


def _read_version(parts: _Parts) -> str:
    """Reads the version of Keras that wrote an archive."""
    metadata = parse_json(parts.read(METADATA), f"{parts.path}, {METADATA}")
    return str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""


@contextmanager
def _open_assets(parts: _Parts) -> Iterator[DiskIOStore | None]:
    """Lays the files of layers out in a directory, from which Keras reads them."""
    if not parts.assets:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="exporter-") as directory:
        for name in parts.assets:
            place = Path(directory, modernize_path(name))
            if name.endswith("/"):
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(parts.read(f"{ASSETS}/{name}"))
        yield DiskIOStore(directory, mode="r")


def _read_stock(
    parts: _Parts,
    config: Config,
    file: File,
    request: LoadRequest,
) -> Model:
    """Does what Keras does with an archive, with what was read and checked in place of the path."""
    with _open_assets(parts) as assets, keras_explained(parts.path):
        with ObjectSharingScope(), defer_initialization(count_layers(config)):
            model = request.deserialize(config)
        load_as_keras(model, file, assets)
    if not isinstance(model, keras.Model):
        raise ArtifactError(f"{parts.path} holds a {type(model).__name__}, not a keras.Model.")
    loaded: Model = model
    return loaded
