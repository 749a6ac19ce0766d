"""The classes and functions of a model that are not Keras's own."""

import inspect
import types
from collections.abc import Iterator
from typing import TypeAlias

import keras

_FRAMEWORKS = ("keras", "tensorflow", "builtins")
# How far functions stand inside of the lists and dicts among an object's attributes.
_DEPTH = 3
# `compile` keeps its argument under the name of a method.
_ATTRIBUTES = ("loss",)

# A class or a function.
Code: TypeAlias = type | types.FunctionType


def find_code(*owners: object) -> dict[str, Code]:
    """Finds the classes of objects, and the functions that they hold, where these are not Keras's own.

    Args:
        owners: Layers, optimizers, losses and other objects; lists and dicts of them; functions.

    Returns:
        Each class and function by every name under which a configuration may name it.
    """
    found: dict[str, Code] = {}
    visited: set[int] = set()
    waiting = list(owners)
    while waiting:
        owner = waiting.pop()
        if id(owner) in visited:
            continue
        visited.add(id(owner))
        if isinstance(owner, (list, tuple)):
            waiting += owner
        elif isinstance(owner, dict):
            waiting += owner.values()
        elif isinstance(owner, (types.FunctionType, type)):
            _add(owner, found)
        elif hasattr(owner, "get_config"):
            _add(type(owner), found)
            waiting += [value for value in vars(owner).values() if hasattr(type(value), "get_config")]
            waiting += (function for value in vars(owner).values() for function in _find_functions(value, _DEPTH))
    return found


def find_replaced(owner: object) -> list[str]:
    """Finds the methods that were replaced on one object, whose class still has the former.

    Args:
        owner: A layer or a model.

    Returns:
        Their names.
    """
    found = []
    for name, value in vars(owner).items():
        method = getattr(type(owner), name, None)
        if not isinstance(method, types.FunctionType) or not callable(value) or name in _ATTRIBUTES:
            continue
        # Keras itself puts wrappers there, of the class's own methods or of those that it has for every class.
        inner = inspect.unwrap(value) if isinstance(value, types.FunctionType) else value
        is_of_keras = str(getattr(inner, "__module__", "")).partition(".")[0] == "keras"
        if getattr(inner, "__func__", inner) is not method and not is_of_keras:
            found.append(name)
    return found


def _add(value: Code, found: dict[str, Code]) -> None:
    module = getattr(value, "__module__", None) or "builtins"
    if module.partition(".")[0] not in _FRAMEWORKS:
        found[value.__name__] = value
        found[keras.saving.get_registered_name(value)] = value


def _find_functions(value: object, depth: int) -> Iterator[types.FunctionType]:
    if isinstance(value, types.FunctionType):
        yield value
    elif depth and isinstance(value, (dict, list, tuple)):
        for item in list(value.values() if isinstance(value, dict) else value):
            yield from _find_functions(item, depth - 1)
