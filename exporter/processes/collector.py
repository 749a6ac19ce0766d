"""Work without Python's garbage collector.

An import, a load or a save makes hundreds of thousands of objects that stay, and the collector looks through all that
are alive again and again. With TensorFlow imported, once takes a quarter of a second.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Nothing is collected inside the block; use it around what leaves little garbage behind."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def living_set_aside() -> Iterator[None]:
    """A collection inside the block passes over all that was alive before; use it around code that asks for many.

    What `imports_set_aside` had set aside is looked through again when the block ends.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def imports_set_aside() -> Iterator[None]:
    """Nothing is collected inside the block; use it around imports alone, which leave no garbage behind.

    Where TensorFlow is imported for the first time, the collector also passes over all that is alive when the block
    ends, until `gc.unfreeze()`. At another time there may be models among that, which nothing but it ends.
    """
    is_first = "tensorflow" not in sys.modules
    with collector_paused():
        try:
            yield
        finally:
            if is_first:
                gc.freeze()
