"""Configurations in Keras's native format: plain data that says how objects are made."""

from collections.abc import Iterator
from typing import Any

import keras

# Where the classes of revived layers and models say that they are from.
REVIVED_MODULE = "exporter.saving.revival"  # stands in artifacts, and names no module any more

# Keras's own layers whose computation is in another SavedModel: it lives on in this one.
READS_SAVED_MODEL = ("TFSMLayer",)

_NESTED = (dict, list, tuple)


def settle(node: object, numbers: dict[int, int]) -> Any:
    """Returns a configuration as it is saved.

    The configuration of what a revived layer or model stands for takes the place of its own, and shared objects are
    numbered.

    Args:
        node: The configuration, or a part of it.
        numbers: The number of each shared object that has appeared, by Keras's number of it.
    """
    if isinstance(node, dict):
        if node.get("module") == REVIVED_MODULE:
            kept = {key: node[key] for key in ("name", "inbound_nodes", "compile_config") if key in node}
            node = {**node["config"]["original"], **kept}
        shared = node.get("shared_object_id")
        if isinstance(shared, int):
            node = {**node, "shared_object_id": numbers.setdefault(shared, len(numbers))}
        return {key: settle(child, numbers) if isinstance(child, _NESTED) else child for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [settle(child, numbers) if isinstance(child, _NESTED) else child for child in node]
    return node


def find_foreign_names(config: object) -> list[str]:
    """Lists what a configuration needs from outside Keras.

    Args:
        config: Any part of a configuration in Keras's native format.

    Returns:
        The names under which it is registered or must be given as `custom_objects`; `lambda` for a marshalled one.
    """
    return list(dict.fromkeys(_walk_foreign_names(config)))


def _walk_foreign_names(node: object) -> Iterator[str]:
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _walk_foreign_names(child)
    if not isinstance(node, dict):
        return
    name = node.get("class_name")
    if name == "__lambda__":
        yield "lambda"
    elif isinstance(name, str) and "config" in node and not name.startswith("__"):
        module = node.get("module")
        registered = node.get("registered_name")
        function = name == "function"
        native = isinstance(module, str) and module.partition(".")[0] == "keras"
        # Keras names its own functions, and others that are not registered, in the same way.
        if name in READS_SAVED_MODEL and native:
            yield name
        elif not native and not (function and module == "builtins" and _is_keras_function(node["config"])):
            yield str(node["config"] if function else registered or name)
    for child in node.values():
        yield from _walk_foreign_names(child)


def _is_keras_function(name: object) -> bool:
    modules = (
        keras.activations,
        keras.losses,
        keras.metrics,
        keras.initializers,
        keras.regularizers,
        keras.constraints,
    )
    return isinstance(name, str) and any(hasattr(module, name) for module in modules)
