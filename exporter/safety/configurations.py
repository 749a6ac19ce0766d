"""What the configuration of a model may name: Keras's own classes and functions, and what the user gave or registered.

Keras's own `safe_mode` is about lambdas. Here every name is looked at before Keras imports or calls anything.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from exporter.errors import ArtifactError
from exporter.safety.documents import MAX_DEPTH
from exporter.saving.internals import get_symbol_from_name

Config = dict[str, Any]

# The parts of Keras whose functions a model calls; of the others it takes classes that are made of a configuration.
# `src` stands for classes without a public name, such as operations: of those Keras takes no functions itself.
_ROOMS = {
    *("activations", "constraints", "initializers", "layers", "losses", "metrics"),
    *("ops", "optimizers", "quantizers", "random", "regularizers", "src"),
}

# Layers that are not a part of Keras alone: they load a program from a file or from bytes in their configuration.
_PROGRAMS = {
    "TFSMLayer": "it loads another SavedModel, named in its configuration",
    "TorchModuleWrapper": "it unpickles a PyTorch module",
}

# Their vocabulary may be the name of a file.
_LOOKUPS = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}

# Kinds of values, not of classes.
_VALUES = {"__tensor__", "__numpy__", "__keras_tensor__", "__bytes__", "__ellipsis__", "__slice__", "__typespec__"}

_TRUST = "Load it with safe_mode=False only if you trust where the file comes from."


def check_configuration(config: Any, custom_objects: Mapping[str, Any] | None = None) -> None:
    """Refuses a configuration that holds code, or names what is neither Keras's nor the user's.

    Args:
        config: Any part of `config.json`, `model_config`, `training_config`, or of our record.
        custom_objects: Classes and functions by the name under which they were saved.

    Raises:
        ArtifactError: It holds a lambda, names such a class or function, or is nested too deeply.
    """
    at_hand = dict(custom_objects or {})
    for node, place in _walk(config):
        class_name = node.get("class_name")
        if not isinstance(class_name, str):
            continue
        inner = node.get("config")
        name = inner if class_name == "function" and isinstance(inner, str) else class_name
        registered = node.get("registered_name")
        if class_name == "__lambda__" or (class_name == "Lambda" and _holds_lambda(inner)):
            raise ArtifactError(
                f"{place} holds a Python lambda, marshalled: loading it is arbitrary code execution. {_TRUST}"
            )
        if class_name in _VALUES:
            continue
        if any(
            isinstance(each, str) and keras.saving.get_registered_object(each, custom_objects=at_hand) is not None
            for each in (registered, name)
        ):
            continue
        if class_name in _PROGRAMS:
            raise ArtifactError(f"{place} is the layer {class_name}: {_PROGRAMS[class_name]}. {_TRUST}")
        if class_name in _LOOKUPS and isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
            raise ArtifactError(
                f"{place} takes its vocabulary from the file {inner['vocabulary']!r}, outside of the artifact. {_TRUST}"
            )
        module = node.get("module")
        if isinstance(module, str):
            _check_module(module, name, class_name, place)


def _check_module(module: str, name: str, class_name: str, place: str) -> None:
    package, _, rest = module.partition(".")
    if package == "builtins":
        return  # Keras looks such names up among its own functions
    kind = "function" if class_name == "function" else "class"
    if package != "keras":
        raise ArtifactError(
            f"The model's configuration cannot be rebuilt: Could not locate {kind} '{name}'. Import the module that "
            "defines it, register it with `@keras.saving.register_keras_serializable()`, or name it in "
            "`custom_objects`."
        )
    room = rest.partition(".")[0]
    symbol = get_symbol_from_name(f"{module}.{name}")
    if room not in _ROOMS and not (isinstance(symbol, type) and hasattr(symbol, "from_config")):
        raise ArtifactError(f"{place} names {module}.{name}, which is no part of a model. {_TRUST}")


def _holds_lambda(inner: Any) -> bool:
    """Keras 2 marshals the code of a Lambda layer into base64, in a list with its defaults and its closure."""
    if not isinstance(inner, dict):
        return False
    kinds = [inner.get(f"{key}_type") for key in ("function", "output_shape", "mask")]
    return "lambda" in kinds or isinstance(inner.get("function"), (list, tuple))


def _walk(config: Any) -> Iterator[tuple[Config, str]]:
    """Gives every mapping with a description of where it is; without recursion, since the depth is a stranger's."""
    waiting: list[tuple[Any, str, int]] = [(config, "The configuration", 0)]
    while waiting:
        node, place, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ArtifactError("The configuration is refused: it is nested too deeply.")
        if isinstance(node, dict):
            place = _name(node) or place
            yield node, place
            waiting += [(child, place, depth + 1) for child in node.values() if isinstance(child, (dict, list, tuple))]
        elif isinstance(node, (list, tuple)):
            waiting += [(child, place, depth + 1) for child in node if isinstance(child, (dict, list, tuple))]


def _name(node: Config) -> str:
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return f"{node.get('class_name')} {name!r}" if isinstance(name, str) and "class_name" in node else ""
