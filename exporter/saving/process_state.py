"""What belongs to the process and not to a model: random generators and the names that Keras gave away."""

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from exporter.saving.internals import global_state, tensorflow_generator

_NAMES = "object_name_uids"


@contextmanager
def process_kept() -> Iterator[None]:
    """Puts back the random generators of the process and Keras's global state: making objects draws seeds and names."""
    tracked = vars(global_state.GLOBAL_STATE_TRACKER)
    kept = dict(tracked)
    names = dict(global_state.get_global_attribute(_NAMES, defaultdict(int), set_to_default=True))
    generator = tensorflow_generator()
    states = random.getstate(), np.random.get_state(), generator.getstate() if generator else None
    try:
        yield
    finally:
        tracked.clear()
        tracked.update(kept)
        current = global_state.get_global_attribute(_NAMES, defaultdict(int), set_to_default=True)
        current.clear()
        current.update(names)
        random.setstate(states[0])
        np.random.set_state(states[1])
        if generator:
            generator.setstate(states[2])
