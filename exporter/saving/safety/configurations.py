"""What the configuration of a model may name: Keras's own classes and functions, and what the user gave or registered.

Keras's own `safe_mode` is about lambdas. Here every name is looked up as Keras will look it up, before Keras imports or
calls anything; and what it would find has to be a part of models, or the user's.
"""

import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import keras

from exporter.errors import ArtifactError
from exporter.saving.layout.documents import MAX_DEPTH
from exporter.saving.private_api import BUILTIN_MODULES, IndexLookup, get_symbol_from_name, layers_by_name
from exporter.typing.structures import Config

# The packages below `keras.src` whose classes are parts of models. What loads a program from a file, or from bytes in
# its configuration, is in others: `export` (TFSMLayer) and `utils` (TorchModuleWrapper, JaxLayer, FlaxLayer).
_PARTS = {
    *("activations", "applications", "constraints", "distillation", "dtype_policies", "initializers", "layers"),
    *("legacy", "losses", "metrics", "models", "ops", "optimizers", "quantizers", "random", "regularizers", "trainers"),
}
# The modules below them whose functions a model calls. Those of the packages themselves, such as `get` and
# `deserialize`, look names up, and are in none of these.
_FUNCTIONS = ("activations.activations", "losses.losses", "metrics.", "ops.", "quantizers.quantizers", "random.random")
# What they call functions that they are given, and call.
_CALLBACKS = {"f", "fun", "function", "pyfunc", "branches", "cond", "body", "body_fun", "true_fn"}

# What may be the name of a file in the configuration of a lookup layer, or of a tokenizer of KerasHub.
_LOOKUPS = (IndexLookup, keras.layers.TextVectorization)
_FILES = ("vocabulary", "merges", "proto")
# Numbers of what is listed one by one: places for unknown words, and parts of a tensor.
_COUNTS = ("num_oov_indices", "indices_or_sections")
_MAX_COUNT = 1_000_000

# Kinds of values, not of classes; and those that give a dtype, with which NumPy could make much of little.
_VALUES = {"__tensor__", "__numpy__", "__keras_tensor__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__"}
_ARRAYS = {"__tensor__", "__numpy__", "__keras_tensor__"}
_PLAIN_DTYPES = ("object", "str", "string")

# So many layers, counted for each call, are rebuilt in some thirty seconds; other objects are made in no time.
MAX_LAYERS = 10_000
_MAX_OBJECTS = 200_000

_TRUST = "Load it with safe_mode=False only if you trust where the file comes from."


def check_configuration(config: object, custom_objects: Mapping[str, object] | None = None) -> None:
    """Refuses a configuration that holds code, is huge, or names what is no part of Keras's models and not the user's.

    Args:
        config: object part of `config.json`, `model_config`, `training_config`, or of our record.
        custom_objects: Classes and functions by the name under which they were saved.

    Raises:
        ArtifactError: It holds a lambda, names such a class or function, is nested too deeply, or makes too many
            objects.
    """
    at_hand = dict(custom_objects or {})
    made = called = 0
    for node, place, times in _walk(config):
        class_name = node.get("class_name")
        if not isinstance(class_name, str):
            continue
        inner = node.get("config")
        if class_name == "__lambda__" or (class_name == "Lambda" and _holds_lambda(inner)):
            raise ArtifactError(
                f"{place} holds a Python lambda, marshalled: loading it is arbitrary code execution. {_TRUST}"
            )
        made += times
        if class_name in _ARRAYS:
            _check_dtype(inner, place)
        if class_name not in _VALUES and _check_names(node, place, at_hand):
            called += times
        if called > MAX_LAYERS or made > _MAX_OBJECTS:
            raise ArtifactError(
                f"The configuration is refused: it makes more than {MAX_LAYERS:,} layers, counted for each call, or "
                f"{_MAX_OBJECTS:,} objects. {_TRUST}"
            )


def _check_lookup(value: object, inner: object, place: str) -> None:
    package = str(getattr(value, "__module__", "")).partition(".")[0]
    if not isinstance(inner, dict) or not isinstance(value, type):
        return
    if not issubclass(value, _LOOKUPS) and package != "keras_hub":
        return
    for key in _FILES:
        if isinstance(inner.get(key), str):
            raise ArtifactError(
                f"{place} takes its {key} from the file {inner[key]!r}, outside of the artifact. {_TRUST}"
            )


class _Found(NamedTuple):
    """What Keras would find: where, and whether it is the user's."""

    place: str
    value: object
    is_given: bool


def _check_names(node: Config, place: str, at_hand: Config) -> bool:
    """Checks all that Keras may find for a node; returns whether it is a layer."""
    class_name, inner = node["class_name"], node.get("config")
    is_function = class_name == "function"
    name = inner if is_function else node.get("spec_name") if class_name == "__typespec__" else class_name
    if not isinstance(name, str):
        raise ArtifactError(f"{place} is damaged: it names a {type(name).__name__}, where a text is expected.")
    found = list(_find(node, name, is_function, at_hand))
    module = node.get("module")
    if not found and module is not None:
        kind = "function" if is_function else "class"
        raise ArtifactError(
            f"The model's configuration cannot be rebuilt: Could not locate {kind} '{name}'. Import the module that "
            "defines it, register it with `@keras.saving.register_keras_serializable()`, or name it in "
            "`custom_objects`."
        )
    for each in found:
        if not each.is_given and not (_is_function(each.value) if is_function else _is_part(each.value)):
            raise ArtifactError(f"{place} names {each.place}, which is no part of a model. {_TRUST}")
        _check_lookup(each.value, inner, place)
    for key in _COUNTS:
        count = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(count, (int, float)) and count > _MAX_COUNT:
            raise ArtifactError(f"{place} is refused: its {key} is more than {_MAX_COUNT:,}. {_TRUST}")
    if class_name == "Lambda" and isinstance(inner, dict) and isinstance(inner.get("function"), str):
        # Keras before 3 writes a function by its name alone.
        _check_names({"class_name": "function", "config": inner["function"], "module": "builtins"}, place, at_hand)
    return any(isinstance(each.value, type) and issubclass(each.value, keras.Operation) for each in found)


def _find(node: Config, name: str, is_function: bool, at_hand: Config) -> Iterator[_Found]:
    """Gives what Keras may find: like `deserialize_keras_object`, and like its older form for nodes without a module.

    The older form takes any name of the module `keras.src.layers`, also those of functions.
    """
    module, registered = node.get("module"), node.get("registered_name", node["class_name"])
    given = _look_up(name if is_function else registered, at_hand)
    if given is not None:
        yield _Found(name, given, True)
    elif isinstance(module, str):
        yield from _find_in_module(module, name, is_function)
        if is_function and module == "builtins":
            # What Keras up to 3.6 registered under the name of a package, it saved under the name alone.
            known = {**at_hand, **keras.saving.get_custom_objects()}
            yield from (_Found(each, value, True) for each, value in known.items() if each.endswith(f">{name}"))
    if "module" not in node and not is_function:
        given = _look_up(name, at_hand)
        by_name = layers_by_name().get(name)
        if given is not None:
            yield _Found(name, given, True)
        elif by_name is not None:
            yield _Found(f"keras.layers.{name}", by_name, False)


def _look_up(name: object, at_hand: Config) -> object:
    return keras.saving.get_registered_object(name, custom_objects=at_hand) if isinstance(name, str) else None


def _find_in_module(module: str, name: str, is_function: bool) -> Iterator[_Found]:
    if module == "keras" or module.startswith("keras."):
        symbol = get_symbol_from_name(f"{module}.{name}")
        # Keras imports the module, of which all that is allowed is imported already.
        symbol = getattr(sys.modules.get(module), name, None) if symbol is None else symbol
        if symbol is not None:
            yield _Found(f"{module}.{name}", symbol, False)
    elif is_function and module == "builtins":
        # Keras takes the first in no order.
        for each in BUILTIN_MODULES:
            symbol = get_symbol_from_name(f"keras.{each}.{name}")
            if symbol is not None:
                yield _Found(f"keras.{each}.{name}", symbol, False)


def _is_part(value: object) -> bool:
    """Says whether something is a class of Keras that models consist of."""
    package, _, rest = str(getattr(value, "__module__", "")).partition(".src.")
    made_of_config = isinstance(value, type) and hasattr(value, "from_config")
    return made_of_config and package == "keras" and rest.partition(".")[0] in _PARTS


def _is_function(value: object) -> bool:
    """Says whether something is a function of Keras that models call."""
    if not isinstance(value, types.FunctionType):
        return False
    package, _, rest = value.__module__.partition(".src.")
    if package != "keras":
        return False
    if rest.startswith("applications."):  # a Lambda that prepares images
        return value.__name__ == "preprocess_input"
    return rest.startswith(_FUNCTIONS) and _CALLBACKS.isdisjoint(inspect.signature(value).parameters)


def _check_dtype(inner: object, place: str) -> None:
    dtype = inner.get("dtype") if isinstance(inner, dict) else None
    try:
        if dtype not in _PLAIN_DTYPES:
            keras.utils.standardize_dtype(dtype)
    except (ValueError, TypeError, AttributeError):
        raise ArtifactError(f"{place} is refused: it has a value of the dtype {str(dtype)[:80]!r}.") from None


def _holds_lambda(inner: object) -> bool:
    """Keras 2 marshals the code of a Lambda layer into base64, in a list with its defaults and its closure."""
    if not isinstance(inner, dict):
        return False
    kinds = [inner.get(f"{key}_type") for key in ("function", "output_shape", "mask")]
    return "lambda" in kinds or isinstance(inner.get("function"), (list, tuple))


def _walk(config: object) -> Iterator[tuple[Config, str, int]]:
    """Gives every mapping, where it is, and how often Keras goes through it; without recursion.

    A layer is called once for each of its inbound nodes, and with it all layers inside of it.
    """
    waiting: list[tuple[object, str, int, int]] = [(config, "The configuration", 0, 1)]
    while waiting:
        node, place, depth, times = waiting.pop()
        if depth > MAX_DEPTH:
            raise ArtifactError("The configuration is refused: it is nested too deeply.")
        if isinstance(node, dict):
            place = _name(node) or place
            calls = node.get("inbound_nodes")
            inside = times * max(1, len(calls)) if isinstance(calls, list) else times
            yield node, place, inside
            for key, child in node.items():
                if isinstance(child, (dict, list, tuple)):
                    waiting.append((child, place, depth + 1, times if key == "inbound_nodes" else inside))
        elif isinstance(node, (list, tuple)):
            waiting += [(child, place, depth + 1, times) for child in node if isinstance(child, (dict, list, tuple))]


def _name(node: Config) -> str:
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return f"{node.get('class_name')} {name!r}" if isinstance(name, str) and "class_name" in node else ""
