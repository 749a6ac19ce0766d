"""Real data for endpoints: to calibrate an artifact with, and to judge it on."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from exporter.errors import Fault, UsageError
from exporter.models.building import name_function
from exporter.models.instantiating import instantiate
from exporter.models.predictions import match_arrays, read_file
from exporter.processes.arrays import Array
from exporter.saving.graph.inputs import Inputs
from exporter.sources import DataSplit
from exporter.verification.deployment.quality.scoring import TARGET

# Arrays of a file, or of a source, by name: `<input>` or `<endpoint>/<input>`, and the targets.
Arrays = Mapping[str, Array]

# Samples that are asked at once, where an endpoint takes any number.
_BATCH = 32


class Served(Protocol):
    """What an endpoint takes."""

    @property
    def inputs(self) -> Inputs:
        """Every leaf is one dense tensor."""

    @property
    def preprocess(self) -> object:
        """The steps before the method; None where the arrays reach it as they are."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of the inputs of endpoints.

    Attributes:
        origin: Where they are from, in a few words.
        inputs: An array per input, for each endpoint that there are any for.
        targets: `y` and `y/<output>`, of the same samples; empty where there are none.
        missing: Why there are none, by the other endpoints.
    """

    origin: str
    inputs: Mapping[str, Arrays]
    targets: Arrays
    missing: Mapping[str, str]


def read_samples(key: str, path: Path, endpoints: Mapping[str, Served]) -> Samples:
    """Takes the samples of a file.

    Args:
        key: Of the recipe, which names it.
        path: An `.npz` file.
        endpoints: What will be asked.

    Raises:
        UsageError: It cannot be read, or an array does not fit.
    """
    try:
        return match_samples(path.name, read_file(path), endpoints, is_own=False)
    except UsageError as error:
        raise UsageError([Fault(key, fault.message) for fault in error.faults]) from error


def draw_samples(key: str, target: Any, count: int, endpoints: Mapping[str, Served]) -> Samples:
    """Takes the samples that a function yields.

    Args:
        key: Of the recipe, which names it.
        target: The function, or the mapping with `_target_`; it gives batches, each a mapping of arrays by name.
        count: How many samples are taken.
        endpoints: What will be asked.

    Raises:
        UsageError: It yields something else, or nothing.
    """
    batches: dict[str, list[Array]] = {}
    taken = 0
    name = str(target["_target_"]) if isinstance(target, Mapping) else name_function(target)
    yielded = instantiate(target) if isinstance(target, Mapping) else target()
    for batch in yielded if isinstance(yielded, Iterable) else ():
        if not isinstance(batch, Mapping):
            message = f"{name} yields {type(batch).__name__}; expected mappings of arrays by input name"
            raise UsageError([Fault(key, message)])
        for given, array in batch.items():
            batches.setdefault(str(given), []).append(np.asarray(array))
        taken += max((len(np.asarray(array)) for array in batch.values()), default=0)
        if taken >= count:
            break
    if not batches:
        raise UsageError([Fault(key, f"{name} yields no batches; expected at least one")])
    arrays = {given: np.concatenate(parts)[:count] for given, parts in batches.items()}
    return match_samples(name, arrays, endpoints, is_own=False)


def take_split(split: DataSplit, endpoints: Mapping[str, Served]) -> Samples:
    """Takes the samples that belong to a source: of what the model takes, and not of what steps before it take."""
    return match_samples(split.origin, {**split.inputs, **split.targets}, endpoints, is_own=True)


def match_samples(origin: str, arrays: Arrays, endpoints: Mapping[str, Served], is_own: bool) -> Samples:
    """Gives each endpoint the arrays of its inputs.

    An array that is called `<endpoint>/<input>` is for that one. One that is called `<input>` is for every endpoint
    with such an input, unless they take it in different ranges: one as the model does, another through steps of its
    own.

    Args:
        origin: See `Samples`.
        arrays: By name.
        endpoints: What will be asked.
        is_own: Whether the arrays are in the ranges of the model's own inputs.

    Raises:
        UsageError: An array does not fit.
    """
    inputs, missing = {}, {}
    for name, endpoint in endpoints.items():
        found = {}
        for leaf in endpoint.inputs.leaves:
            named = f"{name}/{leaf.name}"
            if named in arrays:
                found[leaf.name] = arrays[named]
            elif leaf.name in arrays and _is_meant(leaf.name, endpoint, endpoints, is_own):
                found[leaf.name] = arrays[leaf.name]
            else:
                missing[name] = f"there is no array {named!r} in {origin}"
        if name not in missing:
            matched = match_arrays(Path(origin), found, endpoint.inputs.leaves, any_batch=True)
            inputs[name] = dict(zip([leaf.name for leaf in endpoint.inputs.leaves], matched, strict=True))
    targets = {name: array for name, array in arrays.items() if name.partition("/")[0] == TARGET}
    return Samples(origin, inputs, targets, missing)


def _is_meant(name: str, endpoint: Served, endpoints: Mapping[str, Served], is_own: bool) -> bool:
    """Tells whether a plain array is in the range of an endpoint's input."""
    if is_own:
        return endpoint.preprocess is None
    others = [each for each in endpoints.values() if any(leaf.name == name for leaf in each.inputs.leaves)]
    return all(each.preprocess is endpoint.preprocess or len(others) == 1 for each in others)


def limit(samples: Samples, count: int) -> Samples:
    """Takes some of the samples, evenly over all of them: data are often sorted by their class."""

    def choose(array: Array) -> Array:
        chosen = np.linspace(0, len(array) - 1, min(count, len(array))).round().astype(int)
        return np.asarray(array[chosen])

    inputs = {name: {key: choose(array) for key, array in arrays.items()} for name, arrays in samples.inputs.items()}
    targets = {name: choose(array) for name, array in samples.targets.items()}
    return Samples(samples.origin, inputs, targets, samples.missing)


def cut(arrays: Arrays, inputs: Inputs) -> Iterator[dict[str, Array]]:
    """Gives samples in batches that an endpoint takes; what fills no whole batch of a fixed size is left.

    Args:
        arrays: By the names of its inputs.
        inputs: What it takes.
    """
    fixed = next((leaf.shape[0] for leaf in inputs.leaves if leaf.shape and leaf.shape[0] is not None), None)
    size, count = fixed or _BATCH, min(map(len, arrays.values()))
    for start in range(0, count, size):
        if fixed is None or start + size <= count:
            yield {name: array[start : min(start + size, count)] for name, array in arrays.items()}


def join(answers: Sequence[Arrays]) -> dict[str, Array]:
    """Joins what was answered batch by batch."""
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def count_shared(first: Samples, second: Samples) -> int:
    """Counts the samples of the second that are in the first as well, for the same endpoint."""
    return sum(
        len(set(_hash_rows(first.inputs[name])).intersection(_hash_rows(second.inputs[name])))
        for name in first.inputs.keys() & second.inputs.keys()
    )


def _hash_rows(arrays: Arrays) -> Iterator[bytes]:
    names = sorted(arrays)
    for row in zip(*(arrays[name] for name in names), strict=True):
        digest = hashlib.sha256()
        for value in row:
            content = np.asarray(value)
            digest.update(repr(content.tolist()).encode() if content.dtype == object else content.tobytes())
        yield digest.digest()
