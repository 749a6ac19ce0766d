"""What an artifact says of the state that it holds, and how a model is put into that state."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS, first_line
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.rebuilding.acquired import collect_acquired, is_adapted, is_quantized, put_back, put_flags_back
from exporter.saving.rebuilding.compilation import compile_model, serialize_compile_extras
from exporter.saving.rebuilding.deferral import defer_initialization
from exporter.saving.rebuilding.model_configuration import rebuild_model
from exporter.saving.requests import LoadRequest
from exporter.saving.state.collecting import TRAINED, Array, State, collect, list_apart, read_shape
from exporter.saving.state.kinds import Kind, find_kind
from exporter.saving.state.policies import describe_policy, separate_policies
from exporter.saving.state.replicas import restore_replicas
from exporter.saving.state.resources import TableRecord
from exporter.saving.state.tree import Saveable, walk
from exporter.text.showing import list_first
from exporter.typing.keras import Layer, Model, Optimizer, Variable
from exporter.typing.structures import Config

VERSION = 1

# What only assigns each variable its value, as is done for all of them in the end.
_PLAIN = (keras.layers.Layer.load_own_variables, keras.optimizers.Optimizer.load_own_variables)
_PLAIN_UNLESS_CHANGED = tuple(
    kind.load_own_variables for kind in (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding)
)


@dataclass(frozen=True, slots=True)
class VariableRecord:
    """One variable: its dtype, its shape, and whether it is trained."""

    dtype: str
    shape: tuple[int, ...]
    trainable: bool


@dataclass(frozen=True, slots=True)
class StateRecord:
    """The state, without its values.

    Attributes:
        variables: Every variable, by path.
        trainable: The trainable flag of every layer, by its address.
        optimizers: For every built optimizer, the paths of the variables that it trains, in its order.
        compile_extras: The arguments of `compile` that Keras's configuration forgets; None for an uncompiled model.
        assets: Files that layers keep beside their variables, such as vocabularies: `<address>/<file name>`.
        dtype_policies: The dtype policy of every layer, by its address: a name, or a configuration.
        tables: Every lookup table by path; its entries are files among the assets: `<path>/<file name>`.
        acquired: What layers acquired after they were made, by their address; see `describe_acquired`.
    """

    variables: Mapping[str, VariableRecord]
    trainable: Mapping[str, bool]
    optimizers: Mapping[str, tuple[str, ...]]
    compile_extras: Config | None
    assets: tuple[str, ...]
    dtype_policies: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, TableRecord] = field(default_factory=dict)
    acquired: Mapping[str, Config] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns the record as JSON text."""
        variables = {path: _list_fields(each) for path, each in self.variables.items()}
        tables = {path: _list_fields(each) for path, each in self.tables.items()}
        return json.dumps({"version": VERSION, **_list_fields(self), "variables": variables, "tables": tables})

    @classmethod
    def from_json(cls, text: str | bytes) -> "StateRecord":
        """Reads what `to_json` wrote.

        Raises:
            ArtifactError: The text is damaged, or of a version that is not known.
        """
        data = parse_json(text, "The artifact's state record")
        version = data.get("version") if isinstance(data, dict) else None
        if type(version) is int and version != VERSION:
            raise ArtifactError(
                f"The artifact's state record is of version {version}; this exporter reads version {VERSION}. "
                "Install the exporter that wrote it."
            )
        try:
            return read_record(cls, data)
        except RecordError as error:
            raise ArtifactError(f"The artifact's state record is damaged: {error}.") from error


def _list_fields(record: "StateRecord | VariableRecord | TableRecord") -> dict[str, object]:
    # `dataclasses.asdict` would copy everything below, item by item.
    return {each.name: getattr(record, each.name) for each in fields(record)}


def describe_state(model: Model, state: State, include_optimizer: bool, assets: tuple[str, ...] = ()) -> StateRecord:
    """Returns the record of a state that was collected from `model`."""
    return StateRecord(
        variables={
            path: VariableRecord(variable.dtype, read_shape(variable), bool(variable.trainable))
            for path, variable in state.variables.items()
        },
        trainable=state.trainable,
        optimizers=state.optimizers,
        compile_extras=serialize_compile_extras(model) if include_optimizer else None,
        assets=assets,
        dtype_policies={
            s.path: describe_policy(s.target) for s in state.tree if isinstance(s.target, keras.layers.Layer)
        },
        tables={path: table.describe() for path, table in state.tables.items()},
        acquired=collect_acquired(state),
    )


def save_assets(state: State, directory: Path) -> tuple[str, ...]:
    """Lets every layer that keeps files beside its variables write them, as Keras's own archives do, and lookup tables.

    Args:
        state: The state.
        directory: Where to write; each layer gets its address as a sub-directory, and each table its path.

    Returns:
        The files, relative to the directory, sorted.
    """
    for saveable in state.tree:
        if hasattr(saveable.target, "save_assets"):
            place = directory / saveable.path
            place.mkdir(parents=True, exist_ok=True)
            saveable.target.save_assets(str(place))
    for address, table in state.tables.items():
        place = directory / address
        place.mkdir(parents=True, exist_ok=True)
        for name, content in table.to_files().items():
            (place / name).write_bytes(content)
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return tuple(sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()))


def read_assets(state: State) -> dict[str, bytes]:
    """Returns the content of what `save_assets` writes, by the names that it returns."""
    with tempfile.TemporaryDirectory(prefix="exporter-") as directory:
        return {name: Path(directory, name).read_bytes() for name in save_assets(state, Path(directory))}


@dataclass(frozen=True, slots=True)
class StateReader:
    """How the values of one artifact are read.

    Attributes:
        variable: Reads a variable by its path.
        entries: Reads what Keras stored for the object at an address.
        asset: Reads a file by its name in the record.
    """

    variable: Callable[[str], Array]
    entries: Callable[[str], Mapping[str, Array]]
    asset: Callable[[str], bytes]


def revive_state(
    config: Config,
    record: StateRecord,
    reader: StateReader,
    request: LoadRequest,
) -> Model:
    """Rebuilds a model from its configuration and puts it into the recorded state.

    Args:
        config: The configuration of the model, with its `compile_config` if it was compiled.
        record: What is known of the state.
        reader: Where the values are.
        request: What is asked of the load.

    Returns:
        The model.

    Raises:
        ArtifactError: The configuration cannot be rebuilt, or does not fit the state.
    """
    model, compiled = rebuild_state(config, record, reader, request)
    restore_variables(model, record, reader, include_optimizer=compiled)
    restore_replicas(model, record.variables, reader.variable)
    return model


def rebuild_state(
    config: Config,
    record: StateRecord,
    reader: StateReader,
    request: LoadRequest,
) -> tuple[Model, bool]:
    """Rebuilds a model with all of its variables, which do not have their values yet.

    Args:
        config: See `revive_state`.
        record: See there.
        reader: See there.
        request: See there.

    Returns:
        The model, and whether it is compiled.

    Raises:
        ArtifactError: The configuration cannot be rebuilt.
    """
    request.check([record.dtype_policies, record.acquired])
    model = rebuild_model(config, request)
    restore_acquired(model, record, request)
    with tempfile.TemporaryDirectory(prefix="exporter-") as directory:
        load_layers(model, record, reader, Path(directory))
    restore_settings({s.path: s.target for s in walk(model, include_optimizer=False)}, record)
    compiled = request.compile and record.compile_extras is not None and bool(config.get("compile_config"))
    if compiled:
        compile_model(model, config["compile_config"], record.compile_extras or {}, request)
        build_optimizers(model, record)
        for saveable in walk(model):
            if saveable.path in record.optimizers:
                _load_entries(saveable, reader, record)
    return model, compiled


@contextmanager
def _misfits_explained() -> Iterator[None]:
    """Makes an ArtifactError of what Keras, or a layer's own code, says of a state that does not fit."""
    try:
        yield
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"The saved state cannot be put into the rebuilt model: {first_line(error)}") from error


def restore_acquired(model: Model, record: StateRecord, request: LoadRequest) -> None:
    """Lets layers acquire what they had acquired beyond their configuration; see `exporter.saving.rebuilding.acquired`.

    This comes before `load_layers`: it makes variables.
    """
    layers = _find_layers(model)
    separate_policies(layers.values())
    with _misfits_explained():
        put_back(layers, record.acquired, request)


def _find_layers(model: Model) -> dict[str, Layer]:
    return {
        saveable.path: saveable.target
        for saveable in walk(model, include_optimizer=False)
        if isinstance(saveable.target, keras.layers.Layer) and not hasattr(saveable.target, "revived_variables")
    }


def restore_settings(layers: Mapping[str, Layer], record: StateRecord) -> None:
    """Gives layers their trainable flags and dtype policies.

    Args:
        layers: The layers, by their address; parents first.
        record: What is known of their state.
    """
    for path, flag in record.trainable.items():  # parents come first: setting a parent sets its children
        if path in layers and layers[path].trainable != flag:
            with _misfits_explained():
                layers[path].trainable = flag
    for path, policy in record.dtype_policies.items():
        # Sequential and Functional models forget theirs, and `compile` scales the loss by it.
        if path in layers and describe_policy(layers[path]) != policy:
            with _misfits_explained():
                layers[path].dtype_policy = keras.dtype_policies.get(policy)


def load_layers(model: Model, record: StateRecord, reader: StateReader, directory: Path) -> None:
    """Lets layers load what they stored by code of their own, and their files.

    This comes before the state of the model is collected: a layer without its values may not be able to tell them.

    Args:
        model: The model, built.
        record: What is known of its state.
        reader: Where the values and files are.
        directory: Where files can be unpacked; empty.

    Raises:
        ArtifactError: The record names a file outside the artifact.
    """
    for name in record.assets:
        place = directory / name.replace("\0", "")
        if "\0" in name or not place.resolve().is_relative_to(directory.resolve()):
            raise ArtifactError(f"The artifact names a file outside itself: {name!r}.")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(reader.asset(name))
    for saveable in walk(model, include_optimizer=False):
        _load_entries(saveable, reader, record)
        if hasattr(saveable.target, "load_assets") and (directory / saveable.path).is_dir():
            with _misfits_explained():
                saveable.target.load_assets(str(directory / saveable.path))
    put_flags_back(_find_layers(model), record.acquired)


def build_optimizers(model: Model, record: StateRecord) -> None:
    """Gives every optimizer of a model its slots, for the variables that it trained, in its own order.

    Args:
        model: A compiled model.
        record: What is known of the state.

    Raises:
        ArtifactError: The model lacks a variable that the optimizer trained.
    """
    variables = dict(collect(model, False, _misfits_explained).variables)
    for saveable in walk(model):
        if saveable.path not in record.optimizers or saveable.target.built:
            continue
        # The outer optimizer comes first and builds the ones inside it; it may itself train nothing.
        below = (paths for address, paths in record.optimizers.items() if f"{address}/".startswith(f"{saveable.path}/"))
        trained = next((paths for paths in below if paths), ())
        gone = [path for path in trained if path.startswith(f"{saveable.path}/{TRAINED}/") and path in record.variables]
        missing = [path for path in trained if path not in variables and path not in gone]
        if missing:
            raise ArtifactError(
                f"The optimizer's state belongs to variables that the model lacks: {list_first(missing)}."
            )
        with _misfits_explained(), defer_initialization():
            variables.update((path, _make_variable(record.variables[path])) for path in gone)
            optimizer: Optimizer = saveable.target
            optimizer.build([variables[path] for path in trained])


def _make_variable(recorded: VariableRecord) -> Variable:
    made: Variable = keras.Variable("zeros", shape=recorded.shape, dtype=recorded.dtype, trainable=recorded.trainable)
    return made


def restore_variables(model: Model, record: StateRecord, reader: StateReader, include_optimizer: bool) -> None:
    """Gives every variable of a model its recorded value.

    Args:
        model: The model, built.
        record: What is known of the state.
        reader: Where the values are.
        include_optimizer: Whether the optimizer's variables are restored too.

    Raises:
        ArtifactError: The model has variables that the record lacks, or the other way round, or of another shape.
    """
    state = collect(model, include_optimizer, _misfits_explained)
    misfits = find_misfits(state, record, include_optimizer)
    if misfits:
        raise ArtifactError(
            f"The rebuilt model does not fit the saved state: {misfits}. Load it with the code with which it was saved."
        )
    for path, variable in state.variables.items():
        _assign(variable, reader.variable(path))
        if bool(variable.trainable) != record.variables[path].trainable:
            variable.trainable = record.variables[path].trainable
    for path, table in state.tables.items():
        table.restore(partial(_read_table_file, reader, path), path)


def _list_expected(record: StateRecord, include_optimizer: bool) -> dict[str, VariableRecord]:
    """Lists the recorded variables that a model must have, with or without those of its optimizers."""
    left_alone = {Kind.REPLICAS} if include_optimizer else {Kind.REPLICAS, Kind.OPTIMIZER}
    return {
        path: item for path, item in record.variables.items() if find_kind(path, record.optimizers) not in left_alone
    }


def find_misfits(
    state: State, record: StateRecord, include_optimizer: bool, rebuilt: str = "the model", saved: str = "the file"
) -> str:
    """Compares the variables and tables of a rebuilt model with those that were recorded.

    Args:
        state: Of the model.
        record: What is known of the saved state.
        include_optimizer: Whether the variables of optimizers belong to it.
        rebuilt: What the model is called.
        saved: What the recorded state is called.

    Returns:
        What the model has and the record lacks, the other way round, and what is of another shape or type; empty if
        there is no difference.
    """
    expected, tables = _list_expected(record, include_optimizer), record.tables
    faults = [f"{saved} has no {path}" for path in state.variables if path not in record.variables]
    faults += [f"{rebuilt} has no {path}" for path in expected if path not in state.variables]
    both = [path for path in state.variables if path in expected]
    shapes = {path: read_shape(state.variables[path]) for path in both}
    faults += [
        f"{path} has shape {shapes[path]} in {rebuilt} and {expected[path].shape} in {saved}"
        for path in both
        if shapes[path] != expected[path].shape
    ]
    faults += [f"{saved} has no lookup table {path}" for path in state.tables if path not in tables]
    faults += [f"{rebuilt} has no lookup table {path}" for path in tables if path not in state.tables]
    faults += [
        f"the lookup table {path} has other types in {rebuilt} than in {saved}"
        for path, table in state.tables.items()
        if path in tables and table.describe() != tables[path]
    ]
    return list_first(faults) if faults else ""


def _read_table_file(reader: StateReader, path: str, name: str) -> bytes:
    return reader.asset(f"{path}/{name}")


def _assign(variable: Variable, value: Array) -> None:
    """Gives a variable its value, without the copies that `keras.Variable.assign` makes of one that fits."""
    own = variable.value
    fits = isinstance(own, tf.Variable) and own.dtype.name == value.dtype.name and own.shape == value.shape
    if fits:
        for each in list_apart(own) or [own]:
            each.assign(value, read_value=False)
        return
    with _misfits_explained():
        variable.assign(value)


def _load_entries(saveable: Saveable, reader: StateReader, record: StateRecord) -> None:
    """Lets an object load by itself if it has code for that, which may set more than its variables, or make them."""
    own = getattr(type(saveable.target), "load_own_variables", None)
    # What a changed layer loads by itself is merged, and what else it sets is recorded.
    known = saveable.path in record.acquired
    plain = own in _PLAIN or (own in _PLAIN_UNLESS_CHANGED and (known or not _is_changed(saveable.target)))
    if own is not None and not plain:
        entries = reader.entries(saveable.path)
        with _misfits_explained():
            saveable.target.load_own_variables(entries)


def _is_changed(layer: Layer) -> bool:
    return is_quantized(layer) or is_adapted(layer)
