"""A limit on the variables and tensors that a model may make while it is rebuilt from a stranger's configuration.

A layer makes its weights before they are read: a few bytes of configuration can ask for all memory. So a rebuilt model
may make about as many numbers as the artifact holds. And an operation may have as many outputs as a number in its
configuration says.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps

import keras

from exporter.errors import ArtifactError
from exporter.processes.replacing import replaced
from exporter.saving.private_api import BackendVariable
from exporter.typing.keras import Variable

# What Keras makes and no file holds: counters, caches of layers, and the like.
_ALLOWANCE = 1 << 22

# An optimizer makes up to five slots for a weight, which a file of an untrained model lacks.
_TIMES = 8

# Symbolic ones: a model of 10,000 layers has some ten thousand of them.
_TENSORS = 200_000

_TRUST = "Load it with safe_mode=False only if you trust where the file comes from."

_left: ContextVar[list[int] | None] = ContextVar("numbers and tensors left", default=None)


@contextmanager
def limit_variables(stored: int | None) -> Iterator[None]:
    """Bounds how many numbers the variables that are made inside may hold, and how many symbolic tensors are made.

    Args:
        stored: How many numbers the artifact holds; None for no limit.

    Raises:
        ArtifactError: Inside: a variable would go far beyond.
    """
    token = _left.set(None if stored is None else [_TIMES * stored + _ALLOWANCE, _TENSORS])
    try:
        with ExitStack() as stack:
            if stored is not None:
                # Keras has no hook for this.
                make = _count_first_values
                stack.enter_context(replaced(BackendVariable, "_initialize_with_initializer", make, outermost=True))
                stack.enter_context(replaced(keras.KerasTensor, "__init__", _count_tensors))
            yield
    finally:
        _left.reset(token)


def _charge(variable: Variable) -> None:
    left = _left.get()
    if left is None:
        return
    shape = tuple(variable._shape)
    left[0] -= math.prod(shape)
    if left[0] < 0:
        raise ArtifactError(
            f"The model's configuration is refused: its variable {variable.path!r} of the shape {shape} goes far "
            f"beyond what the file holds. {_TRUST}"
        )


def _count_first_values(original: Callable[..., None]) -> Callable[..., None]:
    def initialize(variable: Variable, initializer: object) -> None:
        _charge(variable)
        original(variable, initializer)

    return initialize


def _count_tensors(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def initialize(*args: object, **kwargs: object) -> None:
        left = _left.get()
        if left is not None:
            left[1] -= 1
            if left[1] < 0:
                raise ArtifactError(
                    f"The model's configuration is refused: it makes more than {_TENSORS:,} tensors. {_TRUST}"
                )
        original(*args, **kwargs)

    return initialize
