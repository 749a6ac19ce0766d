"""A model of older Keras: built of its translated configuration, compiled, and its optimizer's state restored."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS, explain, keras_explained
from exporter.saving.layout.documents import list_mappings
from exporter.saving.legacy.configurations import translate_compile, translate_model
from exporter.saving.legacy.slots import SlotsError, is_of_today
from exporter.saving.private_api import (
    BUILTIN_MODULES,
    IndexLookup,
    ObjectSharingScope,
    SafeModeScope,
    get_symbol_from_name,
)
from exporter.saving.rebuilding.deferral import defer_initialization
from exporter.saving.rebuilding.model_configuration import count_layers
from exporter.saving.requests import LoadRequest
from exporter.typing.keras import Model, Optimizer
from exporter.typing.structures import Config

_GRAPH = (
    "Save the model as a SavedModel, `model.save(directory)`, with the version that wrote this file: it holds the "
    "computation, and `load_model` takes it."
)
# Of the outermost object, whose class alone counts.
_NOT_READ = ("module", "registered_name")

_COMPILE = "Or load the model with compile=False, and compile it anew."


def build_model(config: Config, version: str, place: Path | str, request: LoadRequest) -> Model:
    """Builds a model, uncompiled and without its weights.

    Args:
        config: Its `class_name` and `config`, as older Keras wrote them.
        version: The version that wrote it.
        place: The artifact, for errors.
        request: What is asked of the load.

    Raises:
        ArtifactError: It is refused, needs code that is not here, or Keras cannot build it.
    """
    if version.startswith("3"):  # nothing of it changes its name: it is refused for what it says itself
        request.check({key: value for key, value in config.items() if key not in _NOT_READ})
    translated = translate_model(config, version, request.custom_objects)
    _check_code(translated, place, request)
    request.check(translated)
    later = defer_initialization(count_layers(translated))
    try:
        with ObjectSharingScope(), SafeModeScope(request.safe_mode), later:
            model = request.deserialize(translated)
    except ArtifactError:
        raise
    except (*LOAD_FAULTS, EOFError) as error:
        # What Python says of the code of a lambda, which only the version that wrote it can read.
        if isinstance(error, EOFError) or "marshal" in str(error):
            raise ArtifactError(
                f"{place} holds the code of a Python lambda of another version of Python.", _GRAPH
            ) from error
        raise ArtifactError(f"{place} cannot be rebuilt: {explain(error)}") from error
    if not isinstance(model, keras.Model):
        raise ArtifactError(f"{place} holds a {type(model).__name__}, not a keras.Model.")
    built: Model = model
    return built


def compile_model(model: Model, config: Config, version: str, place: Path | str, request: LoadRequest) -> None:
    """Compiles a model as the file says.

    Args:
        model: It, with its weights.
        config: The compile configuration, as older Keras wrote it.
        version: The version that wrote it.
        place: The artifact, for errors.
        request: What is asked of the load.

    Raises:
        ArtifactError: It is refused, or needs code that is not here.
    """
    translated = translate_compile(config, version, len(getattr(model, "outputs", None) or [None]))
    _check_code(translated, place, request, _COMPILE)
    request.check(translated)
    with keras_explained(place), SafeModeScope(request.safe_mode):
        arguments = {key: request.deserialize(value) for key, value in translated.items()}
        model.compile(**arguments)


def restore_optimizer(
    model: Model, names: Sequence[str], place: Path | str, restore: Callable[[Optimizer], None]
) -> None:
    """Gives a compiled model's optimizer the state in the file.

    Args:
        model: The model.
        names: Of the optimizer's variables in the file.
        place: The artifact, for errors.
        restore: Does it, with the optimizer built; raises a `SlotsError` if they do not fit.

    Raises:
        ArtifactError: They do not fit.
    """
    optimizer = model.optimizer
    try:
        with keras_explained(place):
            if len(names) > (len(optimizer.variables) if is_of_today(names) else 1):  # it has trained
                optimizer.build(model.trainable_variables)
            restore(optimizer)
    except SlotsError as error:
        raise ArtifactError(
            f"{place} holds {len(names)} optimizer variables, which do not fit {type(optimizer).__name__} for this "
            f"model: {error}. Load it with compile=False and compile it anew."
        ) from error


def check_vocabularies(model: Model, place: Path | str, remedy: str) -> None:
    """Refuses a model whose lookup layers have nothing to look up.

    Args:
        model: The model.
        place: The artifact, for errors.
        remedy: What to do.

    Raises:
        ArtifactError: The file did not hold what was adapted.
    """
    empty = []
    for layer in model._flatten_layers():
        if isinstance(layer, IndexLookup) and not len(layer.get_vocabulary(include_special_tokens=False)):
            empty.append(f"{type(layer).__name__} {layer.name!r}")
        elif isinstance(layer, keras.layers.Discretization) and not layer.bin_boundaries:
            empty.append(f"Discretization {layer.name!r}")
    if empty:
        raise ArtifactError(
            f"{place} does not hold what was adapted, the words or bounds of {', '.join(empty)}.", remedy
        )


def _check_code(translated: Config, place: Path | str, request: LoadRequest, remedy: str = "") -> None:
    """Finds all of the user's code at once; what is given without its package is taken."""
    missing = []
    for node in list_mappings(translated):
        class_name, inner = node.get("class_name"), node.get("config")
        for key, name in node.items():  # older versions named these by nothing but a text
            if key.endswith("activation") and isinstance(name, str):
                missing += [] if request.is_at_hand(name) or _is_activation(name) else [_word_function(name)]
        if class_name == "function" and isinstance(inner, str):
            if request.is_at_hand(inner) or any(get_symbol_from_name(f"keras.{m}.{inner}") for m in BUILTIN_MODULES):
                continue
            missing.append(_word_function(inner))
        elif isinstance(class_name, str) and "module" in node and node["module"] is None:
            registered = node.get("registered_name")
            if isinstance(registered, str) and request.is_at_hand(registered):
                continue
            if request.is_at_hand(class_name):
                node["registered_name"] = class_name
                continue
            missing.append(f"the class {registered!r}")
    if missing:
        raise ArtifactError(
            f"{place} needs code that is not in it: {', '.join(dict.fromkeys(missing))}.",
            "Import the module that defines it, register it with `@keras.saving.register_keras_serializable()`, or "
            f"name it in `custom_objects`. {remedy}".strip(),
        )


def _word_function(name: str) -> str:
    return "the code of a Python lambda, named '<lambda>'" if name == "<lambda>" else f"the function {name!r}"


def _is_activation(name: str) -> bool:
    """Tells whether Keras has an activation of a name, also of an older one."""
    try:
        return keras.activations.get(name) is not None
    except ValueError:
        return False
