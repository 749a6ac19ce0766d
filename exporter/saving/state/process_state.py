"""What belongs to the process and not to a model: random generators, and Keras's global state with its names."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from exporter.saving.private_api import global_state, tensorflow_generator


@contextmanager
def process_kept() -> Iterator[None]:
    """Puts back the random generators of the process and Keras's global state: making objects draws seeds and names."""
    tracked = vars(global_state.GLOBAL_STATE_TRACKER)
    kept = dict(tracked)
    contents = [(value, type(value)(value)) for value in kept.values() if type(value) in (list, set)]
    names = dict(kept.get("object_name_uids", {}))
    generator = tensorflow_generator()
    states = random.getstate(), np.random.get_state(), generator.getstate() if generator else None
    try:
        yield
    finally:
        tracked.clear()
        tracked.update(kept)
        for value, items in contents:
            _put_back(value, items)
        if "object_name_uids" in kept:
            kept["object_name_uids"].clear()
            kept["object_name_uids"].update(names)
        random.setstate(states[0])
        np.random.set_state(states[1])
        if generator:
            generator.setstate(states[2])


def _put_back(container: list[object] | set[object], items: Iterable[object]) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(items)
    else:
        container.update(items)
