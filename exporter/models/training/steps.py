"""One training step, taken the same way in any process, after which a model can be what it was before."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import keras
import tensorflow as tf

from exporter.models.predictions import convert_batch
from exporter.models.randomness import choose_seed, generators_seeded
from exporter.processes.arrays import Array
from exporter.saving.graph.inputs import Inputs, build_structure
from exporter.saving.private_api import Tracker
from exporter.saving.state.collecting import list_components, untracked_kept
from exporter.saving.state.process_state import process_kept
from exporter.saving.state.tree import is_saveable
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Tensor, TFVariable


def take_step(model: Model, specs: Inputs, arrays: Sequence[Array], eager: bool) -> None:
    """Trains a compiled model on one batch, as `fit` would.

    Run eagerly, it costs what it computes. Compiled, most of its time is the trace: minutes for a large model. It is
    compiled anew for the batch's own shapes: two processes then run the same graph, whatever their models did before.

    Args:
        model: The model; it is changed.
        specs: What the batch is made of; the structure is `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        arrays: One array per leaf.
        eager: Whether Python runs the step, operation by operation.
    """
    data = make_data(specs, arrays)
    if not eager:
        with suppress(Exception), generators_seeded(choose_seed(), operations=False):
            # A step that makes variables, such as those of metrics that were not used yet, is traced a second time.
            # What cannot be made ahead is made in the step.
            model._symbolic_build(data_batch=data)
    with compiled_anew(model, eager):
        model.make_train_function()
        model.train_function(iter([data]))


def make_data(specs: Inputs, arrays: Sequence[Array]) -> Nested[Tensor]:
    """Makes what a step of training or evaluation takes.

    Args:
        specs: See `take_step`.
        arrays: One array per leaf.

    Returns:
        Tensors in the structure of `specs`.
    """
    tensors = convert_batch(specs, arrays)
    parts = [build_structure(structure, tensors) for structure in specs.structure]
    return parts[0] if len(parts) == 1 and not isinstance(parts[0], (list, tuple)) else tuple(parts)


@contextmanager
def compiled_anew(model: Model, eager: bool) -> Iterator[None]:
    """Lets a model make its functions of training, evaluation and inference anew, and puts back how they are run.

    Args:
        model: The model.
        eager: Whether Python runs what they run, operation by operation.
    """
    kept = model.run_eagerly
    model.run_eagerly = eager
    model.train_function = model.test_function = model.predict_function = None
    try:
        yield
    finally:
        model.run_eagerly = kept
        model.train_function = model.test_function = model.predict_function = None


@contextmanager
def warnings_kept_back() -> Iterator[None]:
    """Keeps back what a model warned of when it was trained, and that its functions are compiled anew."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def preserve_model(model: Model) -> Iterator[None]:
    """Puts back everything that training changes: of the model, and of the process.

    Of the model these are the values of all variables, and the attributes and containers of every object that Keras
    tracks: slots that an optimizer makes, losses that a layer adds, compiled functions, flags. Of the process these
    are the names that Keras gave away and the random generators.

    Args:
        model: A built model.
    """
    owners, containers, variables = _find_mutable(model)
    attributes = [(vars(owner), dict(vars(owner))) for owner in owners]
    contents = [(container, _copy(container)) for container in containers]
    # TensorFlow shares the buffers until one is assigned, so this copies nothing.
    values = [(variable, variable.read_value()) for variable in variables]
    try:
        with untracked_kept(model), process_kept():
            yield
    finally:
        for container, items in contents:
            _put_back(container, items)
        for current, old in attributes:
            _put_back(current, old)
        for variable, value in values:
            variable.assign(value)


def _find_mutable(model: Model) -> tuple[list[object], list[Any], list[TFVariable]]:
    """Finds the objects with attributes, the containers, and the variables that belong to a model."""
    owners: list[object] = []
    containers: list[Any] = []
    variables: list[TFVariable] = []
    found: set[int] = set()
    # An own stack: a model of a thousand nested parts is deeper than Python's recursion limit.
    waiting: list[Any] = [model]
    while waiting:
        value = waiting.pop()
        if id(value) in found:
            continue
        found.add(id(value))
        if isinstance(value, tf.Variable):
            variables.extend(list_components(value))  # replicas may hold different values
        elif isinstance(value, (list, dict, set, tuple)):
            own = getattr(value, "__dict__", {})
            # TensorFlow's own kind of list keeps its items in a second one, which stands among its attributes.
            if not isinstance(value, tuple) and "_storage" not in own:
                containers.append(value)
            if own:
                owners.append(value)
            waiting.extend(value.values() if isinstance(value, dict) else value)
            waiting.extend(own.values())
        elif is_saveable(value) or isinstance(value, (keras.Variable, keras.random.SeedGenerator, Tracker)):
            owners.append(value)
            waiting.extend(vars(value).values())
    return owners, containers, variables


def _copy(container: Any) -> Any:
    kind = next(kind for kind in (list, dict, set) if isinstance(container, kind))
    return kind(container)


def _put_back(container: Any, items: Any) -> None:
    """Gives a container its old items; one that did not change is not touched."""
    # Keras's containers tell a tracker of every change, which is put back by itself; hence the methods of plain ones.
    if isinstance(container, list):
        if len(container) != len(items) or any(new is not old for new, old in zip(container, items, strict=True)):
            list.__setitem__(container, slice(None), items)
    elif isinstance(container, dict):
        # TensorFlow's own kind of dict wraps a plain one, and has to know of every change.
        plain = dict if issubclass(type(container), dict) else type(container)
        for key in [key for key in container if key not in items]:
            plain.__delitem__(container, key)
        for key, item in items.items():
            if key not in container or container[key] is not item:
                plain.__setitem__(container, key, item)
    elif container != items:
        set.clear(container)
        set.update(container, items)
