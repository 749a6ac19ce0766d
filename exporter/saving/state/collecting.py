"""The state of a model: every variable of it and of its optimizer, by a path that does not change between processes.

The addresses are those of Keras's own archives (`layers/dense/vars/0`, `optimizer/vars/2`), so that one tree
serves `model.weights.h5`, our own groups and TensorFlow's checkpoint alike. What Keras does not save (seed
generators, variables that a layer's own saving code folds into others, variables and layers that Keras does not track,
lookup tables) stands in the same tree under `seed_generators/<n>`, `own/<n>` and `attributes/<name>` of its owner.
"""

import hashlib
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from exporter.saving.private_api import LookupInterface, ResourceVariable
from exporter.saving.state.optimizers import list_variables
from exporter.saving.state.resources import Table, find_leaves, wrap_variable
from exporter.saving.state.tree import Saveable, is_saveable, join, record_entries, walk
from exporter.typing.keras import Model, Variable
from exporter.typing.tensorflow import Resource, TFVariable

Array = np.ndarray[Any, np.dtype[Any]]

# Where the state stands that only functions lead to.
CAPTURED = "captured"
_captured: "weakref.WeakKeyDictionary[Model, list[Resource]]" = weakref.WeakKeyDictionary()
_attachments: "weakref.WeakKeyDictionary[Model, list[Resource]]" = weakref.WeakKeyDictionary()

# Where an optimizer's variables are that the model does not have any more.
TRAINED = "trained"


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
    variables: Mapping[str, Variable]
    trainable: Mapping[str, bool]
    optimizers: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, Table]


def collect(
    model: Model,
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
    passed_over = set() if include_optimizer else _find_optimizer_variables(model)
    collector = _Collector(model, tree, passed_over | set(map(id, _attachments.get(model, ()))))
    collector.add_stored(around)
    collector.add_untold()
    collector.add_attributes()
    collector.add_captured()
    return collector.finish()


class _Collector:
    """Collects the state of one model step by step: what an earlier step found is not found again.

    Args:
        model: The model.
        tree: What Keras addresses of it.
        passed_over: The values of what is not part of the state.
    """

    def __init__(self, model: Model, tree: list[Saveable], passed_over: set[int]) -> None:
        self._model = model
        self._tree = tree
        self._passed_over = passed_over
        self._variables: dict[str, Variable] = {}
        self._tables: dict[str, Table] = {}
        # By the value, since TensorFlow's own variable may stand beside a Keras variable over it.
        self._paths: dict[int, str] = {id(variable.value): "" for variable in _metric_variables(model)}
        self._flags = {s.path: bool(s.target.trainable) for s in tree if isinstance(s.target, keras.layers.Layer)}

    def _add(self, path: str, variable: Variable) -> None:
        identity = id(variable.value)
        if identity not in self._paths and identity not in self._passed_over:
            self._paths[identity] = path
            self._variables[path] = variable

    def add_stored(self, around: Callable[[], AbstractContextManager[None]]) -> None:
        """Adds what objects store by themselves, each `around` of its own code."""
        for saveable in self._tree:
            # A layer that was revived without its code knows the addresses of the layers that it stands for.
            for place, variable in getattr(saveable.target, "revived_variables", {}).items():
                self._add(join(saveable.path, place), variable)
            for place, flag in getattr(saveable.target, "revived_trainable", {}).items():
                self._flags[join(saveable.path, place)] = flag
            for place, table in getattr(saveable.target, "revived_tables", {}).items():
                self._tables[join(saveable.path, place)] = table
            with around():
                saveable.entries = record_entries(saveable.target)
            for key, value in saveable.entries.items():
                if isinstance(value, keras.Variable):
                    self._add(join(saveable.path, f"vars/{key}"), value)

    def add_untold(self) -> None:
        """Adds what objects have and do not store: the states of seed generators, and other variables."""
        for saveable in self._tree:
            for index, generator in enumerate(getattr(saveable.target, "_seed_generators", ())):
                self._add(join(saveable.path, f"seed_generators/{index}"), generator.state)
            for index, variable in enumerate(_own_variables(saveable.target)):
                self._add(join(saveable.path, f"own/{index}"), variable)

    def add_attributes(self) -> None:
        """Adds what Keras does not track, and what it tracks and does not address."""
        for saveable in self._tree:
            for name, leaf in _find_untracked(saveable.target):
                path = join(saveable.path, f"attributes/{name}")
                if not isinstance(leaf, LookupInterface):
                    self._add(path, _to_variable(leaf))
                elif id(leaf) not in self._passed_over and all(
                    leaf is not table.resource for table in self._tables.values()
                ):
                    self._tables[path] = Table.of(leaf)
        for index, variable in enumerate(self._model.variables):
            self._add(f"unaddressed/{index}", variable)

    def add_captured(self) -> None:
        """Adds what only the functions of the model lead to."""
        for index, owner in enumerate(_captured.get(self._model, ())):
            if isinstance(owner, LookupInterface):
                self._tables[f"{CAPTURED}/{index}"] = Table.of(owner)
            else:
                self._add(f"{CAPTURED}/{index}", wrap_variable(cast(TFVariable, owner)))

    def finish(self) -> State:
        """Adds what optimizers train beyond the model, and returns the state."""
        built = [s for s in self._tree if isinstance(s.target, keras.optimizers.Optimizer) and s.target.built]
        for saveable in built:
            # A layer that was quantized after it was trained has other variables than those that the slots are for.
            for index, variable in enumerate(saveable.target._trainable_variables):
                self._add(join(saveable.path, f"{TRAINED}/{index}"), variable)
        optimizers = {
            s.path: tuple(self._paths[id(variable.value)] for variable in s.target._trainable_variables) for s in built
        }
        return State(tuple(self._tree), self._variables, self._flags, optimizers, self._tables)


def _find_optimizer_variables(model: Model) -> set[int]:
    """Finds the values of what optimizers hold, which may stand among the model's own attributes too."""
    optimizers = [s.target for s in walk(model) if isinstance(s.target, keras.optimizers.Optimizer)]
    return {id(variable.value) for optimizer in optimizers for variable in optimizer.variables}


def set_attachments(model: Model, owners: Sequence[Resource]) -> None:
    """Takes variables and tables out of a model's state that are attached to it, and that it does not use.

    Args:
        model: The model.
        owners: Variables and tables of TensorFlow.
    """
    _attachments[model] = list(owners)


def hold_captured(model: Model, owners: Sequence[Resource]) -> None:
    """Makes variables and tables part of a model's state that only its functions lead to.

    Args:
        model: The model.
        owners: Variables and tables of TensorFlow; nobody else has to keep them.
    """
    _captured[model] = list(owners)


def collect_state(model: Model, include_optimizer: bool = True) -> dict[str, Variable]:
    """Returns every variable of a model and its optimizer by its path, each once, in a fixed order."""
    return dict(collect(model, include_optimizer).variables)


@contextmanager
def untracked_kept(model: Model) -> Iterator[None]:
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


def _own_variables(target: object) -> list[Variable]:
    if isinstance(target, keras.optimizers.Optimizer):
        return list_variables(target)
    if isinstance(target, keras.layers.Layer):
        return [*target._trainable_variables, *target._non_trainable_variables]
    return []


def _find_untracked(target: object) -> Iterator[tuple[str, object]]:
    """Finds what an object holds and Keras does not track, such as the state of a stateful RNN, or a table."""
    kinds = (keras.layers.Layer, keras.losses.Loss, keras.optimizers.Optimizer)
    if not isinstance(target, kinds) or hasattr(target, "revived_variables"):
        return
    # An optimizer lists what it trains, which is not its own.
    trained = target._trainable_variables if isinstance(target, keras.optimizers.Optimizer) else ()
    others = {id(variable) for variable in trained}
    yield from ((name, leaf) for name, leaf in find_leaves(target, is_saveable) if id(leaf) not in others)


def _to_variable(leaf: Any) -> Variable:
    if isinstance(leaf, keras.random.SeedGenerator):
        leaf = leaf.state
    variable: Variable = leaf if isinstance(leaf, keras.Variable) else wrap_variable(leaf)
    return variable


def _metric_variables(model: Model) -> list[Variable]:
    found = list(model.metrics_variables)
    for layer in model._flatten_layers():
        found += [variable for metric in layer._metrics for variable in metric.variables]
    return found


def read_shape(variable: Variable) -> tuple[int, ...]:
    """Returns a variable's shape; its own `shape` makes a `tf.TensorShape` of it each time."""
    shape: tuple[int, ...] = variable._shape
    return shape


def count_bytes(variable: Variable) -> int:
    """Returns how many bytes a variable's value takes."""
    return math.prod(read_shape(variable)) * _count_item_bytes(variable.dtype)


@cache
def _count_item_bytes(dtype: str) -> int:
    # A bool or a 4-bit number takes one byte, whatever its name says of bits.
    return int(tf.as_dtype(dtype).size)


def to_array(variable: Variable) -> Array:
    """Returns a variable's value, without a copy where the memory is the host's.

    The array is read-only by convention: it is the variable's own memory.
    """
    return read_array(variable.value)


def read_array(value: TFVariable) -> Array:
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


def list_components(value: TFVariable) -> list[TFVariable]:
    """Returns the variables that a distributed one consists of, one a replica; of any other variable itself."""
    return list(value.values) if isinstance(value, tf.distribute.DistributedValues) else [value]


def list_apart(value: TFVariable) -> list[TFVariable]:
    """Returns the components of a distributed variable whose value is that of each, and not their sum or mean."""
    if not isinstance(value, tf.distribute.DistributedValues):
        return []
    on_read = value.synchronization is tf.VariableSynchronization.ON_READ
    return [] if on_read and value.aggregation is not tf.VariableAggregation.NONE else list_components(value)


def digest(variable: Variable) -> str:
    """Returns the SHA-256 of a variable's dtype, shape and bytes, in hexadecimal."""
    array = np.ascontiguousarray(to_array(variable))
    head = f"{array.dtype.name} {array.shape}\n".encode()
    checksum = hashlib.sha256(head)
    checksum.update(array.reshape(-1).view(np.uint8).data)
    return checksum.hexdigest()
