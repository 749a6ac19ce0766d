"""The tree of objects that Keras addresses in a model, with what each of them stores."""

import inspect
from collections.abc import Iterator, MutableMapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import FunctionType
from typing import Any

import keras

from exporter.saving.private_api import CompileMetrics, to_snake_case
from exporter.saving.state.optimizers import is_lost, list_variables
from exporter.saving.state.policies import PolicyMap, own_policy
from exporter.saving.state.resources import find_attributes
from exporter.typing.keras import Model

_CONTAINERS = (list, tuple, dict)

# Keras reads these values as they are given, so a layer's variables can be stored without copying them.
Entries = dict[str, Any]


@dataclass(slots=True)
class Saveable:
    """One object of the model's tree which Keras addresses by itself: a layer, an optimizer, a loss, a metric.

    Attributes:
        path: Its address, `""` for the model itself.
        target: The object.
        entries: What Keras stores for it under `<path>/vars`: variables, or arrays where the object's own
            saving code computes them.
    """

    path: str
    target: Any
    entries: Entries = field(default_factory=dict)


class _Recorder(MutableMapping[str, Any]):
    """The store that `save_own_variables` writes to: it keeps what it is given, uncopied."""

    def __init__(self) -> None:
        self.entries: Entries = {}

    def __setitem__(self, key: str, value: object) -> None:
        self.entries[key] = value

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def __delitem__(self, key: str) -> None:
        del self.entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def is_saveable(value: object) -> bool:
    """Returns whether Keras addresses `value` by itself when it saves."""
    return hasattr(type(value), "_obj_type")


@cache
def _skipped_attributes(kind: str) -> frozenset[str]:
    """Returns the attributes that Keras does not follow on this kind of object.

    These are the attributes of a plain object of the kind, as in `keras/src/saving/saving_lib.py`. The plain
    objects are named here, since an automatic name would change the names of the user's next layers.
    """
    always = {"_self_unconditional_dependency_names"}
    layer = keras.layers.Layer(name="skipped")
    match kind:
        case "Layer":
            return frozenset(always | set(dir(layer)))
        case "Functional":
            return frozenset(always | set(dir(layer)) | {"operations", "_operations"})
        case "Sequential":
            return frozenset(always | set(dir(layer)) | {"_functional"})
        case "Operation":
            return frozenset(always | set(dir(keras.Operation(name="skipped"))))
        case "Metric":
            metrics = CompileMetrics([], [], name="skipped")
            return frozenset(always | set(dir(keras.metrics.Metric(name="skipped"))) | set(dir(metrics)))
        case "Optimizer":
            optimizer = keras.optimizers.Optimizer(1.0, name="skipped")
            return frozenset(always | set(dir(optimizer)) - {"variables"})
        case "Loss":
            return frozenset(always | set(dir(keras.losses.Loss(name="skipped"))))
        case _:  # Cross and Feature of a FeatureSpace hold no state beyond their attributes
            return frozenset(always)


@cache
def _class_attributes(owner: type, kind: str) -> frozenset[str]:
    """Returns the attributes that the objects of a class have by it, without its functions, which hold no state."""
    names = frozenset(dir(owner)) - _skipped_attributes(kind)
    return frozenset(name for name in names if not isinstance(inspect.getattr_static(owner, name, None), FunctionType))


@lru_cache(maxsize=1024)
def _followed_attributes(owner: type, kind: str, own: tuple[str, ...]) -> list[str]:
    """Returns the attributes to follow, in Keras's order: private ones come last. `own` are those of one object."""
    names = _class_attributes(owner, kind) | (frozenset(own) - _skipped_attributes(kind))
    followed = [name for name in names if not name.startswith("__")]
    return sorted(followed, key=lambda name: f"~{name}" if name.startswith("_") else name)


@cache
def _is_followed(kind: type) -> bool:
    """Returns whether objects of this type are saveable, or may hold such."""
    return hasattr(kind, "_obj_type") or issubclass(kind, _CONTAINERS)


def join(path: str, name: str) -> str:
    """Returns the path of `name` under `path`, where `""` is the root."""
    return f"{path}/{name}" if path else name


def walk(model: Model, include_optimizer: bool = True) -> list[Saveable]:
    """Lists the model's tree in the order and with the addresses of Keras's own archives.

    Args:
        model: A built model.
        include_optimizer: Whether the optimizer is part of the tree.

    Returns:
        Every object once, the model first, without entries.
    """
    found: list[Saveable] = []
    visited: set[int] = set()
    # An own stack: a model of a thousand nested parts is deeper than Python's recursion limit.
    stack: list[Iterator[tuple[str, object]]] = [iter([("", model)])]
    while stack:
        for path, value in stack[-1]:
            if id(value) not in visited:
                visited.add(id(value))
                if isinstance(value, keras.optimizers.Optimizer) and (not include_optimizer or is_lost(value)):
                    continue
                found.append(Saveable(path, value))
                stack.append(_children(path, value))
                break
        else:
            stack.pop()
    return found


def _children(path: str, target: Any) -> Iterator[tuple[str, object]]:
    kind: str = target._obj_type()
    owner: type = type(target)
    attributes = []
    if kind in ("Sequential", "Functional"):
        attributes.append("layers")
    # The first visit decides an object's address.
    attributes += _followed_attributes(owner, kind, tuple(vars(target)))
    if hasattr(target, "revived_variables"):
        attributes = ["optimizer"]  # it knows the addresses of the layers that it stands for
    for name in attributes:
        try:
            value = getattr(target, name)
        except Exception:  # a property of the user's class may raise anything; Keras passes over it too
            continue
        if is_saveable(value):
            yield join(path, name), value
        elif isinstance(value, _CONTAINERS) and value:
            yield from _container_items(join(path, name), value, set())
    if not hasattr(target, "revived_variables"):
        for place, value in find_attributes(target, is_saveable):
            yield join(path, f"attributes/{place}"), value


def _container_items(path: str, container: Any, open_containers: set[int]) -> Iterator[tuple[str, object]]:
    if id(container) in open_containers:
        return
    open_containers.add(id(container))
    items = list(container.values() if isinstance(container, dict) else container)
    if not any(map(_is_followed, {item.__class__ for item in items})):
        return  # most containers hold plain data
    used: dict[str, int] = {}
    for item in items:
        saveable = is_saveable(item)
        if saveable:
            name = to_snake_case(type(item).__name__)
        elif isinstance(item, _CONTAINERS):
            name = "container"
        else:
            continue
        used[name] = used.get(name, -1) + 1
        item_path = join(path, f"{name}_{used[name]}" if used[name] else name)
        if saveable:
            yield item_path, item
        else:
            yield from _container_items(item_path, item, open_containers)


def record_entries(target: Any) -> Entries:
    """Returns what an object stores by its own code, by the name of each entry."""
    if isinstance(target, keras.optimizers.Optimizer) and (
        type(target).save_own_variables is keras.optimizers.Optimizer.save_own_variables
    ):
        # Optimizer.save_own_variables copies every slot into a NumPy array; these are the same variables, in order.
        return {str(index): variable for index, variable in enumerate(list_variables(target))}
    if not hasattr(target, "save_own_variables"):
        return {}
    recorder = _Recorder()
    shared = isinstance(target, keras.layers.Layer) and isinstance(target.dtype_policy, PolicyMap)
    with own_policy(target) if shared else nullcontext():
        target.save_own_variables(recorder)
    return recorder.entries
