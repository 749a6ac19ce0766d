"""What a stranger's recipe may name and switch on: exporter's own sources and steps, Keras's classes, and no more."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from exporter import transforms
from exporter.cli.rerunning.keras_names import BY_ROOM, NAMES
from exporter.config import ExportConfig
from exporter.errors import Fault
from exporter.exporting.provenance import describe_recipe, list_targets
from exporter.exporting.references import HYDRA_KEYS
from exporter.sources import SOURCES
from exporter.text.showing import shorten, show

_LONGEST_SHOWN = 120
_OURS = {
    *(f"exporter.sources.{name}" for name in SOURCES),
    *(f"exporter.transforms.{name}" for name in transforms.__all__ if name != "takes"),
}
_NETWORK_OF_MODULE = re.compile(r"(keras\.applications)\.[a-z]\w*(\.[A-Z]\w*)")
_CLASSES = frozenset().union(*BY_ROOM.values()) | {"Functional", "Model", "Sequential"}
# Functions that a configuration of Keras's may name, apart from those that look others up.
_FUNCTION = re.compile(r"keras\.(activations|constraints|initializers|losses|metrics|regularizers)\.[a-z]\w*")
_LOOK_UP = re.compile(r".*\.(get|deserialize|serialize)")


def check_trust(config: ExportConfig, overrides: Sequence[str], trusted: Collection[str]) -> Iterator[Fault]:
    """Finds everything that the recipe would have imported or allowed, and that nobody allowed.

    Args:
        config: What it composes to.
        overrides: What its user typed.
        trusted: Modules and packages that it may name.

    Yields:
        The faults.
    """
    recipe = describe_recipe(config, resolved=True)
    for path, name in (*list_targets(recipe), *_list_custom_objects(recipe["model"])):
        if not _is_trusted(name, trusted):
            yield Fault(path, _explain_name(name))
    for part in ("model", "signatures"):
        yield from _check_configurations(recipe[part], part, trusted)
    for path, key in _list_switches(recipe["model"], "model", "safe_mode"):
        yield from _ask(path, f"{key}=false", "the recipe lets a file run code of its own", overrides)
    for part in ("model", "signatures"):
        for path, key in _list_switches(recipe[part], part, *HYDRA_KEYS[1:]):
            yield from _ask(path, f"{key}=VALUE", "it changes how a function is called", overrides)


def _ask(path: str, assignment: str, message: str, overrides: Sequence[str]) -> Iterator[Fault]:
    if not any(override.lstrip("+").startswith(f"{path}=") for override in overrides):
        yield Fault(path, f"{message}; say it too: {path}={assignment.partition('=')[2]}")


def _explain_name(name: str) -> str:
    package = name.partition(".")[0]
    message = f"{shorten(name, _LONGEST_SHOWN)} is neither exporter's nor a class of Keras's"
    if package in ("exporter", "keras"):
        message = f"{shorten(name, _LONGEST_SHOWN)} can do more than make a model"
        package = name
    return f"{message}, and would be imported; if you trust it: --trust {shorten(package, _LONGEST_SHOWN)}"


def _is_trusted(name: str, trusted: Collection[str]) -> bool:
    if name in _OURS or _NETWORK_OF_MODULE.sub(r"\1\2", name) in NAMES:
        return True
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in trusted)


def _list_custom_objects(model: object) -> Iterator[tuple[str, str]]:
    objects = model.get("custom_objects") if isinstance(model, Mapping) else None
    if objects is None:
        return
    listed = objects if isinstance(objects, list) else [objects]
    for key, name in objects.items() if isinstance(objects, Mapping) else enumerate(listed):
        yield f"model.custom_objects.{key}", str(name)


def _check_configurations(value: object, path: str, trusted: Collection[str]) -> Iterator[Fault]:
    """Judges the configurations of objects that Keras makes of a mapping with a `class_name`."""
    if isinstance(value, Mapping):
        if "class_name" in value:
            name = _read_name(value)
            if name is None:
                yield Fault(f"{path}.class_name", f"received {show(value['class_name'])}; expected a class of Keras's")
            elif not _is_of_keras(name) and not _is_trusted(name, trusted):
                yield Fault(f"{path}.class_name", _explain_name(name))
        for key, entry in value.items():
            yield from _check_configurations(entry, f"{path}.{key}", trusted)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _check_configurations(entry, f"{path}[{number}]", trusted)


def _read_name(config: Mapping[str, object]) -> str | None:
    """Gives the dotted name of what a configuration stands for; without a module where Keras looks it up by itself."""
    name, module, registered = config["class_name"], config.get("module"), config.get("registered_name")
    if name == "function":
        name = config.get("config")
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        return None
    if registered not in (None, name):
        return None
    if module in (None, "builtins"):
        return name
    return f"{module}.{name}" if isinstance(module, str) else None


def _is_of_keras(name: str) -> bool:
    if "." not in name:
        return name in _CLASSES or name.islower()  # functions are looked up among those of one part of Keras
    return _FUNCTION.fullmatch(name) is not None and not _LOOK_UP.fullmatch(name)


def _list_switches(value: object, path: str, *names: str) -> Iterator[tuple[str, str]]:
    """Yields the dotted path and the name of every argument of these names, unless it is simply true."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key in names and not (key == "safe_mode" and entry is True):
                yield f"{path}.{key}", key
            yield from _list_switches(entry, f"{path}.{key}", *names)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _list_switches(entry, f"{path}[{number}]", *names)
