"""A Keras model from a SavedModel that Keras 2 wrote."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS, explain
from exporter.saving.contents import Omission, Tensor, note_lost
from exporter.saving.formats.saved_model.keras_2.metadata import Metadata
from exporter.saving.formats.saved_model.keras_2.optimizers import restore_optimizer
from exporter.saving.formats.saved_model.keras_2.variables import Stored, pair_variables, read_all
from exporter.saving.formats.saved_model.keras_2.vocabularies import find_lookups, forget_files, restore_vocabulary
from exporter.saving.legacy.loading import build_model, compile_model
from exporter.saving.legacy.parts.findings import losses_collected
from exporter.saving.requests import LoadRequest
from exporter.saving.revival.foreign.reviving import load_foreign
from exporter.text.showing import join_lines
from exporter.typing.keras import Model, Variable
from exporter.typing.structures import Config


def rebuild_keras_2(path: Path, metadata: Metadata, request: LoadRequest) -> Model:
    """Rebuilds the model with its layers, compiles it, and restores its optimizer.

    Args:
        path: The SavedModel; in safe mode its graph has been checked.
        metadata: What Keras 2 noted of its objects.
        request: What is asked of the load.

    Returns:
        The model; what it is without is noted, see `list_lost`.

    Raises:
        ArtifactError: Its layers cannot be rebuilt.
    """
    root = metadata.read(0)
    version = str(root.get("keras_version", "2"))
    lost: list[Omission] = []
    with _losses_noted("layers", lost):
        config = forget_files({name: root.get(name) for name in ("class_name", "config")})
        model: Model = build_model(config, version, path, request)
    _build(model, root, metadata.inputs)
    stored = Stored.open(path)
    pairs = pair_variables(model, stored, metadata)
    read_all(pairs, stored)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    lookups = list(find_lookups(model, metadata))
    if lookups:
        loaded, _ = load_foreign(path, None)
        for layer, place in lookups:
            _restore(layer, loaded, place)
    if request.compile and isinstance(root.get("training_config"), dict):
        _compile(model, path, root["training_config"], version, request, lost)
        if model.compiled:
            _restore_optimizer(model, stored, pairs, lost)
    note_lost(model, lost)
    return model


def _build(model: Any, root: Config, inputs: Mapping[str, Tensor]) -> None:
    """Lets a model of a class of its own make its variables, by a call on what it was called with."""
    if model.built and model.weights:
        return
    arguments = _read_inputs(root.get("save_spec"))
    if arguments is None:
        arguments = _read_inputs(root.get("build_input_shape"))
    if arguments is None:  # TensorFlow 2.4 and before: the endpoint has what it was called with
        named = {
            name: keras.KerasTensor((None, *(tensor.shape or ())[1:]), tensor.dtype) for name, tensor in inputs.items()
        }
        arguments = next(iter(named.values())) if len(named) == 1 else named
    try:
        with warnings.catch_warnings():
            # Keras only warns where a layer of the model was not called, and has no variables.
            warnings.filterwarnings("error", message="`build\\(\\)` was called on layer")
            model(arguments)
    except (*LOAD_FAULTS, UserWarning) as error:
        raise ArtifactError(f"The model {model.name!r} cannot be called as it was: {explain(error)}") from error


def _read_inputs(value: Any) -> Any:
    """Reads the shapes or descriptions of what a model was called with, as tensors without values."""
    if isinstance(value, dict):
        if value.get("class_name") == "TypeSpec":
            shape, dtype, *_ = *list(value.get("serialized") or []), None, None
            return keras.KerasTensor(_read_shape(shape), dtype or "float32")
        if value.get("class_name") == "TensorShape":
            return keras.KerasTensor(_read_shape(value), "float32")
        if value.get("class_name") == "__tuple__":
            return _read_inputs(value.get("items"))
        return {key: _read_inputs(item) for key, item in value.items()}
    if isinstance(value, list):
        if all(isinstance(each, int | None) for each in value):
            return keras.KerasTensor(_read_shape({"items": value}), "float32")
        return [_read_inputs(item) for item in value]
    return None


def _read_shape(value: Any) -> tuple[int | None, ...]:
    sizes = value.get("items") if isinstance(value, dict) else None
    return (None, *sizes[1:]) if isinstance(sizes, list) else (None,)


def _restore(layer: Any, loaded: Any, place: tuple[str, ...]) -> None:
    for name in place:
        loaded = getattr(loaded, name)
    restore_vocabulary(layer, loaded)


def _compile(
    model: Model, path: Path, training: Config, version: str, request: LoadRequest, lost: list[Omission]
) -> None:
    try:
        with _losses_noted("compile configuration", lost):
            compile_model(model, training, version, path, request)
    except ArtifactError as error:
        why = f"the SavedModel's own could not be rebuilt: {join_lines(error)}"
        lost.append(Omission("compile configuration", why))
        lost.append(
            Omission("optimizer", "the SavedModel's own could not be rebuilt without the compile configuration")
        )


def _restore_optimizer(model: Model, stored: Stored, pairs: dict[int, Variable], lost: list[Omission]) -> None:
    try:
        restore_optimizer(model, stored, pairs)
    except ArtifactError as error:
        fresh: Any = type(model.optimizer).from_config(model.optimizer.get_config())
        model.optimizer = fresh
        why = f"the SavedModel's own could not be rebuilt: {join_lines(error)}. It begins anew"
        lost.append(Omission("optimizer", why))


@contextmanager
def _losses_noted(what: str, lost: list[Omission]) -> Iterator[None]:
    """Notes what is warned of as lost."""
    told: list[str] = []
    with losses_collected(told):
        yield
    lost += [Omission(what, loss) for loss in told]
