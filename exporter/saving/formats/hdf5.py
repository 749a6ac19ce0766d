"""One HDF5 file in the legacy Keras layout, which stock Keras opens, with the exact state beside it.

The layout is that of `keras.src.legacy.saving.legacy_h5_format`: the attributes `model_config` and
`training_config`, the groups `model_weights` and `optimizer_weights`. What it cannot say stands in the group
`exporter`: Keras's native configuration, the record of the state, an index from each variable's path to its
dataset, the variables that the legacy groups have no place for, vocabularies, and notes. No value is stored twice.
"""

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from exporter.errors import ArtifactError, ModelError
from exporter.saving.configuration.configurations import Config
from exporter.saving.configuration.faults import keras_explained
from exporter.saving.contents import Contents
from exporter.saving.formats.holdings import describe_holdings
from exporter.saving.formats.weights_file import StoredArrays, find_dataset
from exporter.saving.layout.checksums import Checksums, damage_explained
from exporter.saving.layout.datasets import OPAQUE_DTYPES, Datasets, Stored, lay_out_file, write_file
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.layout.structure import check_footer, make_footer
from exporter.saving.private_api import (
    SafeModeScope,
    compile_args_from_training_config,
    decode_legacy_json,
    keras_option_scope,
    load_weights_from_hdf5_group,
    model_from_config,
)
from exporter.saving.rebuilding.deferral import values_come_later
from exporter.saving.rebuilding.model_configuration import count_layers
from exporter.saving.rebuilding.record import StateReader, StateRecord, describe_state, read_assets, revive_state
from exporter.saving.safety.configurations import check_configuration
from exporter.saving.safety.hdf5_objects import check_hdf5
from exporter.saving.safety.memory import limit_variables
from exporter.saving.state.collecting import Array, State, collect, join, to_array
from exporter.saving.state.replicas import add_replicas

OURS = "exporter"
_LEGACY = ("model_weights", "optimizer_weights")
_CHECKSUMS = "checksums"
# The attribute of our name says that the group of our name belongs to the file.
_ATTRIBUTES = ("model_config", "training_config", "keras_version", "backend", OURS)

# HDF5 keeps an attribute in its object's header, which holds at most 64 KiB; Keras splits longer lists.
_HEADER_LIMIT = 64512

# `compile` understands these for itself, by the shape of the output.
_SHAPE_DEPENDENT_METRICS = ("accuracy", "acc", "crossentropy", "ce")

_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)

# The dtypes that HDF5 and the stock reader do not know, and those in which each of their values is exact.
_WIDER = {
    OPAQUE_DTYPES["bfloat16"]: np.float32,
    OPAQUE_DTYPES["float8_e4m3fn"]: np.float32,
    OPAQUE_DTYPES["float8_e5m2"]: np.float32,
    OPAQUE_DTYPES["int4"]: np.int8,
    OPAQUE_DTYPES["uint4"]: np.uint8,
}

# What the stock reader does not read of the outermost object.
_NOT_READ = ("module", "registered_name")

# What Keras 2 writes of an optimizer and Keras 3 does not take.
_GONE_ARGUMENTS = ("jit_compile", "is_legacy_optimizer")


def check_hdf5_holds(model: keras.Model, others: Sequence[str]) -> None:
    """Checks that the legacy layout can hold a model that has a configuration.

    Args:
        model: The model.
        others: The formats that can hold it.

    Raises:
        ModelError: The model is subclassed.
    """
    if not isinstance(model, keras.Sequential) and type(model)._obj_type(model) != "Functional":
        raise ModelError(
            f"HDF5 cannot hold the subclassed model {model.name!r} ({type(model).__name__}): its layout knows the "
            "layers of Sequential and Functional models only, by their order. "
            f"Save it with save_format={' or '.join(map(repr, others))}."
        )


def write_hdf5(
    model: keras.Model, config: Config, staged: Path, include_optimizer: bool, notes: Mapping[str, bytes]
) -> Contents:
    """Writes a new HDF5 file.

    Args:
        model: A built Sequential or Functional model.
        config: Its configuration.
        staged: The path to write.
        include_optimizer: Whether the optimizer and the compile configuration are saved.
        notes: Files that are kept inside, by name.

    Returns:
        What was written.
    """
    with lay_out_file() as layout:
        contents = _write(model, config, layout, include_optimizer, notes)
        write_file(staged, layout, behind=make_footer(layout.close()))
    return contents


def write_open_hdf5(
    model: keras.Model, config: Config, file: h5py.File, include_optimizer: bool, notes: Mapping[str, bytes]
) -> Contents:
    """Writes into an open file, in place of a model that it may hold already; everything else in it stays."""
    contents = _write(model, config, Datasets(file), include_optimizer, notes)
    file.flush()
    return contents


def _write(
    model: keras.Model, config: Config, datasets: Datasets, include_optimizer: bool, notes: Mapping[str, bytes]
) -> Contents:
    # A layer's own code may fail here, and then what the file holds stays.
    state = add_replicas(collect(model, include_optimizer))
    assets = read_assets(state)
    file = datasets.file
    for name in (*_LEGACY, OURS):
        if name in file:
            del file[name]
    for name in _ATTRIBUTES:
        file.attrs.pop(name, None)

    writer = _Writer(datasets, state)
    file.attrs["keras_version"] = keras.__version__
    file.attrs["backend"] = keras.backend.backend()
    file.attrs[OURS] = 1
    file.attrs["model_config"] = json.dumps(_legacy_model_config(config, model)).encode()
    if config.get("compile_config"):
        file.attrs["training_config"] = json.dumps(_legacy_training_config(config["compile_config"])).encode()
    _write_model_weights(datasets.add_group("model_weights"), model, writer)
    if include_optimizer and model.compiled and model.optimizer is not None:
        writer.write_list("optimizer_weights", model.optimizer.variables)
    writer.write_rest()

    parts = {f"assets/{name}": content for name, content in assets.items()}
    parts["config"] = json.dumps(config).encode()
    parts["state"] = describe_state(model, state, include_optimizer, tuple(assets)).to_json().encode()
    parts["index"] = json.dumps(writer.index).encode()
    parts.update((f"notes/{name}", note) for name, note in notes.items())
    for name, content in parts.items():
        datasets.add_bytes(f"{OURS}/{name}", datasets.checksums.add_part(name, content))
    datasets.add_bytes(f"{OURS}/{_CHECKSUMS}", datasets.checksums.to_json())
    return describe_holdings(model, state, config, tuple(assets), include_optimizer)


class _Writer:
    """Writes every variable once and remembers where."""

    def __init__(self, datasets: Datasets, state: State) -> None:
        self.index: dict[str, str] = {}
        self._datasets = datasets
        self._state = state
        self._paths = {id(variable): path for path, variable in state.variables.items()}
        self._placed: dict[int, Stored] = {}

    def write_list(self, group: str, variables: Iterable[keras.Variable]) -> None:
        """Writes the variables under their Keras paths, and the list of names that gives their order."""
        written = self._datasets.add_group(group)
        names = _Names()
        for variable in variables:
            self._write(f"{group}/{names.take(variable.path)}", variable)
        self.write_names(written, "weight_names", names.taken)

    def write_names(self, group: h5py.Group, attribute: str, names: list[str]) -> None:
        """Writes names as an attribute of a group, or as several where one object's header is too small for them."""
        array = np.asarray([name.encode() for name in names]) if names else np.asarray([], dtype="S1")
        chunks = max(1, -(-array.nbytes // _HEADER_LIMIT))
        if chunks == 1:
            self._datasets.set_attribute(group, attribute, array)
            return
        for number, chunk in enumerate(np.array_split(array, chunks)):
            self._datasets.set_attribute(group, f"{attribute}{number}", chunk)

    def write_rest(self) -> None:
        """Writes what the legacy groups have no place for."""
        for path, variable in self._state.variables.items():
            if id(variable) not in self._placed:
                self._write(f"{OURS}/variables/{path}", variable)
        for saveable in self._state.tree:
            for key, value in saveable.entries.items():
                path = join(saveable.path, f"vars/{key}")
                stored = self._placed.get(id(value))
                if stored is None:
                    stored = self._datasets.add(f"{OURS}/entries/{path}", partial(_convert_entry, value))
                self.index[path] = f"/{stored.path}"

    def _write(self, name: str, variable: keras.Variable) -> None:
        known = self._placed.get(id(variable))
        if known is not None:
            self._datasets.link(name, known)  # tied weights
            return
        stored = self._placed[id(variable)] = self._datasets.add(name, lambda: _widen(to_array(variable)))
        path = self._paths.get(id(variable))
        if path is not None:
            self.index[path] = f"/{stored.path}"


def _convert_entry(value: Any) -> Array:
    return _widen(np.asarray(keras.ops.convert_to_numpy(value)))


def _widen(array: Array) -> Array:
    """Returns an array whose dtype HDF5 and the stock reader know, with the very same values."""
    wider = _WIDER.get(array.dtype)
    return array if wider is None else array.astype(wider)


class _Names:
    """The names of the datasets of one group.

    Attributes:
        taken: Those that are taken, in order.
    """

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._datasets: set[str] = set()
        self._groups: set[str] = set()
        self._found = {"": ""}  # the group of each path that was asked for

    def take(self, name: str) -> str:
        """Returns the first of `name`, `name_1`, ... that is free: sub-layers of one name have variables of one path.

        A layer may also have a sub-layer and a variable of one name, and a dataset cannot hold a group.
        """
        above, _, last = name.rpartition("/")
        path = join(self._find_group(above), last)
        path = _number(path, lambda each: each not in self._datasets and each not in self._groups)
        self._datasets.add(path)
        self.taken.append(path)
        return path

    def _find_group(self, name: str) -> str:
        if name not in self._found:
            above, _, last = name.rpartition("/")
            path = join(self._find_group(above), last)
            self._found[name] = _number(path, lambda each: each not in self._datasets)
            self._groups.add(self._found[name])
        return self._found[name]


def _number(name: str, is_free: Callable[[str], bool]) -> str:
    """Returns the first of `name`, `name_1`, `name_2`, ... that is free."""
    if is_free(name):
        return name
    return next(numbered for number in itertools.count(1) if is_free(numbered := f"{name}_{number}"))


def _write_model_weights(group: h5py.Group, model: keras.Model, writer: _Writer) -> None:
    group.attrs["backend"] = keras.backend.backend()
    group.attrs["keras_version"] = keras.__version__
    writer.write_names(group, "layer_names", [layer.name for layer in model.layers])
    for layer in model.layers:
        writer.write_list(f"model_weights/{layer.name}", layer.trainable_weights + layer.non_trainable_weights)
    listed = {id(variable) for variable in model.weights}
    own = [v for v in [*model._trainable_variables, *model._non_trainable_variables] if id(v) in listed]
    writer.write_list("model_weights/top_level_model_weights", own)


def _read_bytes(group: h5py.Group, name: str, place: Path | str) -> bytes:
    with damage_explained(place, name):
        return bytes(np.asarray(find_dataset(group, name, place)[()], dtype=np.uint8).tobytes())


def _legacy_model_config(config: Config, model: keras.Model) -> Config:
    """Returns the configuration of a model with what the stock reader does not find elsewhere.

    It looks a class up by its name alone, also a registered one, and it has no place for the files of a layer.
    """
    legacy = {key: value for key, value in config.items() if key != "compile_config"}
    legacy["class_name"] = legacy.get("registered_name") or legacy["class_name"]
    if any(isinstance(layer, _LOOKUPS) for layer in model._flatten_layers()):
        legacy = copy.deepcopy(legacy)
        _include_vocabularies(legacy, model)
    return legacy


def _include_vocabularies(config: Config, model: keras.Model) -> None:
    layers = {layer.name: layer for layer in model.layers}
    for node in config["config"].get("layers", ()):
        layer = layers.get(node["config"].get("name"))
        if isinstance(layer, keras.Model):
            _include_vocabularies(node, layer)
        elif isinstance(layer, _LOOKUPS) and node["config"].get("vocabulary") is None:
            vocabulary = layer.get_vocabulary(include_special_tokens=False)
            node["config"]["vocabulary"] = np.asarray(vocabulary).tolist() or None
            lookup = getattr(layer, "_lookup_layer", layer)
            if lookup.output_mode == "tf_idf":
                special = lookup.vocabulary_size() - len(vocabulary)
                node["config"]["idf_weights"] = lookup.idf_weights_const.numpy()[special:].tolist()


def _legacy_training_config(config: Config) -> Config:
    """Returns the compile configuration with names that the stock reader resolves.

    It looks names up among objects, and fails on an alias such as `mse`, so each name becomes what it stands for.
    """
    loss = _resolve_names(config.get("loss"), keras.losses)
    return {
        "optimizer_config": config.get("optimizer"),
        # The reader takes a lone name for a configuration.
        "loss": [loss] if isinstance(loss, str) else loss,
        "metrics": _resolve_names(config.get("metrics"), keras.metrics),
        "weighted_metrics": _resolve_names(config.get("weighted_metrics"), keras.metrics),
        "loss_weights": config.get("loss_weights"),
    }


def _resolve_names(node: Any, module: Any) -> Any:
    inner = node.get("config") if isinstance(node, dict) and node.get("class_name") == "function" else None
    if isinstance(inner, str) and hasattr(module, inner):
        node = inner  # the stock reader takes a function of Keras for the class of that name
    if isinstance(node, str):
        return node if node in _SHAPE_DEPENDENT_METRICS else module.serialize(module.get(node))
    if isinstance(node, dict) and "class_name" not in node:
        return {key: _resolve_names(child, module) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [_resolve_names(child, module) for child in node]
    return node


def read_hdf5(
    source: Path | h5py.File,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads an HDF5 file that we or Keras wrote; see `exporter.load_model`."""
    if isinstance(source, h5py.File):
        return _read_open_hdf5(source, source.filename, custom_objects, compile, safe_mode)
    with _open_hdf5(source) as file:
        return _read_open_hdf5(file, source, custom_objects, compile, safe_mode)


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
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
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
    file: h5py.File,
    place: Path | str,
    custom_objects: Mapping[str, Any] | None,
    compiled: bool,
    safe_mode: bool,
) -> keras.Model:
    stored = check_hdf5(file, place, (*_LEGACY, OURS))  # a caller's own file may hold other things
    with damage_explained(place):
        is_ours = OURS in file or OURS in file.attrs
    with limit_variables(stored if safe_mode else None):
        if is_ours:
            return _read_ours(file, place, custom_objects, compiled, safe_mode)
        return _read_stock(file, place, custom_objects, compiled, safe_mode)


def _read_checksums(file: h5py.File, place: Path | str) -> tuple[Checksums, h5py.Group]:
    """Reads the checksums of a file of ours, and returns the group in which they are."""
    with damage_explained(place):
        ours = file.get(OURS)
    if not isinstance(ours, h5py.Group):
        raise ArtifactError(f"{place} lacks {OURS!r}: the file is incomplete.")
    return Checksums.from_json(_read_bytes(ours, _CHECKSUMS, place), place), ours


def _read_ours(
    file: h5py.File,
    place: Path | str,
    custom_objects: Mapping[str, Any] | None,
    compiled: bool,
    safe_mode: bool,
) -> keras.Model:
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
    return revive_state(config, record, reader, custom_objects, compiled, safe_mode)


def _read_stock(
    file: h5py.File,
    place: Path | str,
    custom_objects: Mapping[str, Any] | None,
    compiled: bool,
    safe_mode: bool,
) -> keras.Model:
    with damage_explained(place):
        if "model_config" not in file.attrs:
            raise ArtifactError(
                f"{place} holds no model, only {', '.join(sorted(file)) or 'nothing'}: it has no attribute "
                "`model_config`. A file of weights alone needs the model: use `model.load_weights`."
            )
        given = {**keras.saving.get_custom_objects(), **(custom_objects or {})}
        texts = {name: file.attrs[name] for name in ("model_config", "training_config") if name in file.attrs}
    configs = {name: parse_json(text, f"The attribute {name!r} of {place}") for name, text in texts.items()}
    body, config = configs["model_config"], configs.get("training_config") if compiled else None
    if not isinstance(body, dict):
        raise ArtifactError(f"The attribute 'model_config' of {place} is damaged: it is no mapping.")
    if not isinstance(config, (dict, type(None))):
        raise ArtifactError(f"The attribute 'training_config' of {place} is damaged: it is no mapping.")
    if safe_mode:
        # The reader of the outermost object looks at nothing but its class_name.
        check_configuration(
            [{key: value for key, value in body.items() if key not in _NOT_READ}, config], custom_objects
        )
    later = values_come_later(count_layers(body))
    with keras_explained(place), keras_option_scope(use_legacy_config=True), SafeModeScope(safe_mode), later:
        # What was checked is what is read, and not the file again.
        model = model_from_config(decode_legacy_json(texts["model_config"]), custom_objects=given)
        load_weights_from_hdf5_group(file["model_weights"], model)
    if config is not None:
        config["optimizer_config"] = _translate_optimizer(config.get("optimizer_config"))
        with keras_explained(place, (ValueError,)):  # a name that Keras does not know
            for key, module in (
                ("loss", keras.losses),
                ("metrics", keras.metrics),
                ("weighted_metrics", keras.metrics),
            ):
                config[key] = _resolve_names(config.get(key), module)
        with keras_explained(place), SafeModeScope(safe_mode):
            model.compile(**compile_args_from_training_config(config, custom_objects))
    if model.compiled and "optimizer_weights" in file:
        _restore_stock_optimizer(file, model, place)
    return model


def _translate_optimizer(config: Any) -> Any:
    """Returns an optimizer's configuration as Keras 3 takes it.

    Keras 2 writes `Custom>Adam`, for which Keras 3 makes an Adam with default arguments without a word, and it writes
    arguments that are gone.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict) or "module" in config:
        return config
    name = str(config.get("class_name")).removeprefix("Custom>")
    if not hasattr(keras.optimizers, name):
        return config
    arguments = {key: value for key, value in config["config"].items() if key not in _GONE_ARGUMENTS}
    if not arguments.get("decay", True):
        del arguments["decay"]
    return {**config, "class_name": name, "config": arguments}


def _restore_stock_optimizer(file: h5py.File, model: keras.Model, place: Path | str) -> None:
    """Gives the optimizer the state that Keras 3 or Keras 2 left in the file.

    Keras builds the optimizer for the model's direct variables, of which a Sequential or Functional model has none;
    a freshly compiled one is built for all of them, in the order in which they were saved.
    """
    names = _read_weight_names(file, place)
    with keras_explained(place):
        optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    by_keras_2 = bool(names) and names[0].endswith(":0")
    # Keras 2 keeps the learning rate in the configuration only.
    left_out = {id(optimizer._learning_rate)} if by_keras_2 else set()
    if len(names) > len(optimizer.variables) - len(left_out):  # more than the counters: it has trained
        with keras_explained(place):
            optimizer.build(model.trainable_variables)
    variables = [variable for variable in optimizer.variables if id(variable) not in left_out]
    if by_keras_2:
        names = _order_as_keras_3(names, optimizer) if len(variables) > 1 else names[:1]  # plain SGD has unused slots
    arrays = StoredArrays(file, None, place)
    values = [arrays.read(f"optimizer_weights/{name}") for name in names]
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise ArtifactError(
            f"{place} holds {len(values)} optimizer variables, which do not fit the {len(variables)} of a "
            f"{type(optimizer).__name__} for this model. Load it with compile=False and compile it anew."
        )
    for variable, value in zip(variables, values, strict=True):
        with keras_explained(place):
            variable.assign(value)
    model.optimizer = optimizer


def _read_weight_names(file: h5py.File, place: Path | str) -> list[str]:
    """Reads the names of the optimizer's variables, which stand in numbered attributes where there are many."""
    found: dict[int, Any] = {}
    with damage_explained(place, "optimizer_weights"):
        for attribute, value in file["optimizer_weights"].attrs.items():
            number = attribute.removeprefix("weight_names")
            if number.isdigit() or attribute == "weight_names":
                found[int(number or 0)] = np.atleast_1d(value).tolist()
    names = [name for number in sorted(found) for name in found[number]]
    if not all(isinstance(name, (str, bytes)) for name in names):
        raise ArtifactError(f"{place} is damaged: the optimizer's variables have names that are no texts.")
    return [name.decode(errors="replace") if isinstance(name, bytes) else name for name in names]


def _order_as_keras_3(names: list[str], optimizer: keras.optimizers.Optimizer) -> list[str]:
    """Puts the slots of an optimizer from before TensorFlow 2.11 into the order of today.

    It listed one kind of slot for all variables, then the next (`Adam/dense/kernel/m:0`); today the first two kinds
    stand side by side for each variable, except RMSprop's.
    """
    if not names[0].endswith("/iter:0") or isinstance(optimizer, keras.optimizers.RMSprop):
        return names
    kinds: dict[str, list[str]] = {}
    for name in names[1:]:
        kinds.setdefault(name.rpartition("/")[2], []).append(name)
    slots = list(kinds.values())
    if len(slots) > 1:
        slots[:2] = [[name for pair in zip(slots[0], slots[1], strict=False) for name in pair]]
    return [names[0], *(name for kind in slots for name in kind)]
