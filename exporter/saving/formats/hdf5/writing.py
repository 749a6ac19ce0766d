"""One HDF5 file in the legacy Keras layout, which stock Keras opens, with the exact state beside it.

The layout is that of `keras.src.legacy.saving.legacy_h5_format`: the attributes `model_config` and
`training_config`, the groups `model_weights` and `optimizer_weights`. What it cannot say stands in the group
`exporter`: Keras's native configuration, the record of the state, an index from each variable's path to its
dataset, the variables that the legacy groups have no place for, vocabularies, and notes. No value is stored twice.
"""

import itertools
import json
from collections.abc import Callable, Iterable
from functools import partial

import keras
import numpy as np

from exporter.saving.contents import Contents
from exporter.saving.formats.hdf5.configurations import legacy_model_config, legacy_training_config
from exporter.saving.formats.hdf5.names import CHECKSUMS, LEGACY, OURS
from exporter.saving.formats.parts.contents import describe_contents
from exporter.saving.layout.datasets import OPAQUE_DTYPES, Datasets, Stored, lay_out_file, write_file
from exporter.saving.layout.structure import make_footer
from exporter.saving.rebuilding.record import describe_state, read_assets
from exporter.saving.requests import SaveRequest
from exporter.saving.state.collecting import Array, State, collect, to_array
from exporter.saving.state.replicas import add_replicas
from exporter.saving.state.tree import join
from exporter.typing.hdf5 import Group
from exporter.typing.keras import Model, Variable

# The attribute of our name says that the group of our name belongs to the file.
_ATTRIBUTES = ("model_config", "training_config", "keras_version", "backend", OURS)

# HDF5 keeps an attribute in its object's header, which holds at most 64 KiB; Keras splits longer lists.
_HEADER_LIMIT = 64512

# The dtypes that HDF5 and the stock reader do not know, and those in which each of their values is exact.
_WIDER = {
    OPAQUE_DTYPES["bfloat16"]: np.float32,
    OPAQUE_DTYPES["float8_e4m3fn"]: np.float32,
    OPAQUE_DTYPES["float8_e5m2"]: np.float32,
    OPAQUE_DTYPES["int4"]: np.int8,
    OPAQUE_DTYPES["uint4"]: np.uint8,
}


def explain_unheld(model: Model) -> str | None:
    """Says why the legacy layout cannot hold a model that has a configuration; None if it can."""
    if isinstance(model, keras.Sequential) or type(model)._obj_type(model) == "Functional":
        return None
    return (
        f"HDF5 cannot hold the subclassed model {model.name!r} ({type(model).__name__}): its layout knows the "
        "layers of Sequential and Functional models only, by their order."
    )


def write_hdf5(request: SaveRequest) -> Contents:
    """Writes a new HDF5 file of a Sequential or Functional model."""
    with lay_out_file() as layout:
        contents = _write(request, layout)
        write_file(request.target, layout, behind=make_footer(layout.close()))
    return contents


def write_open_hdf5(request: SaveRequest) -> Contents:
    """Writes into an open file, in place of a model that it may hold already; everything else in it stays."""
    contents = _write(request, Datasets(request.target))
    request.target.flush()
    return contents


def _write(request: SaveRequest, datasets: Datasets) -> Contents:
    model, config = request.model, request.config or {}
    # A layer's own code may fail here, and then what the file holds stays.
    state = add_replicas(collect(model, request.include_optimizer))
    assets = read_assets(state)
    file = datasets.file
    for name in (*LEGACY, OURS):
        if name in file:
            del file[name]
    for name in _ATTRIBUTES:
        file.attrs.pop(name, None)

    writer = _Writer(datasets, state)
    file.attrs["keras_version"] = keras.__version__
    file.attrs["backend"] = keras.backend.backend()
    file.attrs[OURS] = 1
    file.attrs["model_config"] = json.dumps(legacy_model_config(config, model)).encode()
    if config.get("compile_config"):
        file.attrs["training_config"] = json.dumps(legacy_training_config(config["compile_config"])).encode()
    _write_model_weights(datasets.add_group("model_weights"), model, writer)
    if request.include_optimizer and model.compiled and model.optimizer is not None:
        writer.write_list("optimizer_weights", model.optimizer.variables)
    writer.write_rest()

    parts = {f"assets/{name}": content for name, content in assets.items()}
    parts["config"] = json.dumps(config).encode()
    parts["state"] = describe_state(model, state, request.include_optimizer, tuple(assets)).to_json().encode()
    parts["index"] = json.dumps(writer.index).encode()
    parts.update((f"notes/{name}", note) for name, note in request.notes.items())
    for name, content in parts.items():
        datasets.add_bytes(f"{OURS}/{name}", datasets.checksums.add_part(name, content))
    datasets.add_bytes(f"{OURS}/{CHECKSUMS}", datasets.checksums.to_json())
    return describe_contents(request, state, config, tuple(assets))


class _Writer:
    """Writes every variable once and remembers where."""

    def __init__(self, datasets: Datasets, state: State) -> None:
        self.index: dict[str, str] = {}
        self._datasets = datasets
        self._state = state
        self._paths = {id(variable): path for path, variable in state.variables.items()}
        self._placed: dict[int, Stored] = {}

    def write_list(self, group: str, variables: Iterable[Variable]) -> None:
        """Writes the variables under their Keras paths, and the list of names that gives their order."""
        written = self._datasets.add_group(group)
        names = _Names()
        for variable in variables:
            self._write(f"{group}/{names.take(variable.path)}", variable)
        self.write_names(written, "weight_names", names.taken)

    def write_names(self, group: Group, attribute: str, names: list[str]) -> None:
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

    def _write(self, name: str, variable: Variable) -> None:
        known = self._placed.get(id(variable))
        if known is not None:
            self._datasets.link(name, known)  # tied weights
            return
        stored = self._placed[id(variable)] = self._datasets.add(name, lambda: _widen(to_array(variable)))
        path = self._paths.get(id(variable))
        if path is not None:
            self.index[path] = f"/{stored.path}"


def _convert_entry(value: object) -> Array:
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


def _write_model_weights(group: Group, model: Model, writer: _Writer) -> None:
    group.attrs["backend"] = keras.backend.backend()
    group.attrs["keras_version"] = keras.__version__
    writer.write_names(group, "layer_names", [layer.name for layer in model.layers])
    for layer in model.layers:
        writer.write_list(f"model_weights/{layer.name}", layer.trainable_weights + layer.non_trainable_weights)
    listed = {id(variable) for variable in model.weights}
    own = [v for v in [*model._trainable_variables, *model._non_trainable_variables] if id(v) in listed]
    writer.write_list("model_weights/top_level_model_weights", own)
