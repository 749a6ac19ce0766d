"""A model from a SavedModel directory, whoever wrote it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.contents import Omission, note_lost
from exporter.saving.formats.keras_archive import read_keras_directory
from exporter.saving.formats.saved_model.checkpoint import Checkpoint
from exporter.saving.formats.saved_model.choosing import choose, choose_graph
from exporter.saving.formats.saved_model.keras_2.exported import rebuild_exported
from exporter.saving.formats.saved_model.keras_2.metadata import name_lost, read_metadata
from exporter.saving.formats.saved_model.keras_2.rebuilding import rebuild_keras_2
from exporter.saving.functions.records import Functions
from exporter.saving.graph.operations import load_with_operations
from exporter.saving.layout.checksums import Checksums, damage_explained
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.names import (
    ASSETS,
    CHECKSUMS,
    CONFIG,
    EXPORTED_CONFIG,
    FUNCTIONS,
    GRAPH,
    OWN_CONFIG,
    SHARDS,
    STATE,
)
from exporter.saving.rebuilding.record import StateReader, StateRecord, revive_state
from exporter.saving.requests import LoadRequest
from exporter.saving.revival.foreign.reviving import revive_foreign
from exporter.saving.revival.models import revive_model
from exporter.saving.safety.files import check_directory
from exporter.saving.safety.graphs.operations import check_graph
from exporter.saving.safety.memory import limit_variables
from exporter.text.showing import join_lines
from exporter.typing.keras import Model
from exporter.typing.structures import Config


def read_saved_model(
    path: Path,
    request: LoadRequest,
) -> Model:
    """Loads a SavedModel directory that we or Keras wrote; see `exporter.load_model`."""
    check_directory(path)
    if request.endpoint is not None or request.tags is not None:
        return _read_endpoint(path, request)
    if not (path / STATE).is_file():
        if (path / EXPORTED_CONFIG).is_file() and not (path / CONFIG).is_file():
            with limit_variables(_count_stored(path) if request.safe_mode else None):
                return rebuild_exported(path, request)
        return read_keras_directory(path, request) if (path / CONFIG).is_file() else _read_endpoint(path, request)
    with damage_explained(path, CHECKSUMS, (OSError,)):
        sealed = (path / CHECKSUMS).read_bytes()
    checksums = Checksums.from_json(sealed, path)

    def read(name: str) -> bytes:
        with damage_explained(path, name, (OSError,)):
            content = (path / name).read_bytes()
        return checksums.check_part(name, content, path)

    record = StateRecord.from_json(read(STATE))
    own_config = next((place for place in (CONFIG, OWN_CONFIG) if (path / place).is_file()), None)
    if own_config is None and {CONFIG, OWN_CONFIG} & checksums.parts.keys():
        raise ArtifactError(f"{path} lacks its configuration: it is incomplete.")
    written = None if own_config is None else parse_json(read(own_config), f"{path}, {own_config}")
    if not isinstance(written, dict | None):
        raise ArtifactError(f"{path}, {own_config} is damaged: expected a mapping, received {type(written).__name__}.")
    config = cast(Config | None, written)
    if FUNCTIONS in checksums.parts:
        functions = Functions.from_json(read(FUNCTIONS))
        needs = {name for unit in functions.units for name in unit.needs}
        needs |= set(functions.missing if request.compile else ())
        if config is None or not all(request.is_at_hand(name) for name in needs):
            if request.safe_mode:
                check_graph(path / GRAPH)
            read(GRAPH)
            for name in checksums.parts:
                if name.startswith(f"{ASSETS}/"):
                    read(name)
            with limit_variables(_count_stored(path) if request.safe_mode else None):
                return revive_model(path, record, functions, config, request)
    if (path / CONFIG).is_file():
        return read_keras_directory(path, request, (record, checksums))
    if config is None:
        raise ArtifactError(
            f"{path} holds no configuration of the model; its functions are there with `tf.saved_model.load`."
        )
    checkpoint = Checkpoint.open(path, record)
    reader = StateReader(
        variable=checkpoint.read,
        entries=lambda address: checkpoint.read_entries(address),
        asset=lambda name: read(f"{ASSETS}/{name}"),
    )
    with limit_variables(_count_stored(path) if request.safe_mode else None):
        return revive_state(config, record, reader, request)


def _read_endpoint(path: Path, request: LoadRequest) -> Model:
    """Makes a model of what an endpoint computes."""
    if request.safe_mode:
        check_graph(path / GRAPH)
    lost: tuple[Omission, ...] = ()
    if request.endpoint is None:
        graph, tags = choose_graph(path, request.tags)
        metadata = read_metadata(path, graph) if tags is None else None
        if metadata is not None:
            try:
                with limit_variables(_count_stored(path) if request.safe_mode else None):
                    return rebuild_keras_2(path, metadata, request)
            except ArtifactError as error:
                lost = name_lost(graph, request, join_lines(error))
        elif tags is None:
            lost = name_lost(graph, request, "tf.saved_model.save keeps no configuration of them.")
    choice = choose(path, request.endpoint, request.tags)
    foreign = revive_foreign(path, choice.endpoint, choice.tags)
    others = tuple(
        Omission(f"trace of {choice.endpoint}", f"it was traced for {each} too, which the model does not take")
        for each in foreign.others
    )
    note_lost(foreign.model, (*lost, *others))
    return foreign.model


def load_graph(path: Path, tags: Sequence[str], safe_mode: bool) -> Any:
    """Loads a SavedModel as TensorFlow does, after a look at what its graph does.

    Args:
        path: The directory.
        tags: Of the graph.
        safe_mode: Whether a graph that does more than compute is refused.

    Returns:
        What `tf.saved_model.load` returns.

    Raises:
        ArtifactError: It is refused.
    """
    if safe_mode:
        check_graph(path / GRAPH)
    return load_with_operations(path, lambda: tf.saved_model.load(str(path), tags=list(tags)))


def _count_stored(path: Path) -> int:
    """Returns how many numbers the variables can hold at most: as many as they have bytes."""
    return sum(file.stat().st_size for file in path.glob(SHARDS))
