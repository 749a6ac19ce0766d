"""What a case of the zoo is: how to build a model, and the batches that it is trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

BATCH = 4
STEPS_BEFORE, STEPS_AFTER = 3, 2
ROWS = BATCH * (STEPS_BEFORE + STEPS_AFTER)

Way = Literal["fit", "train_on_batch", "none"]


@dataclass(frozen=True, slots=True)
class Data:
    """Rows for the steps before a save and for those after it; nested structures of arrays."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    def take(self, start: int, stop: int) -> "Data":
        """Returns the rows `start` to `stop`."""
        return Data(
            *(
                None if part is None else keras.tree.map_structure(lambda leaf: leaf[start:stop], part)
                for part in (self.x, self.y, self.sample_weight)
            )
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One model and how it is trained.

    Attributes:
        build: Makes the model, compiled if it is to be.
        data: Makes `ROWS` rows.
        before: How it is trained before it is saved.
        after: How it is trained when it is loaded.
        custom_objects: What `load_model` needs to know.
        safe_mode: What `load_model` is told.
        refused: The error text of each format that cannot hold the model.
        spoil: Changes the trained model, just before it is saved.
        predicts: Whether its predictions could tell more than its weights.
        stock_formats: Those that Keras's own reader opens: the archive and its twin in the SavedModel are one layout,
            so the archive stands for both where a case is about nothing but values in it.
        in_graphs: Whether it always goes on in graphs: run one by one, its operations fail or add up in another order.
    """

    build: Callable[[], keras.Model]
    data: Callable[[], Data]
    before: Way = "fit"
    after: Way = "fit"
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    safe_mode: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)
    spoil: Callable[[keras.Model], None] | None = None
    predicts: bool = True
    stock_formats: tuple[str, ...] = ("h5", "tf", "keras")
    in_graphs: bool = False


CASES: dict[str, Case] = {}


def case(data: Callable[[], Data], **options: Any) -> Callable[[Callable[[], keras.Model]], Callable[[], keras.Model]]:
    """Registers a builder function under its name."""

    def register(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        CASES[build.__name__.strip("_")] = Case(build, data, **options)
        return build

    return register


def compiled(
    model: keras.Model, loss: Any = "mean_squared_error", optimizer: Any = None, **arguments: Any
) -> keras.Model:
    """Compiles a model without XLA, which would take seconds for each of these models."""
    optimizer = keras.optimizers.Adam(0.01) if optimizer is None else optimizer
    model.compile(optimizer, loss, **{"jit_compile": False, **arguments})
    return model


def numbers(*shape: int, seed: int = 7) -> np.ndarray[Any, Any]:
    """Returns `ROWS` rows of normally distributed float32 numbers."""
    return np.random.default_rng(seed).normal(size=(ROWS, *shape)).astype("float32")


def classes(count: int, *shape: int, seed: int = 8) -> np.ndarray[Any, Any]:
    """Returns `ROWS` rows of int32 numbers from 0 to `count` - 1."""
    return np.random.default_rng(seed).integers(0, count, size=(ROWS, *shape)).astype("int32")


def strings(words: str, *shape: int, seed: int = 9) -> tf.Tensor:
    """Returns `ROWS` rows of words, each out of the blank-separated `words`."""
    known = np.array(words.split(), dtype=object)
    return tf.constant(known[np.random.default_rng(seed).integers(0, len(known), size=(ROWS, *shape))])


def regression(*shape: int, outputs: int = 2) -> Callable[[], Data]:
    """Numbers to numbers."""
    return lambda: Data(numbers(*shape), numbers(outputs, seed=10))


def classification(*shape: int, count: int = 3) -> Callable[[], Data]:
    """Numbers to classes."""
    return lambda: Data(numbers(*shape), classes(count))
