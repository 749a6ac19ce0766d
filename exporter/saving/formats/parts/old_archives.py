"""Archives (`.keras`) that Keras 2.12 to 2.15, or an early Keras 3, wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import keras_explained
from exporter.saving.formats.parts.weights_file import StoredArrays, load_as_keras
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.legacy.loading import build_model, check_vocabularies, compile_model, restore_optimizer
from exporter.saving.legacy.parts.findings import warn_of_loss
from exporter.saving.legacy.slots import restore_slots
from exporter.saving.legacy.weights import find_layers, list_trainable
from exporter.saving.private_api import DiskIOStore, to_snake_case
from exporter.saving.requests import LoadRequest
from exporter.typing.hdf5 import File
from exporter.typing.keras import Layer, Model, Optimizer
from exporter.typing.structures import Config

_LAYERS = "layers"
# What Keras 2.12 and 2.13 called the layers of a Functional model: the name of an attribute, and a backslash.
_FORMERLY = "_layer_checkpoint_dependencies"
_OPTIMIZERS = ("optimizer/inner_optimizer/vars", "optimizer/vars")


def read_keras_2(
    config: Config, version: str, file: File, assets: DiskIOStore | None, place: Path, request: LoadRequest
) -> Model:
    """Loads an archive that Keras 2 wrote.

    Args:
        config: Its configuration.
        version: The version of Keras.
        file: Its weights, open and checked.
        assets: The files of layers; None for those of none.
        place: The archive, for errors.
        request: What is asked of the load.

    Raises:
        ArtifactError: It is refused, damaged, or needs code that is not here.
    """
    training = config.get("compile_config")
    model = build_model(config, version, place, request)
    places = _Places(file, place)
    with keras_explained(place):
        layers = list(_place_layers(model, config, "", places.is_former))
        if not layers and _LAYERS not in places.list_names():
            layers = list(_place_attributes(model, places))
        for layer, path in layers or [(model, "")]:
            load_as_keras(layer, file, assets, path, places.find)
    if places.unread:
        warn_of_loss(f"The file has weights that no layer takes: {', '.join(sorted(places.unread)[:5])}.")
    check_vocabularies(model, place, "Save the model as a SavedModel with the version that wrote this file.")
    if training:
        if not isinstance(training, dict):
            raise ArtifactError(f"{place} is damaged: its compile configuration is no mapping.")
        compile_model(model, training, version, place, request)
        _restore(model, config, file, place)
    return model


class _Places:
    """Where the variables of an archive are, by the paths that Keras has for them today.

    Attributes:
        unread: The paths that nobody asked for.
        is_former: Whether they are those of Keras 2.12 and 2.13.
    """

    def __init__(self, file: File, place: Path) -> None:
        self._paths: dict[str, str] = {}

        def note(path: str, found: Any) -> None:
            if isinstance(found, h5py.Group) and path.rpartition("/")[2] == "vars" and len(found):
                path = path.removesuffix("vars").rstrip("/")
                self._paths[modernize_path(path)] = path

        with damage_explained(place):
            file.visititems(note)
        self.is_former = any(_FORMERLY in path for path in self._paths.values())
        self.unread = {path for path in self._paths if path.partition("/")[0] not in ("optimizer", "metrics")}

    def find(self, path: str) -> str:
        """Returns where something is in the file, and notes that it was asked for."""
        self.unread.discard(path)
        return self._paths.get(path, path)

    def list_names(self) -> set[str]:
        """Lists the first parts of the paths."""
        return {path.partition("/")[0] for path in self._paths}


def modernize_path(path: str) -> str:
    """Returns the path of today: Windows wrote backslashes, and Keras 2.13 another name for layers."""
    return path.replace("\\", "/").replace(_FORMERLY, _LAYERS)


def _place_layers(model: Model, config: Config, above: str, is_former: bool) -> Iterator[tuple[Layer, str]]:
    """Gives the layers of a model and where they are: by the classes' names, counted in the order of the file.

    Keras 2.12 and 2.13 listed a layer with weights twice, and counted it twice.
    """
    counts: dict[str, int] = {}
    found = {id(layer): (layer, inner) for layer, inner in find_layers(model, config).values()}
    for layer, inner in found.values():
        name = to_snake_case(str(inner.get("class_name")).rpartition(">")[2])
        count = counts.get(name, 0)
        counts[name] = count + (2 if is_former and layer.weights else 1)
        path = f"{above}{_LAYERS}/{name}_{count}" if count else f"{above}{_LAYERS}/{name}"
        below = list(_place_layers(layer, inner, f"{path}/", is_former)) if isinstance(layer, keras.Model) else []
        yield from below or [(layer, path)]


def _place_attributes(model: Model, places: _Places) -> Iterator[tuple[Layer, str]]:
    """Gives the layers of a class of the user: Keras 2.12 and 2.13 knew them by their attributes."""
    for name in sorted(places.list_names()):
        value = getattr(model, name, None)
        if isinstance(value, keras.Layer):
            yield value, name
        elif isinstance(value, (list, tuple)) and name != _LAYERS:
            counts: dict[str, int] = {}
            for layer in value:
                kind = to_snake_case(type(layer).__name__)
                count = counts[kind] = counts.get(kind, -1) + 1
                yield layer, f"{name}/{kind}_{count}" if count else f"{name}/{kind}"


def _restore(model: Model, config: Config, file: File, place: Path) -> None:
    """Restores the optimizer's state, which stands in numbered datasets."""
    with damage_explained(place):
        path = next((path for path in _OPTIMIZERS if path in file), None)
        names = sorted(file[path], key=int) if path is not None else []
    if not names:
        warn_of_loss("The file does not hold the optimizer's state, which begins anew.")
        return
    arrays = StoredArrays(file, None, place)
    trained = list_trainable(model, config)

    def restore(optimizer: Optimizer) -> None:
        restore_slots(optimizer, trained, names, lambda name: arrays.read(f"{path}/{name}"), {})

    restore_optimizer(model, names, place, restore)


def scale_loss(config: Config, file: File) -> None:
    """Puts the optimizer that scales the loss into the configuration of an archive of Keras 3 that holds its state.

    Keras up to 3.1 did not name it: `compile` made it where the policy of the process was mixed.
    """
    training = config.get("compile_config")
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    if not isinstance(optimizer, dict) or not isinstance(training, dict) or "optimizer/inner_optimizer" not in file:
        return
    if optimizer.get("class_name") != "LossScaleOptimizer":
        training["optimizer"] = {
            "module": "keras.optimizers",
            "class_name": "LossScaleOptimizer",
            "config": {"inner_optimizer": optimizer},
            "registered_name": None,
        }
