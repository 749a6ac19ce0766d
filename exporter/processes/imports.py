"""What Keras imports wherever it is installed, and an export never uses.

Keras looks for matplotlib, for its galleries of pictures, and for scikit-learn, for its wrappers: together they take a
third of its own time to import.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NEEDLESS = ("matplotlib", "sklearn")
_own_process = False


def claim_process() -> None:
    """Says that this process is started for our command, and not by somebody else's program."""
    global _own_process
    _own_process = True


@contextmanager
def needless_imports_hidden() -> Iterator[None]:
    """Hides these packages inside the block, where Keras is imported; later, the code of a model may import them.

    In somebody else's process nothing is hidden: what Keras has not found then, it would lack for good.
    """
    hidden = [name for name in _NEEDLESS if _own_process and name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
