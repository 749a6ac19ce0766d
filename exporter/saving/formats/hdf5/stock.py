"""A model from an HDF5 file that Keras 3 or Keras 2 wrote."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import keras_explained
from exporter.saving.formats.hdf5.configurations import resolve_names
from exporter.saving.formats.parts.weights_file import StoredArrays
from exporter.saving.layout.checksums import damage_explained
from exporter.saving.layout.documents import parse_json
from exporter.saving.private_api import (
    SafeModeScope,
    compile_args_from_training_config,
    decode_legacy_json,
    keras_option_scope,
    load_weights_from_hdf5_group,
    model_from_config,
)
from exporter.saving.rebuilding.deferral import defer_initialization
from exporter.saving.rebuilding.model_configuration import count_layers
from exporter.saving.requests import LoadRequest

# What the stock reader does not read of the outermost object.
_NOT_READ = ("module", "registered_name")

# What Keras 2 writes of an optimizer and Keras 3 does not take.
_GONE_ARGUMENTS = ("jit_compile", "is_legacy_optimizer")


def read_stock(
    file: h5py.File,
    place: Path | str,
    request: LoadRequest,
) -> keras.Model:
    """Loads a file that Keras wrote, with what was checked in the place of what it would read again."""
    with damage_explained(place):
        if "model_config" not in file.attrs:
            raise ArtifactError(
                f"{place} holds no model, only {', '.join(sorted(file)) or 'nothing'}: it has no attribute "
                "`model_config`. A file of weights alone needs the model: use `model.load_weights`."
            )
        given = {**keras.saving.get_custom_objects(), **request.custom_objects}
        texts = {name: file.attrs[name] for name in ("model_config", "training_config") if name in file.attrs}
    configs = {name: parse_json(text, f"The attribute {name!r} of {place}") for name, text in texts.items()}
    body, config = configs["model_config"], configs.get("training_config") if request.compile else None
    if not isinstance(body, dict):
        raise ArtifactError(f"The attribute 'model_config' of {place} is damaged: it is no mapping.")
    if not isinstance(config, (dict, type(None))):
        raise ArtifactError(f"The attribute 'training_config' of {place} is damaged: it is no mapping.")
    # The reader of the outermost object looks at nothing but its class_name.
    request.check([{key: value for key, value in body.items() if key not in _NOT_READ}, config])
    later = defer_initialization(count_layers(body))
    with keras_explained(place), keras_option_scope(use_legacy_config=True), SafeModeScope(request.safe_mode), later:
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
                config[key] = resolve_names(config.get(key), module)
        with keras_explained(place), SafeModeScope(request.safe_mode):
            model.compile(**compile_args_from_training_config(config, request.custom_objects))
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
