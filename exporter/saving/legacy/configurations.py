"""The configuration of a model of older Keras in Keras 3's terms."""

import inspect
from collections.abc import Collection
from functools import cache
from typing import Any

import keras

from exporter.errors import ArtifactError
from exporter.saving.layout.documents import MAX_DEPTH
from exporter.saving.legacy.classes import OWN_CLASSES, describe_own
from exporter.saving.legacy.parts.findings import Findings, damage_told
from exporter.saving.legacy.parts.keras_1 import modernize_keras_1
from exporter.saving.legacy.parts.names import find_name, name_layers, translate_name
from exporter.saving.legacy.parts.nodes import Graph, translate_call, translate_ends
from exporter.saving.legacy.parts.objects import (
    find_kind,
    find_part,
    translate_activation,
    translate_part,
    translate_policy,
)
from exporter.saving.legacy.parts.rules import (
    GONE_CLASSES,
    IMPLIED,
    MODULES,
    RENAMED_CLASSES,
    RULES,
    Dropped,
    Lost,
    Renamed,
)
from exporter.saving.legacy.parts.tf_layers import TF_LAYERS, translate_tf_layer
from exporter.saving.legacy.parts.training import translate_compile
from exporter.saving.private_api import layers_by_name, list_operations
from exporter.typing.structures import Config

__all__ = ["translate_compile", "translate_model"]

_ACTIVATIONS = ("activation", "recurrent_activation")
_PASSING = {"AddLoss": "the loss that `add_loss` added", "AddMetric": "the metric that `add_metric` added"}
# Texts that Keras 2 wrote in place of what JSON has no form for.
_SHAPES = ("__tuple__", "TensorShape")
# Keras 2.12 wrote numbers that it had in NumPy's form.
_ARRAYS = ("__numpy__", "__tensor__")

_REMEDY = (
    "Save the model as a SavedModel, `model.save(directory)`, with the version that wrote this file: it holds the "
    "computation, and `load_model` takes it."
)
_OWN = (
    "Or give a class of your own that computes the same: model.custom_objects.{0}=my_package.{0}, in Python "
    "custom_objects={{{0!r}: {0}}}."
)


def translate_model(config: Config, version: str = "2", given: Collection[str] = ()) -> Config:
    """Translates a model.

    Args:
        config: Its `class_name` and `config`, as Keras 1 or 2, or Keras 3 in its legacy layout, wrote them.
        version: The version of Keras that wrote it.
        given: The names in `custom_objects`, which stand for classes that Keras has no more.

    Returns:
        What `keras.saving.deserialize_keras_object` takes, without a compile configuration. A class of the user has
        no `module`, and the `registered_name` under which `custom_objects` may have it.

    Raises:
        ArtifactError: It is damaged, or has parts for which there is nothing in Keras 3; all of them are named.

    Warns:
        LeftOutWarning: Something is lost that predictions do not need.
    """
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ArtifactError("The model's configuration is damaged: expected a mapping with a class_name.")
    findings = Findings(version)
    translator = _Translator(findings, given)
    with damage_told("The model's configuration"):
        translated = translator.translate_layer({k: v for k, v in config.items() if k != "compile_config"}, 0)
        if translated["module"] is None and "build_config" in config:
            translated["build_config"] = translator.translate_value(config["build_config"], "", 0)
    gone = next((name for name in GONE_CLASSES if name in translator.gone), None)
    remedies = [_REMEDY, *([_OWN.format(gone)] if gone else [])]
    findings.tell("The model has parts that Keras 3 has no counterpart for", " ".join(remedies))
    return translated


class _Translator:
    def __init__(self, findings: Findings, given: Collection[str]) -> None:
        self._findings, self._given = findings, given
        self.gone: set[str] = set()

    def translate_layer(self, node: Config, depth: int) -> Config:
        """Translates a layer or a model, but for its calls."""
        class_name, inner = node["class_name"], node.get("config")
        if self._findings.version.startswith("1"):
            class_name, inner = modernize_keras_1(class_name, inner, self._findings)
        name = RENAMED_CLASSES.get(class_name, class_name) if self._findings.is_old else class_name
        if isinstance(inner, list):
            inner = {"name": "sequential", "layers": inner}
        if not isinstance(inner, dict):
            raise ArtifactError(f"The configuration is damaged: that of {class_name!r} is no mapping.")
        inner = {**IMPLIED.get(class_name, {}), **inner} if self._findings.is_old else dict(inner)
        place = f"{class_name} {inner.get('name', '')!r}"
        found = self._find(node, name)
        if found is None:
            return self._translate_custom(node, class_name, inner, depth)
        module, kind = found
        if kind is OWN_CLASSES.get(name):
            return describe_own(name, self._translate_arguments(name, kind, inner, place, depth))
        if issubclass(kind, keras.Sequential):
            return _name(module, name, class_name, self._translate_sequential(inner, depth))
        if "layers" in inner and "input_layers" in inner:
            return _name(module, name, class_name, self._translate_functional(inner, depth))
        if class_name in _PASSING or kind is keras.layers.Identity:
            inner = {key: inner[key] for key in ("name", "dtype") if key in inner}
        if name == "Lambda":
            inner = _translate_lambda(inner)
        arguments = self._translate_arguments(name, kind, inner, place, depth)
        return _name(module, name, class_name, arguments)

    def _find(self, node: Config, name: str) -> tuple[str, type] | None:
        if name in _PASSING:
            self._findings.lost.append(f"{_PASSING[name]} is gone: Keras 3 has it in a layer's own `call`.")
            return "keras.layers", keras.layers.Identity
        if _is_foreign(node.get("module")) or name in self._given:
            return None
        if self._findings.is_old and not _is_registered(name):
            if name in GONE_CLASSES:
                self.gone.add(name)
                self._findings.faults.append(f"{name} {GONE_CLASSES[name]}")
                return "keras.layers", keras.layers.Identity
            own = OWN_CLASSES.get(name)
            if own is not None:
                return own.__module__, own
        if name in MODULES:
            found = layers_by_name().get(name) or find_part(MODULES[name], name)
            return (MODULES[name], found) if isinstance(found, type) else None
        found = find_part("keras.layers", name)
        if found is not None:
            return "keras.layers", found
        operation = list_operations().get(name) if not self._findings.is_old else None
        return (operation.__module__, operation) if operation is not None else None

    def _translate_custom(self, node: Config, class_name: str, inner: Config, depth: int) -> Config:
        """Translates what the user's class holds of Keras's: its code is taken as it is."""
        registered = node.get("registered_name") or class_name
        if "layers" in inner and "input_layers" in inner:
            arguments = self._translate_functional(inner, depth)
        else:
            arguments = {key: self.translate_value(value, key, depth + 1) for key, value in inner.items()}
            for key in ("batch_input_shape", *(("dynamic",) if not inner.get("dynamic") else ())):
                arguments.pop(key, None)
        return {
            "module": None,
            "class_name": class_name.rpartition(">")[2],
            "config": arguments,
            "registered_name": registered,
        }

    def _translate_sequential(self, inner: Config, depth: int) -> Config:
        listed = _list_layers(inner)
        names = name_layers(listed)
        layers: list[Config] = []
        for number, layer in enumerate(listed):
            translated = self._translate_listed(layer, names, depth)
            settings = layer["config"] if isinstance(layer.get("config"), dict) else {}
            shape = settings.get("batch_input_shape")
            if number == 0 and shape is not None and layer["class_name"] != "InputLayer":
                layers.append(_make_input(shape, settings, f"{translated['config'].get('name')}_input"))
            layers.append(translated)
        kept: Config = {key: inner[key] for key in ("trainable", "dtype") if key in inner}
        arguments = self._translate_arguments("Sequential", keras.Sequential, kept, "Sequential", depth)
        arguments.update(name=translate_name(str(inner.get("name", "sequential"))), layers=layers)
        if inner.get("build_input_shape") is not None:
            arguments["build_input_shape"] = self.translate_value(inner["build_input_shape"], "", depth)
        return arguments

    def _translate_functional(self, inner: Config, depth: int) -> Config:
        listed = [{"name": find_name(each), **each} for each in _list_layers(inner)]
        names = name_layers(listed)
        graph = Graph(listed, names)
        kinds: dict[str, str] = {}
        layers = []
        for layer in listed:
            calls = self.translate_value(layer.get("inbound_nodes") or [], "inbound_nodes", depth + 1)
            if layer["class_name"] in TF_LAYERS:
                layers.append(translate_tf_layer(layer, calls, graph, self._findings))
                continue
            translated = self._translate_listed(layer, names, depth)
            kinds[layer["name"]] = translated["class_name"] if "layers" in translated["config"] else ""
            translated["inbound_nodes"] = [translate_call(graph, call, translated["class_name"]) for call in calls]
            layers.append({**translated, "name": names[layer["name"]]})

        def is_functional(name: str) -> bool:
            return kinds.get(name, "") not in ("", "Sequential")

        ends = {key: self.translate_value(inner.get(key), key, depth) for key in ("input_layers", "output_layers")}
        others = {k: v for k, v in inner.items() if k not in ("layers", "input_layers", "output_layers", "name")}
        others.pop("dtype", None)
        arguments = {key: self.translate_value(value, key, depth + 1) for key, value in others.items()}
        arguments["name"] = translate_name(str(inner.get("name", "model")))
        return {
            **arguments,
            "layers": layers,
            **{key: translate_ends(graph, value, is_functional) for key, value in ends.items()},
        }

    def _translate_listed(self, layer: Config, names: dict[str, str], depth: int) -> Config:
        translated = self.translate_layer(layer, depth + 1)
        name = find_name(layer)
        if name is not None:
            translated["config"]["name"] = names.get(name, name)
        return translated

    def _translate_arguments(self, name: str, kind: type, inner: Config, place: str, depth: int) -> Config:
        """Applies the rules, and looks at what Keras takes of what is left."""
        arguments = dict(inner)
        if name != "InputLayer":
            arguments.pop("batch_input_shape", None)
        for rule in RULES if self._findings.is_old else ():
            if rule.key not in arguments or not rule.applies_to(name):
                continue
            value = arguments.pop(rule.key)
            match rule.action:
                case Renamed(key, convert):
                    arguments[key] = convert(value)
                case Lost(harmless, loss) if value not in harmless:
                    self._findings.lost.append(f"{place} had {rule.key}={value!r}: {loss}, and is without it.")
                case Dropped(harmless) if harmless is not None and value not in harmless:
                    self._findings.faults.append(f"{place} has {rule.key}={value!r}")
        if self._findings.is_old and name != "Lambda":
            taken = list_arguments(kind)
            for key in [key for key in arguments if key not in taken]:
                if arguments.pop(key) is not None and key != "trainable":  # it has no weights
                    self._findings.faults.append(f"{place} has {key}={str(inner.get(key))[:80]}")
        return {key: self.translate_value(value, key, depth + 1, place) for key, value in arguments.items()}

    def translate_value(self, value: Any, key: str, depth: int, place: str = "") -> Any:
        """Translates an argument of any structure."""
        if depth > MAX_DEPTH:
            raise ArtifactError("The configuration is refused: it is nested too deeply.")
        if key in _ACTIVATIONS and (isinstance(value, str) or _is_function(value)):
            return translate_activation(value, self._findings, place)
        if key == "dtype":
            return translate_policy(value)
        if isinstance(value, list):
            return [self.translate_value(child, key, depth + 1, place) for child in value]
        if not isinstance(value, dict):
            return value
        class_name = value.get("class_name")
        if class_name in _SHAPES and "items" in value:
            return [self.translate_value(child, key, depth + 1, place) for child in value["items"] or []]
        if class_name in _ARRAYS and isinstance(value.get("config"), dict):
            return value["config"].get("value")
        if not isinstance(class_name, str) or "config" not in value or class_name.startswith("__"):
            return {name: self.translate_value(child, name, depth + 1, place) for name, child in value.items()}
        kind = find_kind(key)
        if kind is not None:
            return translate_part(value, kind, self._findings)
        if class_name == "function" or not _is_layer(value):
            return value
        return self.translate_layer(value, depth + 1)


def _is_function(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "function"


def _is_layer(value: Config) -> bool:
    """Tells a layer, which has a name, from what else the user's code wrote like one."""
    inner = value["config"]
    return isinstance(inner, list) or not isinstance(inner, dict) or "name" in inner


def _is_registered(name: str) -> bool:
    return keras.saving.get_registered_object(name) is not None


def _is_foreign(module: object) -> bool:
    """Tells whether a module of a class, where it is written, is the user's."""
    return isinstance(module, str) and module.partition(".")[0] not in ("keras", "tf_keras", "tensorflow")


def _list_layers(inner: Config) -> list[Config]:
    layers = inner.get("layers")
    if not isinstance(layers, list) or not all(
        isinstance(layer, dict) and isinstance(layer.get("class_name"), str) for layer in layers
    ):
        raise ArtifactError("The configuration is damaged: a model has no list of layers.")
    return layers


def _name(module: str, name: str, written: str, arguments: Config) -> Config:
    # The user's own class of that name would be taken, as older Keras did.
    same = written == name
    return {
        "module": module,
        "class_name": name if name not in _PASSING else "Identity",
        "config": arguments,
        "registered_name": name if same and name not in _PASSING else None,
    }


def _make_input(shape: list[Any], settings: Config, name: str) -> Config:
    dtype = translate_policy(settings.get("input_dtype") or settings.get("dtype"))
    is_plain = isinstance(dtype, str) and not dtype.startswith("mixed")
    arguments = {"batch_shape": shape, "dtype": dtype if is_plain else "float32", "name": name}
    return _name("keras.layers", "InputLayer", "InputLayer", arguments)


def _translate_lambda(inner: Config) -> Config:
    """Gives the code of a lambda the form of today, which is marshalled as ever, and its function the name of one."""
    translated = dict(inner)
    for key in ("function", "output_shape", "mask"):
        value = inner.get(key)
        kind = inner.get(f"{key}_type")
        if isinstance(value, list) and len(value) == 3 and (kind == "lambda" or key == "function"):
            code = dict(zip(("code", "defaults", "closure"), value, strict=True))
            translated[key] = {"class_name": "__lambda__", "config": code}
        elif isinstance(value, str) and (kind == "function" or key == "function"):
            translated[key] = {"module": "builtins", "class_name": "function", "config": value}
            translated[key]["registered_name"] = "function"
    if translated.get("output_shape") is None:
        translated.pop("output_shape", None)
    if translated.get("mask") is None:
        translated.pop("mask", None)
    return translated


@cache
def list_arguments(kind: type) -> frozenset[str]:
    """Lists what a class of Keras takes, with what its bases take."""
    taken: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters
        taken |= set(parameters) - {"self", "args", "kwargs"}
        if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
            break
    return frozenset(taken)
