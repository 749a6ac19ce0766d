"""What the replicas of a distributed model hold apart from each other.

Under a `tf.distribute.MirroredStrategy` Keras lets each replica move its statistics of the batches by itself, and each
predicts with its own. The state has one value by the path of a variable. Where the replicas differ, the value of each
stands under `replicas/<number>/<path>` as well, and comes back in a scope of as many replicas.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from exporter.saving.private_api import outside_of_scopes
from exporter.saving.state.collecting import Array, State, collect, list_apart, list_components, to_array
from exporter.saving.state.kinds import REPLICAS, is_replica_state
from exporter.typing.keras import Model, Variable


def add_replicas(state: State) -> State:
    """Adds the values of the replicas where they differ.

    Args:
        state: The state of a model.

    Returns:
        The same for a model that is not distributed, or whose replicas agree.
    """
    added: dict[str, Variable] = {}
    for path, variable in state.variables.items():
        if not isinstance(variable._value, tf.distribute.DistributedValues):
            continue
        values = [np.asarray(value) for value in list_components(variable.value)]
        if any(value.tobytes() != values[0].tobytes() for value in values):
            for number, value in enumerate(values):
                copied = keras.Variable(value, dtype=variable.dtype, trainable=False, name=variable.name)
                added[f"{REPLICAS}/{number}/{path}"] = copied
    return replace(state, variables={**state.variables, **added}) if added else state


def restore_replicas(model: Model, recorded: Iterable[str], read: Callable[[str], Array]) -> None:
    """Gives each replica its own value again, of those variables that have as many replicas as were saved.

    Args:
        model: A built model, in the saved state.
        recorded: The paths of what was saved.
        read: Reads a value by its path.
    """
    saved: dict[str, dict[str, str]] = {}
    for place in filter(is_replica_state, recorded):
        _, number, path = place.split("/", 2)
        saved.setdefault(path, {})[number] = place
    variables = collect(model).variables if saved else {}
    for path, places in saved.items():
        values = list_components(variables[path].value) if path in variables else []
        if places.keys() == set(map(str, range(len(values)))):
            for index, value in enumerate(values):
                value.assign(read(places[str(index)]))


@contextmanager
def on_one_device(model: Model) -> Iterator[None]:
    """Lets a distributed model have the variables of its first replica only, outside of every scope.

    A function that is traced with distributed variables changes each of their components. A SavedModel has one variable
    for all of these, which would be changed as many times: counters would count twice.

    Args:
        model: A built model; it gets its own variables back.
    """
    if not any(isinstance(variable._value, tf.distribute.DistributedValues) for variable in model.variables):
        yield
        return
    state = collect(model)
    variables = {id(each): each for each in (*state.variables.values(), *model.variables)}.values()
    values = [(variable, variable.value) for variable in variables]
    first = [(variable, list_components(value)[0]) for variable, value in values]
    totals = [(each, each.read_value(), to_array(variable)) for variable, each in first if _is_total(variable)]
    optimizers = [each.target for each in state.tree if isinstance(each.target, keras.optimizers.Optimizer)]
    strategies = [(optimizer, optimizer._distribution_strategy) for optimizer in optimizers]
    try:
        for variable, component in first:
            variable._value = component
        for component, _, total in totals:
            component.assign(total)
        with outside_of_scopes():
            for optimizer in optimizers:
                optimizer._distribution_strategy = tf.distribute.get_strategy()
            yield
    finally:
        for component, own, _ in totals:
            component.assign(own)
        for variable, value in values:
            variable._value = value
        for optimizer, strategy in strategies:
            optimizer._distribution_strategy = strategy


def _is_total(variable: Variable) -> bool:
    distributed = isinstance(variable.value, tf.distribute.DistributedValues)
    return distributed and not list_apart(variable.value)
