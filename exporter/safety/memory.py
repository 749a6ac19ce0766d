"""A limit on the variables that a model may make while it is rebuilt from a stranger's configuration.

A layer makes its weights before they are read: a few bytes of configuration can ask for all memory. So a rebuilt model
may make about as many numbers as the artifact holds.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from exporter.errors import ArtifactError
from exporter.saving.internals import BackendVariable as Variable

# What Keras makes and no file holds: counters, caches of layers, and the like.
_ALLOWANCE = 1 << 22

# An optimizer makes up to five slots for a weight, which a file of an untrained model lacks.
_TIMES = 8

_left: ContextVar[list[int] | None] = ContextVar("numbers left", default=None)


@contextmanager
def limit_variables(stored: int | None) -> Iterator[None]:
    """Bounds how many numbers the variables that are made inside may hold.

    Args:
        stored: How many numbers the artifact holds; None for no limit.

    Raises:
        ArtifactError: Inside: a variable would go far beyond.
    """
    token = _left.set(None if stored is None else [_TIMES * stored + _ALLOWANCE])
    try:
        yield
    finally:
        _left.reset(token)


def charge(variable: Any) -> None:
    """Counts a variable that is about to get its first value.

    Args:
        variable: A Keras variable that knows its shape.

    Raises:
        ArtifactError: It goes beyond the limit.
    """
    left = _left.get()
    if left is None:
        return
    shape = tuple(variable._shape)
    left[0] -= math.prod(shape)
    if left[0] < 0:
        raise ArtifactError(
            f"The model's configuration is refused: its variable {variable.path!r} of the shape {shape} goes far "
            "beyond what the file holds. Load it with safe_mode=False only if you trust where the file comes from."
        )


def _count_first_values(original: Any) -> Any:
    def initialize(variable: Any, initializer: Any) -> None:
        charge(variable)
        original(variable, initializer)

    return initialize


# Keras has no hook for this. Outside of `limit_variables` it counts nothing.
Variable._initialize_with_initializer = _count_first_values(Variable._initialize_with_initializer)
