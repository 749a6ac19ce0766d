"""How far a model's own outputs move when its numbers are rounded: what another's arithmetic may differ by.

A converted model computes the same in another order and with other kernels, so it rounds elsewhere. How much that
matters is a property of the model: its weights and inputs are moved at random by at most half a unit in the last place,
and what its outputs do then is the unit in which the difference of an artifact is told.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from exporter.models.predictions import convert_output
from exporter.processes.arrays import Array
from exporter.saving.deployment.quantizing import Quantize
from exporter.typing.keras import Model
from exporter.typing.tensorflow import ConcreteFunction, TFVariable

Batch = Mapping[str, Array]

_DRAWS = 3
# Units in the last place by which two answers of one model may differ, in the least precise sum of a deep network.
_STEADY = 1024
# The share of an output's numbers that says what is usual for them, and how much farther those move that jump.
_USUAL = 0.99
_JUMP = 100
# How many times as many jumps an artifact may have.
_TIMES = 8
# Half a unit in the last place, as a share of the number: of IEEE 754's dtypes, and of bfloat16.
HALF_UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True, slots=True)
class Unit:
    """How far an output moves.

    Attributes:
        whole: At most.
        jumps: How many of its numbers move much farther than the others, because they stand at a threshold.
        settled: How far the others move at most.
    """

    whole: float
    jumps: int
    settled: float

    def tell(self, distances: Array) -> float:
        """Tells distances in this unit; an artifact stands at the edge of a threshold elsewhere, but not more often.

        Args:
            distances: Between what the model answers and what another does, in a row.
        """
        ratio = float(distances.max(initial=0.0)) / self.whole
        allowed = _TIMES * self.jumps
        if not self.jumps or allowed >= distances.size:
            return ratio
        others = np.partition(distances, distances.size - allowed - 1)[distances.size - allowed - 1]
        return max(ratio, float(others) / self.settled)


@dataclass(slots=True)
class Rounding:
    """An endpoint of the model, and what rounding does to it.

    Attributes:
        answer: The endpoint as a function of an array per input by name, which returns an array per output.
        batches: What it is asked.
        half_unit: See `HALF_UNITS`: of the coarsest dtype in which the model or its artifact keeps numbers.
        seed: Of the draws.
        variables: What it computes with, which is rounded as well.
        answers: What it answers, for each batch.
        unsteady: The outputs for which it has another answer the next time.
    """

    answer: Callable[[Batch], dict[str, Array]]
    batches: Sequence[Batch]
    half_unit: float
    seed: int
    variables: Sequence[TFVariable] = ()
    answers: list[dict[str, Array]] = field(init=False)
    unsteady: frozenset[str] = field(init=False)
    _moved: list[list[dict[str, Array]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.answers = self._ask(self.batches)
        pairs = list(zip(self.answers, self._ask(self.batches), strict=True))
        self.unsteady = frozenset(
            name for first, again in pairs for name, array in first.items() if not _is_steady(array, again[name])
        )

    def measure(self, name: str) -> "Unit":
        """Returns how far an output of floats moves; at least one unit in the last place of the largest value.

        What counts is the coarser one of two dtypes: that in which numbers are kept, and the output's own.

        Args:
            name: Of the output.
        """
        self._moved = self._moved or list(self._draw(1.0))
        values = [answer[name] for answer in self.answers]
        largest = max((_find_largest(value) for value in values), default=0.0)
        half_unit = max(self.half_unit, *(HALF_UNITS.get(value.dtype.name, 0.0) for value in values))
        least = max(2 * half_unit * largest, float(np.finfo(np.float32).tiny))
        moved = [
            distances[np.isfinite(distances)]
            for answers in self._moved
            for distances in [find_distances(values, [answer[name] for answer in answers])]
        ]
        whole = max([float(each.max(initial=0.0)) for each in moved])
        usual = max([least, *(float(np.quantile(each, _USUAL)) for each in moved if each.size)])
        if whole < _JUMP * usual:
            return Unit(max(whole, least), 0, max(whole, least))
        jumps = max(int((each > _JUMP * usual).sum()) for each in moved)
        settled = max(float(each[each <= _JUMP * usual].max(initial=0.0)) for each in moved)
        return Unit(whole, jumps, max(settled, least))

    def find_unsettled(self, name: str, times: float) -> list[Array]:
        """Returns where an output that is no float changes when the model is moved by so many times its rounding.

        Args:
            name: Of the output.
            times: How many.

        Returns:
            For each batch an array of booleans of the output's shape.
        """
        unsettled = [np.zeros(answer[name].shape, bool) for answer in self.answers]
        for answers in self._draw(times):
            for found, before, after in zip(unsettled, self.answers, answers, strict=True):
                if before[name].shape == after[name].shape:
                    found |= before[name] != after[name]
        return unsettled

    def _draw(self, times: float) -> Iterator[list[dict[str, Array]]]:
        for draw in range(_DRAWS):
            generator = np.random.default_rng([self.seed, draw])
            share = self.half_unit * times
            batches = [{name: _move(array, share, generator) for name, array in each.items()} for each in self.batches]
            with _variables_moved(self.variables, share, generator):
                yield self._ask(batches)

    def _ask(self, batches: Sequence[Batch]) -> list[dict[str, Array]]:
        return [self.answer(batch) for batch in batches]


def ask(function: ConcreteFunction, batch: Batch) -> dict[str, Array]:
    """Asks a concrete function of tensors by keyword; texts are `bytes`."""
    specs = function.structured_input_signature[1]
    tensors = {name: tf.constant(array, dtype=specs[name].dtype) for name, array in batch.items()}
    return {name: np.asarray(convert_output(value)) for name, value in function(**tensors).items()}


def find_half_unit(model: Model, quantize: Quantize | None = None) -> float:
    """Returns half a unit in the last place, of the coarsest dtype that a model or its artifact has."""
    computed = {layer.compute_dtype for layer in model._flatten_layers()} & HALF_UNITS.keys()
    kept = "float16" if quantize is Quantize.FLOAT16 else "float32"
    return max(HALF_UNITS[name] for name in (*computed, kept))


@contextmanager
def _variables_moved(variables: Sequence[TFVariable], share: float, generator: np.random.Generator) -> Iterator[None]:
    """Moves the weights inside the block, and puts the same bits back."""
    kept = [(variable, variable.numpy()) for variable in variables if variable.dtype.name in HALF_UNITS]
    try:
        for variable, value in kept:
            variable.assign(_move(value, share, generator))
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def _move(array: Array, share: float, generator: np.random.Generator) -> Array:
    """Multiplies numbers by what lies at random within that share of 1."""
    if not is_floating(array):
        return array
    factors = 1 + share * generator.uniform(-1, 1, array.shape)
    return np.multiply(array, factors, dtype=np.float64).astype(array.dtype)


def find_distances(before: Sequence[Array], after: Sequence[Array]) -> Array:
    """Returns in a row how far numbers are apart: not at all or infinitely far, where they are not finite.

    Args:
        before: An array for each batch.
        after: Likewise; one of another shape, which may depend on numbers, is passed over.
    """
    pairs = [pair for pair in zip(before, after, strict=True) if pair[0].shape == pair[1].shape]
    first, second = (
        np.concatenate([np.zeros(0), *(np.asarray(pair[side], np.float64).ravel() for pair in pairs)])
        for side in (0, 1)
    )
    with np.errstate(invalid="ignore"):
        apart = np.where((first == second) | (np.isnan(first) & np.isnan(second)), 0.0, np.abs(first - second))
    return np.nan_to_num(apart, nan=np.inf, posinf=np.inf)


def is_floating(array: Array) -> bool:
    """Whether an array is of floats, also of those that NumPy does not know by itself."""
    return array.dtype.kind == "f" or array.dtype.name in HALF_UNITS


def _is_steady(first: Array, again: Array) -> bool:
    """Whether two answers are one; the order in which threads add up may change the last bits of floats."""
    if first.shape != again.shape:
        return False
    if not is_floating(first):
        return bool((first == again).all())
    before, after = (np.asarray(each, np.float64) for each in (first, again))
    unit = HALF_UNITS.get(first.dtype.name, HALF_UNITS["float32"])
    return np.allclose(before, after, rtol=0, atol=_STEADY * unit * _find_largest(first), equal_nan=True)


def _find_largest(values: Array) -> float:
    finite = np.abs(np.asarray(values, np.float64))
    finite = finite[np.isfinite(finite)]
    return float(finite.max()) if finite.size else 0.0
