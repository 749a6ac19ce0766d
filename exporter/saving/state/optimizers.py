"""Optimizers, and what of one can be made again from its configuration."""

import copy
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import keras

from exporter.saving.configuration.configurations import REVIVED_MODULE, find_foreign_names
from exporter.saving.configuration.custom_code import find_code
from exporter.saving.configuration.faults import explain
from exporter.saving.state.process_state import process_kept
from exporter.typing.keras import Optimizer, Schedule, Variable

# The rate that stands for a schedule which is lost, by the optimizer that has it.
_held: "weakref.WeakKeyDictionary[Optimizer, Variable]" = weakref.WeakKeyDictionary()


def find_schedule(optimizer: Optimizer) -> Schedule | None:
    """Returns the learning-rate schedule of an optimizer, or of the one inside it; None if its rate is a number."""
    rate = getattr(_find_inner(optimizer), "_learning_rate", None)
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def _find_inner(optimizer: Optimizer) -> Optimizer:
    return getattr(optimizer, "inner_optimizer", optimizer)


def explain_loss(value: object) -> str | None:
    """Says why an object cannot be made again from its configuration; None if it can.

    Args:
        value: An optimizer, a schedule, a loss, a metric, or a function.
    """
    try:
        with process_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = keras.saving.serialize_keras_object(value)
            if find_foreign_names(config):
                keras.saving.deserialize_keras_object(copy.deepcopy(config), find_code(value), safe_mode=False)
    except Exception as error:  # its class is the user's, and that code may raise anything
        return explain(error)
    return None


def find_lost_schedule(optimizer: Optimizer) -> Schedule | None:
    """Returns the schedule of an optimizer that cannot be made again; None if it can, or if there is none."""
    schedule = find_schedule(optimizer)
    return schedule if schedule is not None and _is_foreign(schedule) and explain_loss(schedule) else None


def is_lost(optimizer: Optimizer) -> bool:
    """Returns whether an optimizer cannot be made again, even with a rate that stands for a lost schedule."""
    inner = _find_inner(optimizer)
    if not _is_foreign(optimizer) and not _is_foreign(inner):
        return False
    with rate_held(optimizer):
        return explain_loss(optimizer) is not None


def _is_foreign(value: object) -> bool:
    module = type(value).__module__
    return module != REVIVED_MODULE and module.partition(".")[0] != "keras"


def list_variables(optimizer: Optimizer) -> list[Variable]:
    """Lists the variables of an optimizer as one has them that was made from its configuration.

    Where a rate stands for a lost schedule, that has a place among them.
    """
    variables = list(optimizer.variables)
    if find_lost_schedule(optimizer) is None:
        return variables
    inner = _find_inner(optimizer)
    place = next(number for number, variable in enumerate(variables) if variable is inner._iterations)
    held = _held[inner] if inner in _held else hold_rate(optimizer)
    return [*variables[: place + 1], held, *variables[place + 1 :]]


def hold_rate(optimizer: Optimizer) -> Variable:
    """Takes down the rate that a lost schedule gives at the present step, and returns the variable that holds it."""
    inner = _find_inner(optimizer)
    schedule = cast(Schedule, find_schedule(optimizer))
    rate = float(schedule(inner.iterations))
    if inner not in _held:
        _held[inner] = keras.Variable(rate, dtype="float32", trainable=False, name="learning_rate")
    _held[inner].assign(rate)
    return _held[inner]


@contextmanager
def rate_held(optimizer: Optimizer) -> Iterator[None]:
    """Lets an optimizer say the held rate in its configuration, where its schedule is lost."""
    if find_lost_schedule(optimizer) is None:
        yield
        return
    inner = _find_inner(optimizer)
    attributes = vars(inner)
    schedule = attributes["_learning_rate"]
    attributes["_learning_rate"] = _held[inner] if inner in _held else hold_rate(optimizer)
    try:
        yield
    finally:
        attributes["_learning_rate"] = schedule
