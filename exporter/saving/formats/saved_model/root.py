"""The object that `tf.saved_model.load` gives back, and what it leads to."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from exporter.saving.functions.records import FunctionsHolder
from exporter.saving.graph.signatures import find_captured
from exporter.saving.private_api import AutoTrackable
from exporter.saving.state.collecting import State
from exporter.saving.state.kinds import Kind, find_kind
from exporter.typing.keras import Model
from exporter.typing.tensorflow import ConcreteFunction, LookupTable, TFVariable


def make_root(
    model: Model, state: State, traced: Sequence[ConcreteFunction], functions: FunctionsHolder | None, whole: bool
) -> object:
    """Makes the object whose attributes `tf.saved_model.load` gives back.

    It is not the model itself: TensorFlow would rename the model's inputs, and converters leave its variables
    uninitialised.
    """
    root = AutoTrackable()
    weights = list(model.weights)
    root.variables = [variable.value for variable in weights]
    root.trainable_variables = [variable.value for variable in weights if variable.trainable]
    root.non_trainable_variables = [variable.value for variable in weights if not variable.trainable]
    for name, value in _find_attachments(model):
        if not hasattr(root, name):
            setattr(root, name, value)
    root.exporter = AutoTrackable()
    used = {id(variable) for function in traced for variable in function.variables}
    # Slots, and the values of other replicas, are in the checkpoint; a server need not hold them in memory too.
    root.exporter.state = {
        path: variable.value
        for path, variable in state.variables.items()
        if whole
        or id(variable.value) in used
        or find_kind(path, state.optimizers) not in (Kind.OPTIMIZER, Kind.REPLICAS)
    }
    root.exporter.tables = {path: table.resource for path, table in state.tables.items()}
    if functions is not None:
        root.exporter.functions = functions
    root.exporter.captured = _find_captured(root, traced)
    root.exporter.resources = _find_resources(traced)
    return root


def _find_captured(root: Any, functions: Iterable[ConcreteFunction]) -> list[TFVariable]:
    """Finds the variables that functions use beyond the state, such as those of metrics."""
    known = {id(variable) for variable in root.exporter.state.values()}
    captured: dict[int, TFVariable] = {}
    for function in functions:
        # A function has its variables in an order of chance, and what it captures in the order of its use.
        variables = {id(variable.handle): variable for variable in function.variables if id(variable) not in known}
        for tensor in function.captured_inputs:
            if id(tensor) in variables:
                captured.setdefault(id(tensor), variables[id(tensor)])
    return list(captured.values())


def list_functions(holder: FunctionsHolder) -> Iterator[ConcreteFunction]:
    """Gives the concrete functions that a model lives on as."""
    for unit in holder.units.values():
        yield unit.inference.get_concrete_function()
        if hasattr(unit, "training"):
            yield unit.training.get_concrete_function()
    for name in ("train", "test", "reset", "results"):
        if hasattr(holder, name):
            yield getattr(holder, name).get_concrete_function()


def trace_attachments(model: Model) -> dict[str, ConcreteFunction]:
    """Traces the attached functions whose shapes are known, as TensorFlow will do when it saves them."""
    return {
        name: value.get_concrete_function()
        for name, value in _find_attachments(model)
        if isinstance(value, tf.types.experimental.PolymorphicFunction) and value.input_signature is not None
    }


def _find_attachments(model: Model) -> Iterator[tuple[str, object]]:
    """Finds what a user attached to the model: functions, variables, tables, assets, modules."""
    own = (keras.layers.Layer, keras.Variable, keras.optimizers.Optimizer, keras.metrics.Metric, keras.losses.Loss)
    for owner in type(model).__mro__:
        if owner.__module__.partition(".")[0] == "keras":
            break
        for name, value in vars(owner).items():
            if isinstance(value, tf.types.experimental.PolymorphicFunction):
                yield name, getattr(model, name)
    for name, value in vars(model).items():
        public = not name.startswith("_") and not name.endswith(("train_function", "test_function", "predict_function"))
        function = isinstance(value, tf.types.experimental.PolymorphicFunction)
        resource = isinstance(value, (tf.Variable, tf.Module, tf.saved_model.Asset))
        table = isinstance(value, tf.saved_model.experimental.TrackableResource)
        if public and not isinstance(value, own) and (function or resource or table):
            yield name, value


def _find_resources(functions: Iterable[ConcreteFunction]) -> list[LookupTable]:
    """Finds the lookup tables that functions use, wherever they were made: TensorFlow wants them in the object graph.

    Others stay out, such as the table in which a text layer counts tokens while it adapts.
    """
    kind = tf.saved_model.experimental.TrackableResource
    return list({id(table): table for function in functions for table in find_captured(function, kind)}.values())


@contextmanager
def tables_kept(functions: Iterable[ConcreteFunction]) -> Iterator[None]:
    """Takes back the names that TensorFlow gives to tables when it saves them: the next trace would hold them."""
    tables = [vars(table) for table in _find_resources(functions)]
    names = [table.get("_table_name") for table in tables]
    try:
        yield
    finally:
        for table, name in zip(tables, names, strict=True):
            if "_table_name" in table:
                table["_table_name"] = name
