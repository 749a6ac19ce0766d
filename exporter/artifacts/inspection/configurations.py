"""What a model's configuration says, in Keras 3's words or in those of Keras 2, without Keras."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from exporter.artifacts.inspection.records import Layer, ModelInput
from exporter.saving.layout.documents import list_mappings

Config = dict[str, Any]

# Where Keras's own classes say that they are from.
_OWN_MODULES = {"keras", "tf_keras", "builtins", "tensorflow", "numpy"}


def list_layers(config: Config | None) -> tuple[Layer, ...]:
    """Lists the layers of a Sequential or Functional model.

    Args:
        config: Of the model.

    Returns:
        Its layers in order, as `model.layers` gives them; nothing where the configuration does not say.
    """
    if config is None:
        return ()
    numbers: dict[str, int] = {}
    layers = []
    for node in _list_nodes(config):
        class_name = str(node.get("class_name", "")).rpartition(">")[2]
        if class_name == "InputLayer" and config.get("class_name") == "Sequential":
            continue  # `model.layers` leaves it out, and addresses are counted there
        name = str(_arguments(node).get("name", node.get("name", "")))
        snake = _to_snake_case(class_name)
        count = numbers[snake] = numbers.get(snake, -1) + 1
        address = f"layers/{snake}_{count}" if count else f"layers/{snake}"
        layers.append(Layer(name=name, class_name=class_name, address=address))
    return tuple(layers)


def list_inputs(config: Config | None) -> tuple[ModelInput, ...]:
    """Lists the inputs of a model, where its configuration says.

    Args:
        config: Of the model.
    """
    inputs = []
    for node in _list_nodes(config or {}):
        arguments = _arguments(node)
        shape = arguments.get("batch_shape", arguments.get("batch_input_shape"))
        if node.get("class_name") == "InputLayer" and isinstance(shape, list):
            name, dtype = str(arguments.get("name", "")), str(arguments.get("dtype", "float32"))
            inputs.append(ModelInput(name=name, shape=tuple(shape), dtype=dtype))
    return tuple(inputs)


def list_custom(*configs: object) -> tuple[str, ...]:
    """Lists the classes and functions that Keras does not have, by the names under which they were saved.

    Args:
        *configs: Configurations of models and of `compile`.

    Returns:
        The names in order of appearance. `lambda` stands for code that is kept as Python's bytes.
    """
    found: dict[str, None] = {}
    for config in configs:
        for node in list_mappings(config):
            name = _name_custom(node) if "class_name" in node else None
            if name:
                found[name] = None
    return tuple(found)


def list_random(config: object) -> tuple[str, ...]:
    """Lists the layers that draw random numbers when they are trained.

    Args:
        config: Of the model.

    Returns:
        Their names. What an initialiser draws is drawn when a model is built, and belongs to none.
    """
    found: dict[str, None] = {}
    for node in list_mappings(config):
        arguments = _arguments(node)
        draws = "seed" in arguments and arguments.get("rate", 1) != 0
        drops = any(arguments.get(key) for key in ("dropout", "recurrent_dropout"))  # inside layers of another kind
        if "class_name" in node and "name" in arguments and (draws or drops):  # an initialiser has no name
            found[str(arguments["name"])] = None
    return tuple(found)


def _list_nodes(config: Config) -> list[Config]:
    arguments = config.get("config")
    nodes = arguments if isinstance(arguments, list) else _arguments(config).get("layers")
    return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []


def _arguments(node: Mapping[str, object]) -> Config:
    arguments = node.get("config")
    return arguments if isinstance(arguments, dict) else {}


def _name_custom(node: Config) -> str | None:
    class_name = str(node["class_name"])
    registered = node.get("registered_name")
    if class_name in ("__lambda__", "Lambda") and "module" not in node:
        return "lambda"
    if class_name == "__lambda__":
        return "lambda"
    if class_name.startswith("__"):  # a tuple, a tensor, or another value
        return None
    if class_name == "function":
        module, name = node.get("module"), node.get("config")
        is_own = module is None or str(module).partition(".")[0] in _OWN_MODULES
        if is_own and (module != "builtins" or registered in (None, "function")):
            return None
        return str(registered if registered not in (None, "function") else f"{module}.{name}")
    if "module" in node:
        if str(node["module"] or "").partition(".")[0] in _OWN_MODULES:
            return None
        return str(registered or (f"{node['module']}.{class_name}" if node["module"] else class_name))
    if class_name in _list_keras_names():
        return None
    # Keras 2 writes its own optimizers like this.
    return None if class_name.removeprefix("Custom>") in _list_keras_names() else class_name


@cache
def _list_keras_names() -> frozenset[str]:
    """Lists the names that the installed Keras has for its classes, read from its files; it is not imported."""
    names = {"Functional", "Sequential", "Model", "Policy", "TensorShape", "TypeSpec"}
    for package in (*("layers", "optimizers", "losses", "metrics"), *("initializers", "regularizers", "constraints")):
        file = Path(str(metadata.distribution("keras").locate_file(f"keras/{package}/__init__.py")))
        names.update(re.findall(r"\bas (\w+)", file.read_text(encoding="utf-8")))
    return frozenset(names)


def _to_snake_case(name: str) -> str:
    """Names a class as Keras does for the addresses of its archives (`keras/src/utils/naming.py`)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
