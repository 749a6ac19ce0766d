"""The state of a model: every variable of it and of its optimizer, by a path that does not change between processes.

The addresses are those of Keras's own archives (`layers/dense/vars/0`, `optimizer/vars/2`), so that one tree
serves `model.weights.h5`, our own groups and TensorFlow's checkpoint alike. What Keras does not save (seed
generators, variables that a layer's own saving code folds into others, variables and layers that Keras does not track,
lookup tables) stands in the same tree under `seed_generators/<n>`, `own/<n>` and `attributes/<name>` of its owner.
"""

import hashlib
import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporter.saving.private_api import CompileMetrics, LookupInterface, ResourceVariable, to_snake_case
from exporter.saving.state.optimizers import is_lost, list_variables
from exporter.saving.state.policies import PolicyMap, own_policy
from exporter.saving.state.resources import Table, find_attributes, find_leaves, wrap_variable

Array = np.ndarray[Any, np.dtype[Any]]

# Where the state stands that only functions lead to.
CAPTURED = "captured"
_captured: "weakref.WeakKeyDictionary[keras.Model, list[Any]]" = weakref.WeakKeyDictionary()
_attachments: "weakref.WeakKeyDictionary[keras.Model, list[Any]]" = weakref.WeakKeyDictionary()

_CONTAINERS = (list, tuple, dict)

# Where an optimizer's variables are that the model does not have any more.
TRAINED = "trained"

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

    def __setitem__(self, key: str, value: Any) -> None:
        self.entries[key] = value

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def __delitem__(self, key: str) -> None:
        del self.entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def is_saveable(value: Any) -> bool:
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


def walk(model: keras.Model, include_optimizer: bool = True) -> list[Saveable]:
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
    stack: list[Iterator[tuple[str, Any]]] = [iter([("", model)])]
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


def _children(path: str, target: Any) -> Iterator[tuple[str, Any]]:
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


def _container_items(path: str, container: Any, open_containers: set[int]) -> Iterator[tuple[str, Any]]:
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


def _record_entries(target: Any) -> Entries:
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


@dataclass(frozen=True, slots=True)
class State:
    """The state of one model.

    Attributes:
        tree: Every object that Keras addresses, with what Keras stores for it.
        variables: Every variable, by path, each once; the order is that of the tree. TensorFlow's own stand among them
            as Keras variables over the same values.
        trainable: The trainable flag of every layer, by its address.
        optimizers: For every built optimizer, by its address, the paths of the variables that it trains, in its
            own order: slots belong to them by position.
        tables: Every lookup table that Keras keeps no vocabulary of, by path, each once.
    """

    tree: tuple[Saveable, ...]
    variables: Mapping[str, keras.Variable]
    trainable: Mapping[str, bool]
    optimizers: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, Table]


def collect(
    model: keras.Model,
    include_optimizer: bool = True,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> State:
    """Collects the state of a model.

    Args:
        model: A built model.
        include_optimizer: Whether the variables of optimizers belong to it.
        around: What each layer's own saving code runs in, which may be anybody's.

    Returns:
        The state. Accumulators of metrics are not part of it: Keras itself resets them at the start of each epoch.
    """
    tree = walk(model, include_optimizer)
    variables: dict[str, keras.Variable] = {}
    tables: dict[str, Table] = {}
    # By the value, since TensorFlow's own variable may stand beside a Keras variable over it.
    paths: dict[int, str] = {id(variable.value): "" for variable in _metric_variables(model)}
    passed_over = set() if include_optimizer else _find_optimizer_variables(model)
    passed_over |= set(map(id, _attachments.get(model, ())))

    def add(path: str, variable: keras.Variable) -> None:
        identity = id(variable.value)
        if identity not in paths and identity not in passed_over:
            paths[identity] = path
            variables[path] = variable

    flags = {s.path: bool(s.target.trainable) for s in tree if isinstance(s.target, keras.layers.Layer)}
    for saveable in tree:
        # A layer that was revived without its code knows the addresses of the layers that it stands for.
        for place, variable in getattr(saveable.target, "revived_variables", {}).items():
            add(join(saveable.path, place), variable)
        for place, flag in getattr(saveable.target, "revived_trainable", {}).items():
            flags[join(saveable.path, place)] = flag
        for place, table in getattr(saveable.target, "revived_tables", {}).items():
            tables[join(saveable.path, place)] = table
        with around():
            saveable.entries = _record_entries(saveable.target)
        for key, value in saveable.entries.items():
            if isinstance(value, keras.Variable):
                add(join(saveable.path, f"vars/{key}"), value)
    for saveable in tree:
        for index, generator in enumerate(getattr(saveable.target, "_seed_generators", ())):
            add(join(saveable.path, f"seed_generators/{index}"), generator.state)
        for index, variable in enumerate(_own_variables(saveable.target)):
            add(join(saveable.path, f"own/{index}"), variable)
    for saveable in tree:
        for name, leaf in _find_untracked(saveable.target):
            path = join(saveable.path, f"attributes/{name}")
            if not isinstance(leaf, LookupInterface):
                add(path, _to_variable(leaf))
            elif id(leaf) not in passed_over and all(leaf is not table.resource for table in tables.values()):
                tables[path] = Table.of(leaf)
    for index, variable in enumerate(model.variables):
        add(f"unaddressed/{index}", variable)
    for index, owner in enumerate(_captured.get(model, ())):
        if isinstance(owner, LookupInterface):
            tables[f"{CAPTURED}/{index}"] = Table.of(owner)
        else:
            add(f"{CAPTURED}/{index}", wrap_variable(owner))
    built = [s for s in tree if isinstance(s.target, keras.optimizers.Optimizer) and s.target.built]
    for saveable in built:
        # A layer that was quantized after it was trained has other variables than those that the slots are for.
        for index, variable in enumerate(saveable.target._trainable_variables):
            add(join(saveable.path, f"{TRAINED}/{index}"), variable)

    return State(
        tree=tuple(tree),
        variables=variables,
        trainable=flags,
        optimizers={
            s.path: tuple(paths[id(variable.value)] for variable in s.target._trainable_variables) for s in built
        },
        tables=tables,
    )


def _find_optimizer_variables(model: keras.Model) -> set[int]:
    """Finds the values of what optimizers hold, which may stand among the model's own attributes too."""
    optimizers = [s.target for s in walk(model) if isinstance(s.target, keras.optimizers.Optimizer)]
    return {id(variable.value) for optimizer in optimizers for variable in optimizer.variables}


def set_attachments(model: keras.Model, owners: Sequence[Any]) -> None:
    """Takes variables and tables out of a model's state that are attached to it, and that it does not use.

    Args:
        model: The model.
        owners: Variables and tables of TensorFlow.
    """
    _attachments[model] = list(owners)


def hold_captured(model: keras.Model, owners: Sequence[Any]) -> None:
    """Makes variables and tables part of a model's state that only its functions lead to.

    Args:
        model: The model.
        owners: Variables and tables of TensorFlow; nobody else has to keep them.
    """
    _captured[model] = list(owners)


def collect_state(model: keras.Model, include_optimizer: bool = True) -> dict[str, keras.Variable]:
    """Returns every variable of a model and its optimizer by its path, each once, in a fixed order."""
    return dict(collect(model, include_optimizer).variables)


@contextmanager
def untracked_kept(model: keras.Model) -> Iterator[None]:
    """Puts back the values of what Keras does not track: TensorFlow's variables and tables, and the like.

    Args:
        model: A built model.
    """
    state = collect(model, include_optimizer=False)  # an optimizer tracks all that it has
    tracked = {id(variable.value) for variable in model.variables}
    variables = [v.value for v in state.variables.values() if id(v.value) not in tracked]
    # TensorFlow shares the buffers until one is assigned, so this copies nothing.
    values = [(part, part.read_value()) for variable in variables for part in list_components(variable)]
    entries = [(table, table.export()) for table in state.tables.values() if table.changes]
    try:
        yield
    finally:
        for part, value in values:
            part.assign(value)
        for table, content in entries:
            table.fill(*content)


def _own_variables(target: Any) -> list[keras.Variable]:
    if isinstance(target, keras.optimizers.Optimizer):
        return list_variables(target)
    if isinstance(target, keras.layers.Layer):
        return [*target._trainable_variables, *target._non_trainable_variables]
    return []


def _find_untracked(target: Any) -> Iterator[tuple[str, Any]]:
    """Finds what an object holds and Keras does not track, such as the state of a stateful RNN, or a table."""
    kinds = (keras.layers.Layer, keras.losses.Loss, keras.optimizers.Optimizer)
    if not isinstance(target, kinds) or hasattr(target, "revived_variables"):
        return
    # An optimizer lists what it trains, which is not its own.
    trained = target._trainable_variables if isinstance(target, keras.optimizers.Optimizer) else ()
    others = {id(variable) for variable in trained}
    yield from ((name, leaf) for name, leaf in find_leaves(target, is_saveable) if id(leaf) not in others)


def _to_variable(leaf: Any) -> keras.Variable:
    if isinstance(leaf, keras.random.SeedGenerator):
        return leaf.state
    return leaf if isinstance(leaf, keras.Variable) else wrap_variable(leaf)


def _metric_variables(model: keras.Model) -> list[keras.Variable]:
    found = list(model.metrics_variables)
    for layer in model._flatten_layers():
        found += [variable for metric in layer._metrics for variable in metric.variables]
    return found


def read_shape(variable: keras.Variable) -> tuple[int, ...]:
    """Returns a variable's shape; its own `shape` makes a `tf.TensorShape` of it each time."""
    shape: tuple[int, ...] = variable._shape
    return shape


def count_bytes(variable: keras.Variable) -> int:
    """Returns how many bytes a variable's value takes."""
    return math.prod(read_shape(variable)) * _count_item_bytes(variable.dtype)


@cache
def _count_item_bytes(dtype: str) -> int:
    # A bool or a 4-bit number takes one byte, whatever its name says of bits.
    return int(tf.as_dtype(dtype).size)


def to_array(variable: keras.Variable) -> Array:
    """Returns a variable's value, without a copy where the memory is the host's.

    The array is read-only by convention: it is the variable's own memory.
    """
    return read_array(variable.value)


def read_array(value: Any) -> Array:
    """Returns the value of TensorFlow's variable of one, as `to_array` does."""
    if type(value) is ResourceVariable:
        # `tf.convert_to_tensor` comes to the same through layers that take more time than a small variable's bytes.
        tensor = tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)
    else:
        tensor = tf.convert_to_tensor(next(iter(list_apart(value)), value))
    try:
        return np.asarray(memoryview(tensor))
    except (BufferError, TypeError, ValueError):  # a dtype without a buffer format, or another device
        return np.asarray(tensor)


def list_components(value: tf.Variable) -> list[tf.Variable]:
    """Returns the variables that a distributed one consists of, one a replica; of any other variable itself."""
    return list(value.values) if isinstance(value, tf.distribute.DistributedValues) else [value]


def list_apart(value: tf.Variable) -> list[tf.Variable]:
    """Returns the components of a distributed variable whose value is that of each, and not their sum or mean."""
    if not isinstance(value, tf.distribute.DistributedValues):
        return []
    on_read = value.synchronization is tf.VariableSynchronization.ON_READ
    return [] if on_read and value.aggregation is not tf.VariableAggregation.NONE else list_components(value)


def digest(variable: keras.Variable) -> str:
    """Returns the SHA-256 of a variable's dtype, shape and bytes, in hexadecimal."""
    array = np.ascontiguousarray(to_array(variable))
    head = f"{array.dtype.name} {array.shape}\n".encode()
    checksum = hashlib.sha256(head)
    checksum.update(array.reshape(-1).view(np.uint8).data)
    return checksum.hexdigest()
