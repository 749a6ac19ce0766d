"""The random generators of a process, which belong to no model, and operations that answer otherwise each time."""

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from exporter.saving.private_api import (
    GLOBAL_SEED_GENERATOR,
    disable_op_determinism,
    eager_context,
    global_state,
    is_op_determinism_enabled,
    stateful_random_ops,
)

_BITS = 31


def choose_seed() -> int:
    """Returns a seed that nobody can guess, and that no model was made with."""
    return secrets.randbits(_BITS)


def seed_generators(seed: int) -> None:
    """Seeds all of the process's generators: those of Python, NumPy, Keras and TensorFlow.

    TensorFlow forgets the operations that it has prepared, and prepares them once more.

    Args:
        seed: At least 0, below 2 ** 31.
    """
    _seed_but_operations(seed)
    tf.random.set_seed(seed)
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


def _seed_but_operations(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    generator = keras.random.SeedGenerator(seed, name=GLOBAL_SEED_GENERATOR)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
    if stateful_random_ops.global_generator is not None:
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


@contextmanager
def generators_seeded(seed: int, operations: bool) -> Iterator[None]:
    """Seeds the process's generators, and puts them back where they were.

    Args:
        seed: As for `seed_generators`.
        operations: Whether TensorFlow's random operations without a generator are seeded, too. It is cheaper without.
    """
    states = random.getstate(), np.random.get_state()
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    global_generator = stateful_random_ops.global_generator
    context = vars(eager_context())
    kept = {name: context[name] for name in ("_seed", "_rng") if name in context}  # it has no generator without a seed
    try:
        if operations:
            seed_generators(seed)
        else:
            _seed_but_operations(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
        stateful_random_ops.global_generator = global_generator
        if operations:
            context.pop("_rng", None)
            context.update(kept)


def has_accelerator() -> bool:
    """Tells whether TensorFlow computes on a GPU, where it adds up in an order of chance unless it is told not to."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextmanager
def operations_deterministic(wanted: bool) -> Iterator[None]:
    """Asks TensorFlow for operations that give the same bits each time, until the block ends.

    Random operations without a seed are refused meanwhile.

    Args:
        wanted: False for a block that changes nothing.
    """
    asked = wanted and not is_op_determinism_enabled()
    if asked:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if asked:
            disable_op_determinism()
