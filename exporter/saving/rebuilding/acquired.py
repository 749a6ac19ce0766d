"""What a layer acquires after it was made and its parent's configuration need not tell: adaptation and quantization.

A layer says itself what it has acquired: its attributes that are named after LoRA, the mode and the configuration of
its quantization, and its variables. It is put back by the layer's own `enable_lora` and `quantize`, before the values
are loaded. The order of these two does not matter: a layer's variables are put into the order that was recorded.
"""

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache

import keras

from exporter.errors import ArtifactError
from exporter.processes.collector import living_set_aside
from exporter.saving.rebuilding.deferral import defer_initialization
from exporter.saving.requests import LoadRequest
from exporter.saving.state.collecting import State
from exporter.saving.state.tree import join
from exporter.typing.keras import Layer, Variable
from exporter.typing.structures import Config

_PLAIN = (bool, int, float, str, type(None))


def collect_acquired(state: State) -> dict[str, Config]:
    """Describes what the layers of a model have acquired, by their address."""
    acquired: dict[str, Config] = {}
    for saveable in state.tree:
        if hasattr(saveable.target, "revived_acquired"):
            for place, described in saveable.target.revived_acquired.items():
                acquired[join(saveable.path, place) if place else saveable.path] = described
        elif isinstance(saveable.target, keras.layers.Layer):
            found = describe_acquired(saveable.target)
            if found is not None:
                acquired[saveable.path] = found
    return acquired


def describe_acquired(layer: Layer) -> Config | None:
    """Describes what a layer has acquired.

    Args:
        layer: A layer of a built model.

    Returns:
        Plain data for `put_back`; None for a layer that is as its configuration makes it. `adaptation` has the
        attributes that are named after LoRA, `quantization` the mode and the configuration, `quantizers` and `flags`
        what a quantized layer calculates with, and `variables` the name, dtype and shape of those that the layer
        tracks, in order: the ones that its flag governs, and the others.
    """
    described: Config = {}
    adaptation = dict(_find_adaptation(layer)) if hasattr(layer, "enable_lora") else {}
    if any(adaptation.values()):
        described["adaptation"] = adaptation
    if is_quantized(layer):
        described["quantization"] = {
            "mode": layer.quantization_mode,
            "config": _serialize_quantization(getattr(layer, "quantization_config", None)),
        }
        described["quantizers"] = {
            name: keras.saving.serialize_keras_object(value) for name, value in _find_own(layer, keras.Quantizer)
        }
        described["flags"] = dict(_find_own(layer, bool))
    if described:
        described["variables"] = [
            [_describe_variable(variable) for variable in store]
            for store in (layer._trainable_variables, layer._non_trainable_variables)
        ]
    return described or None


def is_quantized(layer: Layer) -> bool:
    """Returns whether `quantize` has changed this layer, or it was built quantized."""
    return layer.quantization_mode is not None and vars(layer).get("_is_quantized") is True


def is_adapted(layer: Layer) -> bool:
    """Returns whether `enable_lora` has changed this layer."""
    return getattr(layer, "lora_enabled", False) is True


def put_back(
    targets: Mapping[str, Layer],
    acquired: Mapping[str, Config],
    request: LoadRequest,
) -> None:
    """Lets layers acquire what was recorded; their values come later.

    Args:
        targets: The layers, by their address; parents first, since a parent may adapt and quantize what is inside it.
        acquired: What `describe_acquired` returned, by the layer's address.
        request: What is asked of the load.

    Raises:
        ArtifactError: A record names something that a layer cannot acquire.
    """
    replaces = any(
        "quantization" in described and path in targets and not is_quantized(targets[path])
        for path, described in acquired.items()
    )
    # Keras collects garbage for each variable that a quantization replaces.
    with defer_initialization(), living_set_aside() if replaces else nullcontext(), warnings.catch_warnings():
        # Keras gives TensorFlow's variables to NumPy, whose new `copy` argument they do not take yet.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        for path, layer in targets.items():
            if path in acquired:
                described = acquired[path]
                _adapt(layer, described.get("adaptation", {}))
                if "quantization" in described:
                    _quantize(layer, path, described, request)
                _arrange_variables(layer, described["variables"])


def put_flags_back(targets: Mapping[str, Layer], acquired: Mapping[str, Config]) -> None:
    """Gives quantized layers the flags by which they calculate, after they loaded what they stored by themselves.

    Args:
        targets: The layers, by their address.
        acquired: As for `put_back`.
    """
    for path in targets.keys() & acquired.keys():
        present = dict(_find_own(targets[path], bool))
        for name, flag in acquired[path].get("flags", {}).items():
            if name in present and present[name] != flag:
                setattr(targets[path], name, flag is True)


def _adapt(layer: Layer, adaptation: Config) -> None:
    if adaptation.get("lora_enabled") is True and not is_adapted(layer):
        layer.enable_lora(adaptation["lora_rank"])
    present = dict(_find_adaptation(layer))
    for name, value in adaptation.items():
        # What the class has is code. Keras's `build` forgets alpha, and KerasHub's backbones know whom they adapted.
        if "lora" in name and not hasattr(type(layer), name) and _is_plain(value) and present.get(name) != value:
            setattr(layer, name, value)


def _quantize(layer: Layer, path: str, described: Config, request: LoadRequest) -> None:
    def revive(config: Config | None, kind: type) -> object:
        made = request.deserialize(config) if config else None
        if made is not None and not isinstance(made, kind):
            raise ArtifactError(
                f"The artifact's state record is damaged: {path or 'the model'} was quantized with a "
                f"{type(made).__name__}, which is no {kind.__name__}."
            )
        return made

    quantization = described["quantization"]
    config = revive(quantization["config"], keras.quantizers.QuantizationConfig)
    if not is_quantized(layer):
        # Keras refuses a layer of a subclass, unless it is told that this is meant.
        takes = inspect.signature(layer.quantize).parameters
        options = {"type_check": False} if "type_check" in takes else {}
        layer.quantize(quantization["mode"], config=config, **options)
    if hasattr(layer, "quantization_config"):
        layer.quantization_config = config
    kept = described["quantizers"]
    for name in {name for name, _ in _find_own(layer, keras.Quantizer)} - set(kept):
        setattr(layer, name, None)
    for name, each in kept.items():
        if not hasattr(type(layer), name):
            setattr(layer, name, revive(each, keras.Quantizer))


def _arrange_variables(layer: Layer, recorded: Sequence[Sequence[object]]) -> None:
    """Puts a layer's variables into the recorded order, and takes away those that its quantization replaced.

    A layer that does not have all of the recorded variables stays as it is: the misfit is named where values are given.
    """
    stores = (layer._trainable_variables, layer._non_trainable_variables)
    left = [(_describe_variable(variable), variable) for store in stores for variable in store]
    arranged: list[list[Variable]] = []
    for expected in recorded:
        arranged.append([])
        for described in expected:
            number = next((number for number, (each, _) in enumerate(left) if each == described), None)
            if number is None:
                return
            arranged[-1].append(left.pop(number)[1])
    replaced = {id(variable) for _, variable in left}
    for name in [name for name, value in vars(layer).items() if id(value) in replaced]:
        delattr(layer, name)
    for store, variables in zip(stores, arranged, strict=True):
        store[:] = variables


def _describe_variable(variable: Variable) -> list[object]:
    return [variable.name, variable.dtype, list(variable._shape)]


def _find_adaptation(layer: Layer) -> Iterator[tuple[str, object]]:
    for name, value in vars(layer).items():
        if "lora" in name and _is_plain(value):
            yield name, list(value) if isinstance(value, (list, tuple)) else value


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, (list, tuple)) and all(map(_is_plain, value)))


def _find_own(layer: Layer, kind: type) -> Iterator[tuple[str, object]]:
    """Gives the attributes of a kind that a layer has beyond those of every layer."""
    for name, value in vars(layer).items():
        if isinstance(value, kind) and name not in _list_common():
            yield name, value


@cache
def _list_common() -> frozenset[str]:
    # A name, since an automatic one would change those of the user's next layers.
    return frozenset(dir(keras.layers.Layer(name="skipped")))


def _serialize_quantization(config: object) -> Config | None:
    """Serializes the configuration of a quantization, without the layers that it was calibrated through."""
    if config is None:
        return None
    light = copy.copy(config)
    for name, value in list(vars(light).items()):
        if any(isinstance(leaf, keras.layers.Layer) for leaf in keras.tree.flatten(value)):
            setattr(light, name, None)
    serialized: Config = keras.saving.serialize_keras_object(light)
    return serialized
