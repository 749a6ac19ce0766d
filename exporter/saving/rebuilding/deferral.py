"""What of Keras's private code makes loading fast, in one place.

Tried with Keras 3.15. Where Keras lacks what is replaced here, nothing is replaced, and Keras takes its own, slower way
to the same model; `tests/saving/test_keras_internals.py` fails then.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from exporter.saving.private_api import RandomInitializer
from exporter.saving.safety.memory import charge

_INITIALIZE = "_initialize_with_initializer"
_FROM_CONFIG = "from_config"

# Keras makes a graph of layers by a recursion of one call a layer.
_CALLS_A_LAYER = 2

_lock = threading.Lock()
_users = 0
_limit = 0
_replaced: dict[str, Any] = {}
_values: dict[tuple[Callable[..., tf.Tensor], tuple[int, ...], str], tf.Tensor] = {}


@contextmanager
def values_come_later(layers: int = 0) -> Iterator[None]:
    """Builds models faster while it is open, in every thread.

    - A variable that Keras's own initializers would fill with random numbers gets zeros: its value is loaded anyway.
      Zeros, or ones, of one shape share their memory until something is assigned.
    - A Sequential model is built once, where Keras builds it anew after each layer, in quadratic time.
    - Python's limit of recursion leaves room for that of Keras.

    Args:
        layers: How many there will be, at most one below the other.
    """
    global _users, _limit
    with _lock:
        _users += 1
        if _users == 1:
            _limit = sys.getrecursionlimit()
            _replaced.update(find_originals())
            for name, original in _replaced.items():
                setattr(_find_owner(name), name, _MAKERS[name](original))
        sys.setrecursionlimit(max(sys.getrecursionlimit(), _limit + _CALLS_A_LAYER * layers))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                sys.setrecursionlimit(_limit)
                for name, original in _replaced.items():
                    setattr(_find_owner(name), name, original)
                _replaced.clear()
                _values.clear()


def find_originals() -> dict[str, Any]:
    """Finds the methods of Keras that are replaced, by name; those that it lacks are left out."""
    owners = {name: _find_owner(name) for name in _MAKERS}
    return {name: vars(owner)[name] for name, owner in owners.items() if name in vars(owner)}


def _find_owner(name: str) -> type:
    kinds: tuple[type, ...] = keras.Variable.__mro__ if name == _INITIALIZE else (keras.Sequential,)
    return next((kind for kind in kinds if name in vars(kind)), kinds[0])


def _share_first_values(original: Callable[..., None]) -> Any:
    def initialize(variable: Any, initializer: Any) -> None:
        # What is not random is as it would be, since a metric may need it: nothing loads its accumulators.
        spared = isinstance(initializer, (RandomInitializer, keras.initializers.Zeros, keras.initializers.Ones))
        native = type(initializer).__module__.partition(".")[0] == "keras"
        if not (spared and native and tf.executing_eagerly()):
            original(variable, initializer)
            return
        make = tf.ones if isinstance(initializer, keras.initializers.Ones) else tf.zeros
        key = (make, tuple(variable._shape), variable._dtype)
        charge(variable)
        if key not in _values:
            _values[key] = make(*key[1:])
        variable._initialize(_values[key])

    return initialize


def _build_once(original: Any) -> Any:
    def from_config(cls: Any, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        build = original.__get__(None, cls)
        listed = config.get("layers", ())
        if cls.add is not keras.Sequential.add or not all("module" in layer for layer in listed):
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


_MAKERS: Mapping[str, Callable[[Any], Any]] = {_INITIALIZE: _share_first_values, _FROM_CONFIG: _build_once}
