"""Imports TensorFlow without Python's garbage collector at work.

An import makes hundreds of thousands of objects that stay, and the collector looks through all of them again and again:
that is a fifth of the time that the import takes.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Nothing is collected inside the block; use it around imports alone, which leave no garbage behind."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
