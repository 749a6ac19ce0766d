"""The native Keras archive (`.keras`): a zip, or the same files in a directory.

Stock Keras opens it. What Keras does not keep stands in the same weights file, at addresses that Keras does not
look at, and is described under the key `exporter` of `metadata.json`: a member of its own would make Keras unpack
the whole archive into a temporary directory when it loads.
"""

import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
from keras.src.saving import saving_lib

from exporter.errors import ArtifactError
from exporter.saving.contents import Contents
from exporter.saving.holdings import describe_holdings
from exporter.saving.record import StateReader, StateRecord, describe_state, revive_state, save_assets
from exporter.saving.state import collect
from exporter.saving.topology import Config, serialize_model
from exporter.saving.weights_file import Entries, create_file, read_variable, write_weights
from exporter.saving.zip_members import open_member

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"

# The first moment that a zip can name; without a date of the caller's the same model gives the same bytes.
_ZIP_EPOCH = 315532800


def check_keras_archive_holds(model: keras.Model, include_optimizer: bool = True) -> None:
    """Raises ModelError if the model has no configuration to write."""
    serialize_model(model, include_optimizer)


def write_keras_archive(
    model: keras.Model, staged: Path, include_optimizer: bool, notes: Mapping[str, bytes]
) -> Contents:
    """Writes a `.keras` zip.

    Args:
        model: A built model.
        staged: The path to write.
        include_optimizer: Whether the optimizer and the compile configuration are saved.
        notes: Files that are kept inside, by name.

    Returns:
        What was written.

    Raises:
        ModelError: The model has no configuration.
    """
    config = serialize_model(model, include_optimizer)
    state = collect(model, include_optimizer)
    with tempfile.TemporaryDirectory(prefix=f"{staged.name}-", dir=staged.parent) as scratch:
        weights = Path(scratch, WEIGHTS)
        with create_file(weights) as file:
            write_weights(file, state)
        assets_directory = Path(scratch, ASSETS)
        assets = save_assets(state, assets_directory)
        record = describe_state(model, state, include_optimizer, assets)
        with zipfile.ZipFile(staged, "w") as archive:
            _add(archive, METADATA, write_metadata(record, notes))
            _add(archive, CONFIG, json.dumps(config).encode())
            _add(archive, WEIGHTS, weights)
            for name in assets:
                _add(archive, f"{ASSETS}/{name}", assets_directory / name)
    return Contents(*describe_holdings(model, state, config, assets), signatures={})


def write_metadata(record: StateRecord, notes: Mapping[str, bytes]) -> bytes:
    """Returns `metadata.json`: Keras's own keys, and ours under `exporter`."""
    date = time.strftime("%Y-%m-%d@%H:%M:%S", time.gmtime(_source_date()))
    ours = {"state": json.loads(record.to_json()), "notes": {name: text.decode() for name, text in notes.items()}}
    return json.dumps({"keras_version": keras.__version__, "date_saved": date, "exporter": ours}).encode()


def _source_date() -> int:
    """Returns the date inside the archive, in seconds since 1970 (https://reproducible-builds.org)."""
    return max(int(os.environ.get("SOURCE_DATE_EPOCH", _ZIP_EPOCH)), _ZIP_EPOCH)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    member = zipfile.ZipInfo(name, time.gmtime(_source_date())[:6])
    member.external_attr = 0o644 << 16
    if isinstance(content, bytes):
        archive.writestr(member, content)
        return
    member.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(member, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def read_keras_archive(
    path: Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads a `.keras` zip that we or Keras wrote; see `exporter.load_model`."""
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_bombs(path, archive)
            names = set(archive.namelist())
            missing = {CONFIG, METADATA, WEIGHTS} - names
            if missing:
                raise ArtifactError(f"{path} is not a whole .keras archive: it lacks {', '.join(sorted(missing))}.")
            metadata = json.loads(archive.read(METADATA))
            if "exporter" not in metadata:
                return _read_stock(path, custom_objects, compile, safe_mode)
            # Members are stored, not compressed, so HDF5 reads them in place.
            with open_member(path, archive, WEIGHTS) as stream, h5py.File(stream, "r") as file:
                return _revive(
                    json.loads(archive.read(CONFIG)),
                    StateRecord.from_json(json.dumps(metadata["exporter"]["state"])),
                    file,
                    lambda name: archive.read(f"{ASSETS}/{name}"),
                    custom_objects,
                    compile,
                    safe_mode,
                )
    except (zipfile.BadZipFile, json.JSONDecodeError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. The file is damaged or incomplete.") from error


def _refuse_bombs(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuses members that unpack to far more than the archive stores, by the limits of Keras itself."""
    try:
        for name in archive.namelist():
            saving_lib._reject_zip_bomb(archive, name)
        saving_lib._reject_zip_extract_bomb(archive)
    except ValueError as error:
        raise ArtifactError(f"{path} is refused: {error}") from error


def read_keras_directory(
    path: Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    record: StateRecord | None = None,
) -> keras.Model:
    """Loads an unzipped archive; with a record of its state, given or in its metadata, exactly."""
    if record is None:
        ours = _read_json(path / METADATA).get("exporter") if (path / METADATA).is_file() else None
        if ours is None:
            return _read_stock(path, custom_objects, compile, safe_mode)
        record = StateRecord.from_json(json.dumps(ours["state"]))
    config = _read_json(path / CONFIG)
    with h5py.File(path / WEIGHTS, "r") as file:
        return _revive(
            config,
            record,
            file,
            lambda name: (path / ASSETS / name).read_bytes(),
            custom_objects,
            compile,
            safe_mode,
        )


def _read_json(path: Path) -> Config:
    try:
        content: Config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. The file is damaged or incomplete.") from error
    return content


def _revive(
    config: Config,
    record: StateRecord,
    file: h5py.File,
    read_asset: Callable[[str], bytes],
    custom_objects: Mapping[str, Any] | None,
    compiled: bool,
    safe_mode: bool,
) -> keras.Model:
    reader = StateReader(
        variable=lambda name: read_variable(file, name),
        entries=lambda address: Entries(file, address),
        asset=read_asset,
    )
    return revive_state(config, record, reader, custom_objects, compiled, safe_mode)


def _read_stock(path: Path, custom_objects: Mapping[str, Any] | None, compiled: bool, safe_mode: bool) -> keras.Model:
    try:
        return keras.models.load_model(path, custom_objects=custom_objects, compile=compiled, safe_mode=safe_mode)
    except (TypeError, ValueError, KeyError, OSError) as error:
        raise ArtifactError(f"Keras cannot load {path}: {error}") from error
