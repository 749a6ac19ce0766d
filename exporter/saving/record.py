"""What an artifact says of the state that it holds, and how a model is put into that state."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.safety.configurations import check_configuration
from exporter.safety.documents import parse_json
from exporter.safety.records import RecordError, read_record
from exporter.saving.keras_internals import values_come_later
from exporter.saving.kinds import Kind, find_kind
from exporter.saving.replicas import restore_replicas
from exporter.saving.state import Array, Saveable, State, collect, list_apart, read_shape, walk
from exporter.saving.topology import LOAD_FAULTS, Config, compile_model, rebuild_model, serialize_compile_extras

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
    """

    variables: Mapping[str, VariableRecord]
    trainable: Mapping[str, bool]
    optimizers: Mapping[str, tuple[str, ...]]
    compile_extras: Config | None
    assets: tuple[str, ...]
    dtype_policies: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns the record as JSON text."""
        variables = {path: _list_fields(each) for path, each in self.variables.items()}
        return json.dumps({"version": VERSION, **_list_fields(self), "variables": variables})

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


def _list_fields(record: Any) -> dict[str, Any]:
    # `dataclasses.asdict` would copy everything below, item by item.
    return {each.name: getattr(record, each.name) for each in fields(record)}


def describe_state(
    model: keras.Model, state: State, include_optimizer: bool, assets: tuple[str, ...] = ()
) -> StateRecord:
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
            s.path: _describe_policy(s.target.dtype_policy)
            for s in state.tree
            if isinstance(s.target, keras.layers.Layer)
        },
    )


def _describe_policy(policy: keras.dtype_policies.DTypePolicy) -> Any:
    plain = type(policy) in (keras.dtype_policies.DTypePolicy, keras.dtype_policies.FloatDTypePolicy)
    return policy.name if plain else keras.dtype_policies.serialize(policy)


def save_assets(state: State, directory: Path) -> tuple[str, ...]:
    """Lets every layer that keeps files beside its variables write them, as Keras's own archives do.

    Args:
        state: The state.
        directory: Where to write; each layer gets its address as a sub-directory.

    Returns:
        The files, relative to the directory, sorted.
    """
    for saveable in state.tree:
        if hasattr(saveable.target, "save_assets"):
            place = directory / saveable.path
            place.mkdir(parents=True, exist_ok=True)
            saveable.target.save_assets(str(place))
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
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Rebuilds a model from its configuration and puts it into the recorded state.

    Args:
        config: The configuration of the model, with its `compile_config` if it was compiled.
        record: What is known of the state.
        reader: Where the values are.
        custom_objects: Classes and functions by the name under which they were saved.
        compile: Whether the model is compiled and its optimizer restored.
        safe_mode: Refuses marshalled lambdas.

    Returns:
        The model.

    Raises:
        ArtifactError: The configuration cannot be rebuilt, or does not fit the state.
    """
    if safe_mode:
        check_configuration(record.dtype_policies, custom_objects)
    model = rebuild_model(config, custom_objects, safe_mode)
    with tempfile.TemporaryDirectory(prefix="exporter-") as directory:
        load_layers(model, record, reader, Path(directory))
    restore_settings({s.path: s.target for s in walk(model, include_optimizer=False)}, record)
    compiled = compile and record.compile_extras is not None and bool(config.get("compile_config"))
    if compiled:
        compile_model(model, config["compile_config"], record.compile_extras or {}, custom_objects, safe_mode)
    if compiled:
        build_optimizers(model, record)
        for saveable in walk(model):
            if saveable.path in record.optimizers:
                _load_entries(saveable, reader)
    restore_variables(model, record, reader, include_optimizer=compiled)
    restore_replicas(model, record.variables, reader.variable)
    return model


@contextmanager
def _misfits_explained() -> Iterator[None]:
    """Makes an ArtifactError of what Keras, or a layer's own code, says of a state that does not fit."""
    try:
        yield
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"The saved state cannot be put into the rebuilt model: {error}") from error


def restore_settings(layers: Mapping[str, keras.layers.Layer], record: StateRecord) -> None:
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
        if path in layers and _describe_policy(layers[path].dtype_policy) != policy:
            with _misfits_explained():
                layers[path].dtype_policy = keras.dtype_policies.get(policy)


def load_layers(model: keras.Model, record: StateRecord, reader: StateReader, directory: Path) -> None:
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
        _load_entries(saveable, reader)
        if hasattr(saveable.target, "load_assets") and (directory / saveable.path).is_dir():
            with _misfits_explained():
                saveable.target.load_assets(str(directory / saveable.path))


def build_optimizers(model: keras.Model, record: StateRecord) -> None:
    """Gives every optimizer of a model its slots, for the variables that it trained, in its own order.

    Args:
        model: A compiled model.
        record: What is known of the state.

    Raises:
        ArtifactError: The model lacks a variable that the optimizer trained.
    """
    variables = collect(model, include_optimizer=False).variables
    for saveable in walk(model):
        if saveable.path not in record.optimizers or saveable.target.built:
            continue
        # The outer optimizer comes first and builds the ones inside it; it may itself train nothing.
        below = (paths for address, paths in record.optimizers.items() if f"{address}/".startswith(f"{saveable.path}/"))
        trained = next((paths for paths in below if paths), ())
        missing = [path for path in trained if path not in variables]
        if missing:
            raise ArtifactError(
                f"The optimizer's state belongs to variables that the model lacks: {_shorten(missing)}."
            )
        with _misfits_explained(), values_come_later():
            saveable.target.build([variables[path] for path in trained])


def restore_variables(model: keras.Model, record: StateRecord, reader: StateReader, include_optimizer: bool) -> None:
    """Gives every variable of a model its recorded value.

    Args:
        model: The model, built.
        record: What is known of the state.
        reader: Where the values are.
        include_optimizer: Whether the optimizer's variables are restored too.

    Raises:
        ArtifactError: The model has variables that the record lacks, or the other way round, or of another shape.
    """
    state = collect(model, include_optimizer)
    left_alone = {Kind.REPLICAS} if include_optimizer else {Kind.REPLICAS, Kind.OPTIMIZER}
    expected = {path: item for path, item in record.variables.items() if find_kind(path) not in left_alone}
    faults = [f"the file has no {path}" for path in state.variables if path not in expected]
    faults += [f"the model has no {path}" for path in expected if path not in state.variables]
    faults += [
        f"{path} has shape {read_shape(variable)} in the model and {expected[path].shape} in the file"
        for path, variable in state.variables.items()
        if path in expected and read_shape(variable) != expected[path].shape
    ]
    if faults:
        raise ArtifactError(
            f"The rebuilt model does not fit the saved state: {_shorten(faults)}. "
            "Load it with the code with which it was saved."
        )
    for path, variable in state.variables.items():
        _assign(variable, reader.variable(path))
        if bool(variable.trainable) != expected[path].trainable:
            variable.trainable = expected[path].trainable


def _assign(variable: keras.Variable, value: Array) -> None:
    """Gives a variable its value, without the copies that `keras.Variable.assign` makes of one that fits."""
    own = variable.value
    fits = isinstance(own, tf.Variable) and own.dtype.name == value.dtype.name and own.shape == value.shape
    if fits:
        for each in list_apart(own) or [own]:
            each.assign(value, read_value=False)
        return
    with _misfits_explained():
        variable.assign(value)


def _load_entries(saveable: Saveable, reader: StateReader) -> None:
    """Lets an object load by itself if it has code for that, which may set more than its variables, or make them."""
    own = getattr(type(saveable.target), "load_own_variables", None)
    plain = own in _PLAIN or (own in _PLAIN_UNLESS_CHANGED and not _is_changed(saveable.target))
    if own is not None and not plain:
        entries = reader.entries(saveable.path)
        with _misfits_explained():
            saveable.target.load_own_variables(entries)


def _is_changed(layer: keras.layers.Layer) -> bool:
    return layer.quantization_mode is not None or layer.lora_enabled


def _shorten(items: list[str]) -> str:
    shown = ", ".join(items[:3])
    return f"{shown}, and {len(items) - 3} more" if len(items) > 3 else shown
