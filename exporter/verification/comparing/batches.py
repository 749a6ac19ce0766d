"""Batches as arrays by name, as they travel to the worker."""

from collections.abc import Iterable, Mapping, Sequence

from exporter.processes.arrays import Array
from exporter.saving.graph.inputs import Inputs


def name_batches(inputs: Inputs, batches: Mapping[int, Sequence[Array]]) -> dict[str, Array]:
    """Names the arrays of some batches `<batch>/<leaf>`."""
    return {
        f"{number}/{leaf.name}": array
        for number, batch in batches.items()
        for leaf, array in zip(inputs.leaves, batch, strict=True)
    }


def read_batches(arrays: Mapping[str, Array], inputs: Inputs, numbers: Iterable[int]) -> list[list[Array]]:
    """Gives the batches that `name_batches` named, one array per leaf."""
    return [[arrays[f"{number}/{leaf.name}"] for leaf in inputs.leaves] for number in numbers]
