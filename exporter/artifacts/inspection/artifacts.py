"""An artifact of any of the formats, opened without TensorFlow and Keras."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from exporter.artifacts.inspection.configurations import list_layers
from exporter.artifacts.inspection.graphs import Graph, read_graph, read_keras_2_config
from exporter.artifacts.inspection.tensors import DAMAGE, StoredTensor, read_checkpoint
from exporter.artifacts.numbered_versions import find_newest
from exporter.artifacts.records import Input
from exporter.errors import ArtifactError, ExporterError, MissingDependencyError
from exporter.saving.compatibility.history import name_oldest_keras
from exporter.saving.formats import FORMATS, find_format, join_nouns
from exporter.saving.layout.checksums import Checksums
from exporter.saving.layout.documents import check_length, parse_json, parse_recipe
from exporter.saving.layout.names import (
    ASSETS,
    CHECKSUMS,
    CONFIG,
    DEBUG_INFO,
    FUNCTIONS,
    GRAPH,
    INPUTS,
    KERAS_2_METADATA,
    METADATA,
    OURS,
    OWN_CONFIG,
    RECIPE,
    SHARDS,
    STATE,
    VERSIONS,
    WEIGHTS,
)
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.layout.structure import check_footer
from exporter.saving.safety.files import check_directory
from exporter.saving.safety.zip_members import open_archive, open_member, read_member
from exporter.saving.state.kinds import is_below

Config = dict[str, Any]

_TABLES = "exporter/tables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What an artifact holds; its tensors can be read while it is open.

    Attributes:
        path: Where it is.
        format: `tf`, `h5` or `keras`; `directory` for an unzipped Keras archive, `weights` for weights alone.
        writer: The software that wrote it.
        config: The model's configuration; None if there is none.
        compile_config: The compile configuration: `optimizer`, `loss`, `metrics`; None if there is none.
        record: Our record of the state; None if somebody else wrote it.
        optimizers: The addresses of the optimizers, as our record has them.
        functions: Our record of the functions that live on without their code; None if there are none.
        tensors: Every tensor by path: that of the state where the artifact tells it.
        graph: What TensorFlow or another runtime runs; None if there is none.
        assets: The files beside the variables, such as vocabularies and the entries of tables: name -> content, read
            when it is asked for.
        tables: The lookup tables of the state, by path.
        versions: Of the software that wrote it, by name.
        recipe: Of the export, if it was one.
        inputs: The files that the recipe read.
        computation: In which numbers it computes, where it holds what endpoints compute and not the model; else empty.
        has_twin: Whether stock Keras opens it.
        has_debug_info: Whether the graph's debug information is kept.
        shards: How many data files the variables lie in.
    """

    path: Path
    format: str
    writer: str
    config: Config | None = None
    compile_config: Config | None = None
    record: Config | None = None
    optimizers: tuple[str, ...] = ()
    functions: Config | None = None
    tensors: Mapping[str, StoredTensor] = field(default_factory=dict)
    graph: Graph | None = None
    assets: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    tables: Mapping[str, "StoredTable"] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    recipe: Config | None = None
    inputs: tuple[Input, ...] = ()
    computation: str = ""
    has_twin: bool = False
    has_debug_info: bool = False
    shards: int = 0


@contextmanager
def open_artifact(path: Path) -> Iterator[Artifact]:
    """Opens an artifact that we, Keras or TensorFlow wrote.

    Args:
        path: A SavedModel directory, an HDF5 file, a `.keras` archive, or a directory that one was unzipped to.

    Yields:
        What it holds.

    Raises:
        ArtifactError: There is nothing, or something else, or it is damaged.
    """
    with ExitStack() as stack:
        try:
            artifact = _check_record(_open(path, stack))
        except ExporterError:
            raise
        except DAMAGE as error:
            raise ArtifactError(f"{path} cannot be read: {error}. The artifact is damaged or incomplete.") from error
        yield artifact


def _open(path: Path, stack: ExitStack) -> Artifact:
    if not path.exists():
        kinds = join_nouns(each.noun for each in FORMATS.values())
        raise ArtifactError(f"There is no {path}. Give the path of {kinds}.")
    found = find_format(path)
    if found is not None:
        artifact: Artifact = found.inspect(path, stack)
        return artifact
    if path.is_dir():
        raise _explain_directory(path)
    raise ArtifactError(
        f"{path} is no artifact: it begins neither like an HDF5 file nor like a zip. It is damaged, or something else."
    )


def _explain_directory(path: Path) -> ArtifactError:
    """Says what a directory is that is no artifact."""
    newest = find_newest(path)
    if newest is not None:
        return ArtifactError(f"{path} is a directory of versions; give one of them, such as {newest}.")
    kinds = join_nouns(f"{each.noun}{' directory' * each.is_directory}" for each in FORMATS.values())
    return ArtifactError(f"{path} is no artifact: it has no {GRAPH}. Expected {kinds}.")


def open_saved_model(path: Path, stack: ExitStack) -> Artifact:
    """Opens a SavedModel of any writer."""
    check_directory(path)
    graph = read_graph(path / GRAPH)
    record = _read_json(path / STATE)
    if record is not None:
        check_parts(path, ".json")
    config = _read_json(path / CONFIG) or _read_json(path / OWN_CONFIG)
    versions = _read_json(path / OURS / VERSIONS) or {}
    functions = _read_json(path / FUNCTIONS)
    compile_config = (config or {}).get("compile_config") or (functions or {}).get("compile_config")
    tensors = read_checkpoint(path)
    by_tensorflow = f"TensorFlow {graph.tensorflow_version}"
    if record is not None:
        writer = _name_exporter(versions)
    elif (path / KERAS_2_METADATA).is_file():
        writer = f"Keras 2 with {by_tensorflow}"
        config = read_keras_2_config(path / KERAS_2_METADATA)
        compile_config = _translate_training((config or {}).get("training_config"))
    elif any(name.startswith("_all_variables/") for name in tensors):
        writer = f"Keras 3 (model.export) with {by_tensorflow}"
    else:
        writer = by_tensorflow
    metadata = _read_json(path / METADATA) or {}
    return Artifact(
        path=path,
        format="tf",
        writer=writer,
        config=config,
        compile_config=compile_config,
        record=record,
        functions=functions,
        tensors=tensors,
        graph=graph,
        assets=_list_assets(path, graph),
        versions=versions or _list_versions(tensorflow=graph.tensorflow_version, keras=metadata.get("keras_version")),
        recipe=_read_recipe(path / OURS / RECIPE),
        inputs=_read_inputs(path / OURS / INPUTS),
        has_twin=(path / CONFIG).is_file() and (path / WEIGHTS).is_file(),
        has_debug_info=(path / DEBUG_INFO).is_file(),
        shards=len(list(path.glob(SHARDS))),
    )


def check_parts(path: Path, suffix: str = "") -> None:
    """Holds the parts of a SavedModel of ours against their checksums.

    Args:
        path: The directory.
        suffix: Of the parts that are read; empty for all that are files.
    """
    place = path / CHECKSUMS
    if not place.is_file():
        raise ArtifactError(f"{path} is incomplete: it lacks {place.relative_to(path)}.")
    checksums = Checksums.from_json(place.read_bytes(), path)
    for name in checksums.parts:
        is_file = "." in name or "/" in name  # else it lies in one of them
        if is_file and name.endswith(suffix):
            checksums.check_part(name, (path / name).read_bytes(), path)


def _read_checksums(ours: Config, path: Path) -> Checksums:
    checksums = Checksums.from_json(ours["checksums"].encode(), path)
    checksums.check_part("state", json.dumps(ours["state"]).encode(), path)
    return checksums


def open_archive_or_directory(path: Path, stack: ExitStack) -> Artifact:
    """Opens a Keras archive, or a directory that one was unzipped to."""
    if not path.is_dir():
        return _open_archive(path, stack)
    if not (path / WEIGHTS).is_file():
        raise _explain_directory(path)
    check_directory(path)
    return _open_directory(path, stack)


def _open_directory(path: Path, stack: ExitStack) -> Artifact:
    metadata = _read_json(path / METADATA) or {}
    weights = stack.enter_context((path / WEIGHTS).open("rb"))
    config = _read_json(path / CONFIG) or {}
    return _describe_native(path, "directory", metadata, config, weights, _list_files(path), stack)


def _open_archive(path: Path, stack: ExitStack) -> Artifact:
    file, archive = stack.enter_context(open_archive(path))
    missing = {CONFIG, METADATA, WEIGHTS} - set(archive.namelist())
    if missing:
        raise ArtifactError(f"{path} is not a whole .keras archive: it lacks {', '.join(sorted(missing))}.")
    metadata = _parse_json(read_member(archive, METADATA, path), f"{path}, {METADATA}")
    config = _parse_json(read_member(archive, CONFIG, path), f"{path}, {CONFIG}")
    names = [name for name in archive.namelist() if name.startswith(f"{ASSETS}/") and not name.endswith("/")]
    assets = {name.removeprefix(f"{ASSETS}/"): partial(read_member, archive, name, path) for name in names}
    weights = stack.enter_context(open_member(file, archive, WEIGHTS))
    return _describe_native(path, "keras", metadata, config, weights, assets, stack)


def _describe_native(
    path: Path,
    kind: str,
    metadata: Config,
    config: Config,
    weights: IO[bytes],
    assets: Mapping[str, Callable[[], bytes]],
    stack: ExitStack,
) -> Artifact:
    from exporter.artifacts.inspection.hdf5_tensors import list_recorded, list_weights
    from exporter.saving.safety.hdf5_objects import check_hdf5

    ours = metadata.get("exporter")
    record = ours.get("state") if isinstance(ours, dict) else None
    checksums = _read_checksums(ours, path) if ours and record else None
    if checksums is not None:
        checksums.check_structure(weights, path)
    file = stack.enter_context(_open_h5py(weights, path))
    check_hdf5(file, path)
    notes = ours.get("notes", {}) if isinstance(ours, dict) else {}
    versions = _parse_json(notes[VERSIONS], f"{path}, {VERSIONS}") if VERSIONS in notes else {}
    keras_version = str(metadata.get("keras_version", ""))
    return Artifact(
        path=path,
        format=kind,
        writer=_name_exporter(versions) if ours else _name_keras(keras_version),
        config=config,
        compile_config=config.get("compile_config"),
        record=record,
        tensors=list_weights(file) if checksums is None else list_recorded(file, path, record or {}, checksums),
        assets=assets,
        versions=versions or _list_versions(keras=keras_version),
        recipe=parse_recipe_note(notes.get(RECIPE), path),
        inputs=parse_inputs(notes.get(INPUTS), path),
        has_twin=True,
        shards=1,
    )


def open_hdf5(path: Path, stack: ExitStack) -> Artifact:
    """Opens an HDF5 file of a model or of weights alone."""
    from exporter.artifacts.inspection import hdf5_tensors
    from exporter.saving.safety.hdf5_objects import check_hdf5

    content = stack.enter_context(path.open("rb"))
    is_whole = check_footer(content, path)
    file = stack.enter_context(_open_h5py(content, path))
    check_hdf5(file, path)
    if not is_whole and "exporter" in file:
        raise ArtifactError(f"{path} is damaged or incomplete: the checksum behind its end is cut off.")
    if "model_config" not in file.attrs:
        tensors = hdf5_tensors.list_weights(file)
        if not tensors:
            raise ArtifactError(f"{path} is an HDF5 file without a model and without weights.")
        return Artifact(path=path, format="weights", writer="Keras", tensors=tensors, shards=1)
    keras_version = str(file.attrs.get("keras_version", ""))
    config = _parse_json(file.attrs["model_config"], f"{path}, model_config")
    training = None
    if "training_config" in file.attrs:
        training = _parse_json(file.attrs["training_config"], f"{path}, training_config")
    if "exporter" not in file:
        addresses = {layer.name: layer.address for layer in list_layers(config)}
        return Artifact(
            path=path,
            format="h5",
            writer=_name_keras(keras_version),
            config=config,
            compile_config=_translate_training(training),
            tensors=hdf5_tensors.list_legacy(file, path, addresses),
            versions=_list_versions(keras=keras_version),
            has_twin=True,
            shards=1,
        )
    return _describe_ours(file, path, keras_version)


def _describe_ours(file: Any, path: Path, keras_version: str) -> Artifact:
    from exporter.artifacts.inspection import hdf5_tensors

    ours = file["exporter"]
    checksums = Checksums.from_json(hdf5_tensors.read_bytes(ours, path, "checksums"), path)
    for name in ("state", "config", "index"):
        checksums.check_part(name, hdf5_tensors.read_bytes(ours, path, name), path)
    record = hdf5_tensors.read_json(ours, path, "state")
    config = hdf5_tensors.read_json(ours, path, "config")
    notes = ours.get("notes", {})
    versions = hdf5_tensors.read_json(ours, path, f"notes/{VERSIONS}") if VERSIONS in notes else {}
    recipe = hdf5_tensors.read_bytes(ours, path, f"notes/{RECIPE}") if RECIPE in notes else None
    inputs = hdf5_tensors.read_bytes(ours, path, f"notes/{INPUTS}") if INPUTS in notes else None
    return Artifact(
        path=path,
        format="h5",
        writer=_name_exporter(versions),
        config=config,
        compile_config=config.get("compile_config"),
        record=record,
        tensors=hdf5_tensors.list_recorded(file, path, record, checksums, hdf5_tensors.read_json(ours, path, "index")),
        assets={
            name: partial(hdf5_tensors.read_bytes, ours, path, f"{ASSETS}/{name}") for name in record.get("assets", ())
        },
        versions=versions or _list_versions(keras=keras_version),
        recipe=parse_recipe_note(recipe, path),
        inputs=parse_inputs(inputs, path),
        has_twin=True,
        shards=1,
    )


def _check_record(artifact: Artifact) -> Artifact:
    """Checks our record of the state, and adds what it knows of the tensors."""
    if artifact.record is None:
        return artifact
    try:
        record = read_record(_Record, artifact.record)
    except RecordError as error:
        raise ArtifactError(f"{artifact.path} is damaged: its state record cannot be read: {error}.") from error
    variables = record.variables
    missing = [path for path in variables if path not in artifact.tensors]
    if missing:
        raise ArtifactError(f"{artifact.path} is incomplete: it lacks {missing[0]!r}, which its record names.")
    # TensorFlow's copy of the tables' entries; ours are files.
    tensors = {path: each for path, each in artifact.tensors.items() if not is_below(path, [_TABLES])}
    for path, item in variables.items():
        tensors[path] = replace(tensors[path], dtype=item.dtype, trainable=item.trainable)
    # In the order of the record: that of the model.
    ordered = {path: tensors[path] for path in dict.fromkeys((*variables, *tensors))}
    return replace(artifact, tensors=ordered, optimizers=tuple(record.optimizers), tables=record.tables)


@dataclass(frozen=True, slots=True)
class _Variable:
    """What our record says of a variable."""

    dtype: str
    shape: tuple[int, ...]
    trainable: bool


@dataclass(frozen=True, slots=True)
class StoredTable:
    """What our record says of a lookup table: the dtypes of what it maps, by their names."""

    key_dtype: str
    value_dtype: str


@dataclass(frozen=True, slots=True)
class _Record:
    """What is used of our record of the state."""

    variables: Mapping[str, _Variable]
    optimizers: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, StoredTable] = field(default_factory=dict)


def _open_h5py(source: object, path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"{path} is read with h5py, which is missing. Run: pip install h5py") from error
    return h5py.File(source, "r")


def _read_json(path: Path) -> Config | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        check_length(os.fstat(file.fileno()).st_size, str(path))
        return _parse_json(file.read(), str(path))


def _parse_json(text: object, place: str) -> Config:
    content = parse_json(text, place)
    if not isinstance(content, dict):
        raise ArtifactError(f"{place} is damaged: expected a mapping, received {type(content).__name__}.")
    return content


def _read_recipe(path: Path) -> Config | None:
    return parse_recipe_note(path.read_bytes(), path) if path.is_file() else None


def parse_recipe_note(text: Any, path: Path) -> Config | None:
    """Reads the recipe that an artifact holds; None where it holds none."""
    if text is None:
        return None
    recipe = parse_recipe(text, f"The recipe inside {path}")
    return recipe if isinstance(recipe, dict) else None


def _read_inputs(path: Path) -> tuple[Input, ...]:
    return parse_inputs(path.read_bytes(), path) if path.is_file() else ()


def parse_inputs(text: Any, path: Path) -> tuple[Input, ...]:
    """Reads the list of files that the recipe of an artifact read."""
    try:
        return () if text is None else read_record(tuple[Input, ...], json.loads(text))
    except (ValueError, RecursionError) as error:  # of JSON, and of records
        raise ArtifactError(f"The list of inputs inside {path} is damaged: {error}.") from error


def _translate_training(training: Config | None) -> Config | None:
    """Gives the legacy compile configuration the keys of today."""
    if training is None:
        return None
    kept: Config = {
        key: training[key] for key in ("loss", "metrics", "weighted_metrics", "loss_weights") if key in training
    }
    return {"optimizer": training.get("optimizer_config"), **kept}


def _list_assets(path: Path, graph: Graph) -> dict[str, Callable[[], bytes]]:
    """Lists the files of a SavedModel, those of the graph too that are not there."""
    return {name: (path / ASSETS / name).read_bytes for name in graph.assets} | _list_files(path)


def _list_files(path: Path) -> dict[str, Callable[[], bytes]]:
    directory = path / ASSETS
    files = sorted(entry for entry in directory.rglob("*") if entry.is_file())
    return {entry.relative_to(directory).as_posix(): entry.read_bytes for entry in files}


def _name_exporter(versions: Mapping[str, object]) -> str:
    return f"exporter {versions['exporter']}" if "exporter" in versions else "exporter"


def _name_keras(version: str) -> str:
    return f"Keras {version}".strip()


def _list_versions(**versions: object) -> dict[str, str]:
    return {name: str(version) for name, version in versions.items() if version}


def find_oldest_reader(artifact: Artifact) -> str:
    """Finds the oldest Keras that opens an artifact of ours: of others, it is not known what else they need."""
    if artifact.record is None or artifact.config is None or not artifact.has_twin:
        return ""
    return name_oldest_keras({**artifact.config, "compile_config": artifact.compile_config}, artifact.format)
