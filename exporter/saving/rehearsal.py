"""The configuration of a model, tried before anything is written: what is saved can be loaded."""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from exporter.errors import ArtifactError, ModelError
from exporter.saving.configuration.configurations import find_foreign_names
from exporter.saving.configuration.custom_code import find_code, find_replaced
from exporter.saving.contents import Omission
from exporter.saving.graph.captures import check_captures, find_used
from exporter.saving.rebuilding.compilation import UNCOMPILED, list_lost_parts, serialize_compile_extras
from exporter.saving.rebuilding.model_configuration import serialize_model
from exporter.saving.rebuilding.record import (
    StateReader,
    StateRecord,
    describe_state,
    find_misfits,
    read_assets,
    rebuild_state,
)
from exporter.saving.requests import LoadRequest, SaveRequest
from exporter.saving.state.collecting import Array, State, collect, set_attachments, to_array
from exporter.saving.state.process_state import process_kept
from exporter.text.failures import name_origin
from exporter.typing.keras import Model
from exporter.typing.structures import Config
from exporter.typing.tensorflow import Resource

# Where Keras's own classes of layers and models say that they are from.
_LAYER_MODULES = ("keras.layers", "keras.models", "keras.src.models")

_REPLACED = "it was set on the object, and another object is made of its class; define the method in a class"


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a model beside its values.

    Attributes:
        config: Its configuration; None if it has none that makes the same model again.
        left_out: What the configuration does not hold, and why.
    """

    config: Config | None
    left_out: tuple[Omission, ...]


class MisfitError(ModelError):
    """The configuration of a model makes another model.

    Attributes:
        reason: In what the other one differs.
    """

    def __init__(self, name: str, why: str, own_code: bool) -> None:
        self.reason = f"The configuration of the model {name!r} does not make the same model again: {why}"
        remedy = "Save it with save_format='tf', where it is stored as TensorFlow functions."
        if own_code:
            remedy = (
                "Let `get_config` of each of its classes return all arguments of its constructor, and `build` make all "
                "of its weights; or save it with save_format='tf', where it is stored as TensorFlow functions."
            )
        super().__init__(f"{self.reason} {remedy}")


def describe_model(request: SaveRequest, holds_functions: bool) -> Description:
    """Makes the configuration of a model, and tries whether it makes the same model again.

    Args:
        request: What is asked of the save.
        holds_functions: Whether the functions of the model are saved as well, with all that they use.

    Returns:
        The configuration, and the parts of the compile configuration that it cannot hold.

    Raises:
        ModelError: The model has no configuration, or it makes another model; with the reason and a remedy.
    """
    model, lost = request.model, dict[str, str]()
    config = serialize_model(model, request.include_optimizer, lost)
    if request.include_optimizer:
        serialize_compile_extras(model, lost)
    body = {key: value for key, value in config.items() if key != "compile_config"}
    if not holds_functions and find_foreign_names(body):
        check_captures(model)
    why, replaced = _rehearse(request, config)
    if why is not None:
        raise MisfitError(model.name, why, own_code=bool(find_foreign_names(config)))
    left_out = [Omission(f"{name} of {owner}", _REPLACED) for owner, name in replaced]
    return Description(config, (*list_lost_parts(lost), *left_out))


def _rehearse(request: SaveRequest, config: Config) -> tuple[str | None, list[tuple[str, str]]]:
    """Loads a model from its configuration, without values.

    Returns:
        In what it differs, None if in nothing; and the methods that were replaced on an object of the model alone, each
        with the name of that object.
    """
    model, include_optimizer = request.model, request.include_optimizer
    if hasattr(model, "loaded_artifact"):  # its layers are those of the artifact that it was revived from
        return None, []
    with process_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = collect(model, include_optimizer)
        replaced = _list_replaced(state)
        record = describe_state(model, state, include_optimizer)
        code = find_code(*(saveable.target for saveable in state.tree))
        compiled_with = getattr(model, "_compile_config", None)
        if include_optimizer and model.compiled and compiled_with is not None:
            code |= find_code(compiled_with.config)
        if not (code or _needs_trial(config, record)):
            return None, list(replaced.values())
        try:
            rebuilt, compiled = rebuild_state(
                copy.deepcopy(config), record, _LiveReader(state), LoadRequest(code, safe_mode=False)
            )
        except ArtifactError as error:
            return str(error).removesuffix(f" {UNCOMPILED}") + name_origin(error), []
        rebuilt_state = collect(rebuilt, compiled)
        made_again = _list_replaced(rebuilt_state) if replaced else {}
        replaced = {key: value for key, value in replaced.items() if key not in made_again}
        if _set_attachments_aside(model, state, rebuilt_state):
            record = describe_state(model, collect(model, include_optimizer), include_optimizer)
        misfits = find_misfits(rebuilt_state, record, compiled, "the model made from the configuration", "the original")
    return f"{misfits}." if misfits else None, list(replaced.values())


def _list_replaced(state: State) -> dict[tuple[str, str], tuple[str, str]]:
    """Lists the methods that were replaced on an object: by its path and its name, with the name of the object."""
    layers = {id(each.target): each for each in reversed(state.tree) if isinstance(each.target, keras.layers.Layer)}
    return {
        (saveable.path, name): (saveable.target.name, name)
        for saveable in reversed(layers.values())
        for name in find_replaced(saveable.target)
    }


def _set_attachments_aside(model: Model, state: State, rebuilt: State) -> bool:
    """Takes out of a model's state what was attached to it and is not made again with it, if the model does not use it.

    Returns:
        Whether there was such.
    """
    attributes: dict[str, Resource] = {
        path: variable.value for path, variable in state.variables.items() if path not in rebuilt.variables
    }
    attributes |= {path: table.resource for path, table in state.tables.items() if path not in rebuilt.tables}
    absent = [owner for path, owner in attributes.items() if "/attributes/" in f"/{path}"]
    if not absent:
        return False
    used = set(map(id, find_used(model)))
    attachments = [owner for owner in absent if id(owner) not in used]
    set_attachments(model, attachments)
    return bool(attachments)


def _needs_trial(config: Config, record: StateRecord) -> bool:
    """Returns whether a configuration may make another model.

    One that names nothing but layers of Keras's own, none inside another one, was tried by those who made them.
    """
    return bool(record.acquired) or bool(find_foreign_names(config)) or _holds_layers_in_layers(config)


def _holds_layers_in_layers(config: Config) -> bool:
    pending: list[object] = [layer.get("config") for layer in config.get("config", {}).get("layers", ())]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "class_name" in node and str(node.get("module")).startswith(_LAYER_MODULES):
                return True
            pending += node.values()
        elif isinstance(node, (list, tuple)):
            pending += node
    return False


class _LiveReader(StateReader):
    """Reads what a model stores from the model itself."""

    def __init__(self, state: State) -> None:
        entries = {saveable.path: saveable.entries for saveable in state.tree}
        assets: dict[str, bytes] = {}

        def read_entries(address: str) -> Mapping[str, Array]:
            return {key: _convert(value) for key, value in entries.get(address, {}).items()}

        def read_asset(name: str) -> bytes:
            if not assets:
                assets.update(read_assets(state))
            return assets[name]

        super().__init__(variable=lambda path: to_array(state.variables[path]), entries=read_entries, asset=read_asset)


def _convert(value: object) -> Array:
    return to_array(value) if isinstance(value, keras.Variable) else np.asarray(keras.ops.convert_to_numpy(value))
