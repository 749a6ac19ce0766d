"""What a model needs beside its artifact when it is loaded: the code of its own classes and functions."""

import importlib
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras

from exporter.artifacts.records import Loading
from exporter.saving.configuration.configurations import find_foreign_names
from exporter.saving.state.tree import walk
from exporter.typing.keras import Model

_MAIN = "__main__"
# Importing this package alone registers nothing.
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class CustomObject:
    """A class or function that is not Keras's own, and that a model's configuration names.

    Attributes:
        name: In the configuration.
        module: Where it is defined.
        place: Its qualified name in the module.
        is_registered: Whether Keras finds it by its name as soon as the module is imported.
    """

    name: str
    module: str
    place: str
    is_registered: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model needs beside its artifact.

    Attributes:
        objects: Those that another process can import.
        unreachable: The names of those that the main script defines.
        hidden: The names of those that are nowhere in their module, as what a function defines.
        safe_mode: False where its configuration holds a Python lambda.
    """

    objects: tuple[CustomObject, ...]
    unreachable: tuple[str, ...]
    hidden: tuple[str, ...]
    safe_mode: bool

    def explain(self) -> str:
        """Says which code another process cannot have, and what to do; empty where it can have all."""
        hints = []
        if self.unreachable:
            hints.append(
                f"The main script defines {', '.join(self.unreachable)}, which another process cannot import. Move "
                "this code to a module, and import it from there."
            )
        if self.hidden:
            hints.append(
                f"Another process cannot import {', '.join(self.hidden)}: it is defined inside of a function. Define "
                "it at the top level of a module."
            )
        return " ".join(hints)

    def to_loading(self, imported: Mapping[str, str] | None = None) -> Loading:
        """Makes the call of it that loads the artifact.

        Args:
            imported: What another process imported: see `import_objects`. None if none has tried.
        """
        if imported is None:
            imported = {each.module: each.module for each in self.objects}
        objects = [each for each in self.objects if each.module in imported]
        return Loading(
            imports=tuple(sorted({imported[each.module] for each in objects})),
            custom_objects={each.name: f"{each.module}.{each.place}" for each in objects if not each.is_registered},
            safe_mode=self.safe_mode,
        )

    def to_json(self) -> list[dict[str, object]]:
        """Returns the objects as plain data, for `import_objects`."""
        return [asdict(each) for each in self.objects]


def find_needs(model: Model) -> Needs:
    """Finds what a model needs beside its artifact.

    Args:
        model: A built model.

    Returns:
        It.
    """
    objects: dict[CustomObject, None] = {}
    unreachable: set[str] = set()
    hidden: set[str] = set()
    for value in _find_foreign(model):
        if value.__module__ == _MAIN:
            unreachable.add(value.__name__)
        elif _is_where_it_says(value):
            registered = keras.saving.get_registered_name(value)
            is_registered = keras.saving.get_registered_object(registered) is value
            name = registered if is_registered else value.__name__
            objects[CustomObject(name, value.__module__, value.__qualname__, is_registered)] = None
        elif value.__name__ != "<lambda>":
            hidden.add(f"{value.__module__}.{value.__qualname__}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of what `safe_mode` says
        return Needs(tuple(objects), tuple(sorted(unreachable)), tuple(sorted(hidden)), not _holds_lambda(model))


def import_objects(objects: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Imports what can be imported: an artifact that needs none of it, or revives it, loads all the same.

    Registered classes come with their package, where importing that is enough.

    Args:
        objects: As `Needs.to_json` gives them.

    Returns:
        The `custom_objects`; and the module that was imported, by the module in which an object is.
    """
    found: dict[str, Any] = {}
    imported: dict[str, str] = {}
    for each in sorted((CustomObject(**each) for each in objects), key=lambda each: each.is_registered):
        package = each.module.partition(".")[0]
        try:
            if each.is_registered and imported.get(each.module, package) == package != _OURS:
                importlib.import_module(package)
                if keras.saving.get_registered_object(each.name) is not None:
                    imported[each.module] = package
                    continue
            value: Any = importlib.import_module(each.module)
        except ImportError:
            continue
        imported[each.module] = each.module
        if not each.is_registered:
            found[each.name] = _look_up(value, each.place)
    return found, imported


def _look_up(module: object, place: str) -> Any:
    value = module
    for part in place.split("."):
        value = getattr(value, part)
    return value


def _is_where_it_says(value: Any) -> bool:
    """Tells whether another process can import it: what a function made is nowhere."""
    place = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        place = getattr(place, part, None)
    names = value.__module__.split(".")
    return place is value and all(name.isidentifier() for name in names)


def _find_foreign(model: Model) -> Iterator[Any]:
    """Gives the classes and functions that are not Keras's own, and that the model or its compilation consists of."""
    for saveable in walk(model):
        yield from _keep_foreign([type(saveable.target)])
        for value in vars(saveable.target).values():
            yield from _keep_foreign(_find_code(value, depth=2))
    if model.compiled:
        yield from _keep_foreign(_find_code(model._compile_config.config, depth=3))


def _keep_foreign(values: Iterator[Any] | list[Any]) -> Iterator[Any]:
    for value in values:
        module = getattr(value, "__module__", None) or "builtins"
        if module.split(".")[0] not in ("keras", "tensorflow", "builtins"):
            yield value


def _find_code(value: object, depth: int) -> Iterator[Any]:
    """Gives functions, and the classes of what Keras serializes: initializers, constraints, schedules, losses."""
    yield from _find_functions(value, depth)
    for item in _flatten(value, depth):
        if hasattr(item, "get_config") and not isinstance(item, type):
            yield type(item)


def _flatten(value: object, depth: int) -> Iterator[Any]:
    if depth and isinstance(value, (dict, list, tuple)):
        for item in list(value.values() if isinstance(value, dict) else value):
            yield from _flatten(item, depth - 1)
    else:
        yield value


def _find_functions(value: object, depth: int) -> Iterator[Any]:
    for item in _flatten(value, depth):
        if isinstance(item, types.FunctionType):
            yield item


def _holds_lambda(model: Model) -> bool:
    """Tells whether the model's configuration holds a lambda: only what has one is asked for its configuration."""
    if model.compiled and _has_lambda(_find_functions(model._compile_config.config, depth=3)):
        return True
    for saveable in walk(model):
        target = saveable.target
        has_one = any(_has_lambda(_find_functions(value, depth=2)) for value in vars(target).values())
        if has_one and "lambda" in find_foreign_names(keras.saving.serialize_keras_object(target)):
            return True
    return False


def _has_lambda(functions: Iterator[Any]) -> bool:
    return any(function.__name__ == "<lambda>" for function in functions)
