"""What of Keras's private code makes loading fast, in one place.

Tried with Keras 3.15. Where Keras lacks what is replaced here, nothing is replaced, and Keras takes its own, slower way
to the same model; `tests/saving/test_keras_internals.py` fails then.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from exporter.processes.replacing import find_owner, replaced
from exporter.saving.private_api import RandomInitializer
from exporter.typing.keras import Variable
from exporter.typing.structures import Config

# Keras makes a graph of layers by a recursion of one call a layer.
_CALLS_A_LAYER = 2

_lock = threading.Lock()
_users = 0
_limit = 0

# The first values that variables share, in a thread that has a block open.
_Values = dict[tuple[Callable[..., tf.Tensor], tuple[int, ...], str], tf.Tensor]
_values: ContextVar[_Values | None] = ContextVar("first values of variables", default=None)


@contextmanager
def defer_initialization(layers: int = 0) -> Iterator[None]:
    """Builds models faster while it is open; other threads build theirs as ever.

    - A variable that Keras's own initializers would fill with random numbers gets zeros: its value is loaded anyway.
      Zeros, or ones, of one shape share their memory until something is assigned.
    - A Sequential model is built once, where Keras builds it anew after each layer, in quadratic time.
    - Python's limit of recursion, which all threads share, leaves room for that of Keras.

    Args:
        layers: How many there will be, at most one below the other.
    """
    outer = _values.get()
    token = _values.set({} if outer is None else outer)
    try:
        with ExitStack() as stack:
            stack.enter_context(_room_for_calls(_CALLS_A_LAYER * layers))
            for name in find_originals():
                stack.enter_context(replaced(_KINDS[name], name, _MAKERS[name]))
            yield
    finally:
        _values.reset(token)


@contextmanager
def _room_for_calls(count: int) -> Iterator[None]:
    """Raises Python's limit of recursion until the last of the blocks that overlap is closed."""
    global _users, _limit
    with _lock:
        if not _users:
            _limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(sys.getrecursionlimit(), _limit + count))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                sys.setrecursionlimit(_limit)


def find_originals() -> dict[str, Callable[..., object]]:
    """Finds the methods of Keras that are replaced, by name; those that it lacks are left out."""
    owners = {name: find_owner(kind, name) for name, kind in _KINDS.items()}
    # What another model or layer has of its own must stay as it is.
    others = keras.Sequential.__mro__[1:]
    return {name: vars(owner)[name] for name, owner in owners.items() if owner is not None and owner not in others}


def _share_first_values(original: Callable[..., None]) -> Callable[..., None]:
    def initialize(variable: Variable, initializer: object) -> None:
        # What is not random is as it would be, since a metric may need it: nothing loads its accumulators.
        spared = isinstance(initializer, (RandomInitializer, keras.initializers.Zeros, keras.initializers.Ones))
        native = type(initializer).__module__.partition(".")[0] == "keras"
        values = _values.get()
        if values is None or not (spared and native and tf.executing_eagerly()):
            original(variable, initializer)
            return
        make = tf.ones if isinstance(initializer, keras.initializers.Ones) else tf.zeros
        key = (make, tuple(variable._shape), variable._dtype)
        if key not in values:
            values[key] = make(*key[1:])
        variable._initialize(values[key])

    return initialize


def _build_once(original: Any) -> Any:
    def from_config(cls: Any, config: Config, custom_objects: Mapping[str, object] | None = None) -> Any:
        build = original.__get__(None, cls)
        listed = config.get("layers", ())
        is_ours = _values.get() is not None and cls.add is keras.Sequential.add
        if not is_ours or not all("module" in layer for layer in listed):
            return build(config, custom_objects)
        model = build({**config, "layers": [], "build_input_shape": None}, custom_objects)
        for layer in listed:
            model.add(keras.saving.deserialize_keras_object(layer, custom_objects=custom_objects), rebuild=False)
        if listed:
            model._maybe_rebuild()
        shape = config.get("build_input_shape")
        if not model._functional and isinstance(shape, (tuple, list)) and shape:
            model.build(shape)
        return model

    return classmethod(from_config)


_KINDS: Mapping[str, type] = {"_initialize_with_initializer": keras.Variable, "from_config": keras.Sequential}
_MAKERS: Mapping[str, Callable[[Any], Any]] = {
    "_initialize_with_initializer": _share_first_values,
    "from_config": _build_once,
}
