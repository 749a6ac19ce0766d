"""Imports TensorFlow without Python's garbage collector at work.

An import makes hundreds of thousands of objects that stay, and the collector looks through all of them again and again,
and once more when the process ends: that is a quarter of the processor's time of a short export.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imports_set_aside() -> Iterator[None]:
    """Nothing is collected inside the block; use it around imports alone, which leave no garbage behind.

    Where TensorFlow is imported for the first time, the collector also passes over all that is alive when the block
    ends, until `gc.unfreeze()`. At another time there may be models among that, which nothing but it ends.
    """
    was_enabled = gc.isenabled()
    is_first = "tensorflow" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if is_first:
            gc.freeze()
        if was_enabled:
            gc.enable()
