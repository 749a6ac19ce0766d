"""A Keras model from saved functions, without its code.

A revived layer or model is a real, trainable Keras object: its variables are those of the loaded SavedModel, its
call is the function that was traced when the model was saved, and gradients flow through it.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.configuration.configurations import find_foreign_names
from exporter.saving.configuration.faults import LOAD_FAULTS
from exporter.saving.functions.own_code import list_layers
from exporter.saving.functions.records import Functions
from exporter.saving.graph.operations import load_with_operations
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.layout.names import ASSETS
from exporter.saving.layout.tensor_bundle import KEY_SUFFIX
from exporter.saving.rebuilding.model_configuration import rebuild_model
from exporter.saving.rebuilding.record import (
    StateReader,
    StateRecord,
    load_layers,
    restore_acquired,
    restore_settings,
    restore_variables,
)
from exporter.saving.requests import LoadRequest
from exporter.saving.revival.calling import Untracked
from exporter.saving.revival.compilation import compile_revived
from exporter.saving.revival.function_checks import check_functions
from exporter.saving.revival.layers import RevivedLayer, RevivedModel, make_unit_class
from exporter.saving.revival.loaded import Loaded, adopt_value
from exporter.saving.revival.saved_steps import use_saved_prediction
from exporter.saving.revival.substitutes import Factory, name_substitute
from exporter.saving.state.collecting import Array, collect, read_array
from exporter.saving.state.replicas import restore_replicas
from exporter.saving.state.resources import Table
from exporter.saving.state.tree import join, walk
from exporter.typing.keras import Layer, Model
from exporter.typing.structures import Config
from exporter.typing.tensorflow import TFVariable


def revive_model(
    path: Path, record: StateRecord, functions: Functions, config: Config | None, request: LoadRequest
) -> Model:
    """Rebuilds a model of which some code is missing.

    Args:
        path: The SavedModel directory.
        record: What is known of its state.
        functions: What is known of its functions.
        config: The model's configuration, or None if it has none.
        request: What is asked of the load; safe mode is about what is not revived.

    Returns:
        The model: with its own class and layers where their code is available, and with revived ones elsewhere.
    """
    request.check([record.dtype_policies, record.acquired])
    with damage_explained(path, "", LOAD_FAULTS):
        artifact = load_with_operations(path, lambda: tf.saved_model.load(str(path)))
    ours = getattr(artifact, "exporter", None)
    holder = getattr(ours, "functions", None)
    units = _read_mapping(holder, "units")
    check_functions(path, functions, units, record)
    tables = _read_tables(path, ours, record)
    loaded = Loaded(units, record, _collect_values(path, ours, record), request, tables)
    values = loaded.values
    body = {key: value for key, value in (config or {}).items() if key != "compile_config"}
    model = _revive_layers(body, functions, loaded) if body else None
    if model is None:
        unit = functions.units[0]
        model = make_unit_class(RevivedModel, unit)(unit, loaded, body or None)
        use_saved_prediction(model, loaded.units, functions)
    # The functions use their variables without owning them, so the loaded object has to live as long as the model.
    object.__setattr__(model, "loaded_artifact", Untracked(artifact))
    object.__setattr__(model, "loaded_resources", [*getattr(ours, "resources", ()), *getattr(holder, "resources", ())])
    reader = StateReader(
        variable=lambda place: read_array(values[place]),
        entries=lambda address: _find_entries(values, f"{address}/vars/" if address else "vars/"),
        asset=lambda name: (path / ASSETS / name).read_bytes(),
    )
    restore_acquired(model, record, request)
    with tempfile.TemporaryDirectory(prefix="exporter-") as directory:
        load_layers(model, record, reader, Path(directory))
    restore_settings(_find_layers(model), record)
    restore_variables(model, record, reader, include_optimizer=False)
    # Every variable, also of the layers that came back as themselves, becomes the one that the functions use. An
    # optimizer knows its variables by identity, so this comes before it is built.
    _adopt_values(model, loaded, include_optimizer=False)
    compile_config = functions.compile_config if config is None else config.get("compile_config")
    if (
        request.compile
        and record.compile_extras is not None
        and compile_config
        and compile_revived(model, compile_config, functions, loaded)
    ):
        _adopt_values(model, loaded, include_optimizer=True)
    restore_replicas(model, record.variables, reader.variable)
    return model


def _read_mapping(owner: object, name: str) -> dict[str, Any]:
    """Returns a dict among the attributes of what TensorFlow loaded; an empty one if there is none."""
    value = getattr(owner, name, None)
    return dict(value) if isinstance(value, Mapping) else {}


def _read_tables(path: Path, ours: object, record: StateRecord) -> dict[str, Table]:
    """Finds every lookup table of the state.

    Raises:
        ArtifactError: One is not there.
    """
    resources = _read_mapping(ours, "tables")
    absent = sorted(record.tables.keys() - resources.keys())
    if absent:
        raise ArtifactError(f"{path} is incomplete: it lacks the lookup table {absent[0]!r}, which its record names.")
    return {name: Table.restored(resources[name], described) for name, described in record.tables.items()}


def _collect_values(path: Path, ours: object, record: StateRecord) -> dict[str, TFVariable]:
    """Finds every variable of the state; one that no function uses is in the checkpoint only."""
    state = _read_mapping(ours, "state")
    found = {name: state.get(name) for name in record.variables}
    values = {name: value for name, value in found.items() if isinstance(value, tf.Variable)}
    missing = [name for name in found if name not in values]
    if missing:
        with damage_explained(path, "variables", LOAD_FAULTS):
            reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
            arrays = {name: reader.get_tensor(name + KEY_SUFFIX) for name in missing}
        values |= {name: tf.Variable(array, trainable=False) for name, array in arrays.items()}
    return values


def _find_entries(values: Mapping[str, TFVariable], prefix: str) -> dict[str, Array]:
    return {
        place.removeprefix(prefix): read_array(value) for place, value in values.items() if place.startswith(prefix)
    }


def _find_layers(model: Model) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for saveable in walk(model, include_optimizer=False):
        layers[saveable.path] = saveable.target
        for place, layer in getattr(saveable.target, "revived_parts", {}).items():
            layers[join(saveable.path, place)] = layer
    return layers


def _adopt_values(model: Model, loaded: Loaded, include_optimizer: bool) -> None:
    for path, variable in collect(model, include_optimizer).variables.items():
        if path not in loaded.values:
            raise ArtifactError(f"The artifact holds no value for the variable {path!r} of the revived model.")
        adopt_value(variable, loaded.values[path], loaded.record.variables[path].trainable)


def _revive_layers(config: Config, functions: Functions, loaded: Loaded) -> Model | None:
    """Rebuilds a Sequential or Functional model with revived layers in it, or returns None if that cannot be."""
    request = loaded.request
    missing = {name for name in find_foreign_names(config) if not request.is_at_hand(name)}
    if not missing:
        return rebuild_model(config, request)
    units = {unit.position: unit for unit in functions.units if unit.position and set(unit.needs) & missing}
    substitutes: dict[str, Factory] = {}

    def substitute(node: Config, position: tuple[int, ...]) -> Config:
        unit = units.get(position)
        if unit is None:
            listed = list_layers(node)
            if not listed:
                return node
            layers = [substitute(child, (*position, index)) for index, child in enumerate(listed)]
            return {**node, "config": {**node["config"], "layers": layers}}
        name = f"exporter>revived>{unit.path}"
        original = {key: value for key, value in node.items() if key not in ("name", "inbound_nodes")}
        substitutes[name] = Factory(make_unit_class(RevivedLayer, unit)(unit, loaded, original))
        place = {key: value for key, value in node.items() if key in ("name", "inbound_nodes")}
        return {**place, **name_substitute(name), "config": {"name": unit.parts[0].name}}

    changed = substitute(config, ())
    if {name for name in find_foreign_names(changed) if not request.is_at_hand(name)} - set(substitutes):
        return None
    return rebuild_model(changed, replace(request, custom_objects={**request.custom_objects, **substitutes}))
