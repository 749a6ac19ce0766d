"""A save format for the tests of formats: NumPy's archive of arrays, and a document beside them. No pickle.

This module, and one line that puts its `FORMAT` among `exporter.saving.formats.FORMATS`, is all that a format takes.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter.errors import ArtifactError
from exporter.saving import formats
from exporter.saving.formats.format import Format
from exporter.saving.layout.checksums import FILE_FAULTS, Checksums, damage_explained
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.names import VERSIONS
from exporter.saving.safety.zip_members import open_archive, read_member

if TYPE_CHECKING:
    import keras

    from exporter.artifacts.inspection.artifacts import Artifact
    from exporter.saving.contents import Contents
    from exporter.saving.requests import LoadRequest, SaveRequest

_DOCUMENT, _CHECKSUMS = "model.json", "checksums.json"
_OWN_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")


class NpzFile(Format):
    """NumPy's archive of arrays."""

    def sniff(self, path: Path) -> bool:
        """Knows its own among the zips by its two documents."""
        if path.is_dir() or not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return {_DOCUMENT, _CHECKSUMS} <= set(archive.namelist())

    def explain_unheld(self, model: "keras.Model") -> str | None:
        """Refuses a model of which some values are no arrays of NumPy's own dtypes."""
        for layer in model._flatten_layers():
            if hasattr(layer, "save_assets"):
                return f"An npz file cannot hold the vocabulary of the layer {layer.name!r}: it holds arrays only."
        dtypes = sorted({variable.dtype for variable in model.variables} & set(_OWN_DTYPES))
        return f"An npz file cannot hold variables of {dtypes[0]}, which NumPy does not know." if dtypes else None

    def write(self, request: "SaveRequest") -> "Contents":
        """Writes the arrays one by one, and what makes a model of them."""
        from exporter.saving.formats.parts.contents import describe_contents
        from exporter.saving.rebuilding.record import describe_state
        from exporter.saving.state.collecting import collect, to_array

        state = collect(request.model, request.include_optimizer)
        notes = {name: note.decode() for name, note in request.notes.items()}
        record = json.loads(describe_state(request.model, state, request.include_optimizer).to_json())
        document = json.dumps({"config": request.config, "state": record, "notes": notes}).encode()
        checksums = Checksums()
        with zipfile.ZipFile(request.target, "x") as archive:
            for path, variable in state.variables.items():
                buffer = io.BytesIO()
                np.save(buffer, to_array(variable), allow_pickle=False)
                _add(archive, f"{path}.npy", checksums.add_part(path, buffer.getvalue()))
            _add(archive, _DOCUMENT, checksums.add_part(_DOCUMENT, document))
            _add(archive, _CHECKSUMS, checksums.to_json())
        return describe_contents(request, state, request.config or {}, ())

    def read(self, path: Path, request: "LoadRequest") -> "keras.Model":
        """Rebuilds the model as every other format does, from arrays that it reads for itself."""
        from exporter.saving.rebuilding.record import StateReader, StateRecord, revive_state
        from exporter.saving.safety.memory import limit_variables

        with open_archive(path) as (_, archive):
            document, checksums = _read_document(archive, path)
            record = StateRecord.from_json(json.dumps(document["state"]))

            def read_entries(address: str) -> dict[str, Any]:
                prefix = f"{address}/vars/" if address else "vars/"
                paths = [name for name in record.variables if name.startswith(prefix)]
                return {name.removeprefix(prefix): _read_array(archive, checksums, path, name) for name in paths}

            reader = StateReader(
                variable=partial(_read_array, archive, checksums, path),
                entries=read_entries,
                asset=lambda name: read_member(archive, name, path),
            )
            with limit_variables(path.stat().st_size if request.safe_mode else None):
                return revive_state(document["config"], record, reader, request)


FORMAT = NpzFile(
    name="npz",
    label="NumPy archive",
    noun="an npz file",
    suffixes=(".npz",),
    inspector=f"{__name__}:open_npz",
)


@contextmanager
def registered() -> Iterator[Format]:
    """Has the format among the others for a while: what its line does for good."""
    formats.FORMATS[FORMAT.name] = FORMAT
    try:
        yield FORMAT
    finally:
        del formats.FORMATS[FORMAT.name]


def open_npz(path: Path, stack: ExitStack) -> "Artifact":
    """Opens an artifact for an inspection."""
    from exporter.artifacts.inspection.artifacts import Artifact
    from exporter.artifacts.inspection.tensors import StoredTensor

    _, archive = stack.enter_context(open_archive(path))
    document, checksums = _read_document(archive, path)
    tensors = {
        name: StoredTensor(
            each["dtype"],
            tuple(each["shape"]),
            archive.getinfo(f"{name}.npy").file_size,
            partial(_read_array, archive, checksums, path, name),
        )
        for name, each in document["state"]["variables"].items()
    }
    versions = json.loads(document["notes"].get(VERSIONS, "{}"))
    config = document["config"]
    return Artifact(
        path=path,
        format=FORMAT.name,
        writer="exporter",
        config=config,
        compile_config=config.get("compile_config"),
        record=document["state"],
        tensors=tensors,
        versions=versions,
        shards=1,
    )


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), content)


def _read_document(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, Any], Checksums]:
    checksums = Checksums.from_json(read_member(archive, _CHECKSUMS, path), path)
    text = checksums.check_part(_DOCUMENT, read_member(archive, _DOCUMENT, path), path)
    document = parse_json(text, f"{path}, {_DOCUMENT}")
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} is damaged: its document is no mapping.")
    return document, checksums


def _read_array(archive: zipfile.ZipFile, checksums: Checksums, place: Path, path: str) -> Any:
    content = checksums.check_part(path, read_member(archive, f"{path}.npy", place), place)
    with damage_explained(place, path, FILE_FAULTS):
        return np.load(io.BytesIO(content), allow_pickle=False)
