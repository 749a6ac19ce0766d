"""A model from an HDF5 file that Keras 1, 2 or 3 wrote."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import keras_explained
from exporter.saving.formats.parts.weights_file import StoredArrays
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.layout.documents import parse_json
from exporter.saving.legacy.freezing import freeze_as_stored
from exporter.saving.legacy.loading import build_model, check_vocabularies, compile_model, restore_optimizer
from exporter.saving.legacy.parts.findings import warn_of_loss
from exporter.saving.legacy.slots import StoredLayer, restore_keras_1, restore_slots
from exporter.saving.legacy.weights import assign_weights, find_layers, finish_layers, list_trainable
from exporter.saving.private_api import load_weights_from_hdf5_group
from exporter.saving.requests import LoadRequest
from exporter.saving.state.collecting import Array
from exporter.typing.hdf5 import File, Group
from exporter.typing.keras import Model, Optimizer, Variable
from exporter.typing.structures import Config

_WEIGHTS = "model_weights"
_SLOTS = "optimizer_weights"
# Keras 2 up to 2.0.5 trained variables in the order of their names: `_make_train_function` in its engine/training.py.
_SORTED = re.compile(r"2\.0\.[0-5]$")
# Keras before 2.4 did not write that a model inside of another one is frozen.
_UNWRITTEN = re.compile(r"[12]\.[0-3]\.")
_ADAPTED = "Save the model as `.keras` with the version that wrote this file: that holds them."


def read_stock(
    file: File,
    place: Path | str,
    request: LoadRequest,
) -> Model:
    """Loads a file that Keras wrote, with what was checked in the place of what it would read again."""
    with damage_explained(place):
        if "model_config" not in file.attrs:
            raise ArtifactError(
                f"{place} holds no model, only {', '.join(sorted(file)) or 'nothing'}: it has no attribute "
                "`model_config`. A file of weights alone needs the model: use `model.load_weights`."
            )
        texts = {name: file.attrs[name] for name in ("model_config", "training_config") if name in file.attrs}
        parts = [part for part in (file, file.get(_WEIGHTS)) if isinstance(part, h5py.Group)]
        version, backend = (
            next(filter(None, (_read_text(part, name) for part in parts)), "") for name in ("keras_version", "backend")
        )
    version = version or "1"  # Keras 1 before 1.1 wrote none
    configs = {name: parse_json(text, f"The attribute {name!r} of {place}") for name, text in texts.items()}
    body, training = configs["model_config"], configs.get("training_config") if request.compile else None
    if not isinstance(body, dict):
        raise ArtifactError(f"The attribute 'model_config' of {place} is damaged: it is no mapping.")
    if not isinstance(training, (dict, type(None))):
        raise ArtifactError(f"The attribute 'training_config' of {place} is damaged: it is no mapping.")
    model = build_model(body, version, place, request)
    arrays = StoredArrays(file, None, place)
    stored = _Stored(body, version, backend)
    _load_weights(arrays, model, stored)
    check_vocabularies(model, place, _ADAPTED)
    if training is not None:
        compile_model(model, training, version, place, request)
        if _SLOTS in file:
            _restore_optimizer(arrays, model, stored)
        else:
            warn_of_loss("The file does not hold the optimizer's state, which begins anew.")
    return model


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the file says of the model.

    Attributes:
        config: Its configuration.
        version: The version of Keras that wrote it.
        backend: What it computed with.
        layers: The layers with weights.
        by_name: The variables by their names in the file.
    """

    config: Config
    version: str
    backend: str
    layers: list[StoredLayer] = field(default_factory=list)
    by_name: dict[str, Variable] = field(default_factory=dict)


def _load_weights(arrays: StoredArrays, model: Model, stored: _Stored) -> None:
    """Loads the weights, and notes what they are called."""
    file, place = arrays.file, arrays.place
    with damage_explained(place, _WEIGHTS):
        group = file[_WEIGHTS]
        has_own = "top_level_model_weights" in group and len(group["top_level_model_weights"])
    layers = find_layers(model, stored.config)
    if not layers or has_own:
        with keras_explained(place):
            load_weights_from_hdf5_group(group, model)
        return
    for name in _read_names(group, "layer_names", place, _WEIGHTS):
        with damage_explained(place, name):
            listed = group[name]
        names = _read_names(listed, "weight_names", place, f"{_WEIGHTS}/{name}")
        if not names:
            continue
        if name not in layers:
            raise ArtifactError(f"{place} has weights for a layer {name!r}, which its configuration lacks.")
        stored.layers.append(StoredLayer(*layers[name], names))
        values = [(each, arrays.read(f"{_WEIGHTS}/{name}/{each}")) for each in names]
        with keras_explained(place):
            stored.by_name.update(assign_weights(*layers[name], values, stored.version, stored.backend))
    given = {each.layer.name for each in stored.layers}
    lacking = [layer.name for layer, _ in layers.values() if layer.weights and layer.name not in given]
    if lacking:
        raise ArtifactError(f"{place} has no weights for {', '.join(map(repr, lacking))}: the file is incomplete.")
    with keras_explained(place):
        finish_layers(model)


def _restore_optimizer(arrays: StoredArrays, model: Model, stored: _Stored) -> None:
    names = _read_names(arrays.file[_SLOTS], "weight_names", arrays.place, _SLOTS)

    def read(name: str) -> Array:
        return arrays.read(f"{_SLOTS}/{name}")

    if _UNWRITTEN.match(stored.version):
        frozen = freeze_as_stored(model, [shape for name in names if (shape := np.shape(read(name)))])
        if frozen:
            warn_of_loss(
                f"The file does not say that {', '.join(frozen)} was frozen: its optimizer has no slots for it."
            )

    def restore(optimizer: Optimizer) -> None:
        if stored.version.startswith("1"):
            restore_keras_1(optimizer, stored.layers, names, read, stored.version, stored.backend)
        else:
            variables = list_trainable(model, stored.config)
            if _SORTED.match(stored.version):
                own = {id(variable): name for name, variable in stored.by_name.items()}
                variables.sort(key=lambda variable: own.get(id(variable), ""))
            restore_slots(optimizer, variables, names, read, stored.by_name)

    restore_optimizer(model, names, arrays.place, restore)


def _read_text(group: Group, name: str) -> str:
    value = group.attrs.get(name, "")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _read_names(group: Group, attribute: str, place: Path | str, what: str) -> list[str]:
    """Reads names, which stand in numbered attributes where there are many."""
    found: dict[int, list[str | bytes]] = {}
    with damage_explained(place, what):
        for key, value in group.attrs.items():
            number = key.removeprefix(attribute)
            if key.startswith(attribute) and (number.isdigit() or not number):
                found[int(number or 0)] = np.atleast_1d(value).tolist()
    names = [name for number in sorted(found) for name in found[number]]
    if not all(isinstance(name, (str, bytes)) for name in names):
        raise ArtifactError(f"{place} is damaged: variables of {what} have names that are no texts.")
    return [name.decode(errors="replace") if isinstance(name, bytes) else name for name in names]
