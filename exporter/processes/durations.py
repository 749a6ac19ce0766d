"""Durations of many calls of one thing, in a few figures."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from exporter.processes.memory import measure_peak, reset_peak

Loaded = TypeVar("Loaded")


def measure_calls(
    load: Callable[[], Loaded], prepare: Callable[[Loaded], Callable[[], object]], warm_up: int, runs: int
) -> dict[str, float]:
    """Measures how long it takes to load something and to call it, and by how much this process grows meanwhile.

    Args:
        load: Loads it.
        prepare: Returns what calls what was loaded.
        warm_up: Calls that are not counted.
        runs: Calls that are.

    Returns:
        The durations and the memory of `exporter.artifacts.records.Measurements`.
    """
    reset_peak()
    size = measure_peak()
    started = time.perf_counter()
    loaded = load()
    load_seconds = time.perf_counter() - started
    call = prepare(loaded)
    first_seconds = _time_call(call)
    for _ in range(warm_up):
        call()
    return {
        "load_seconds": load_seconds,
        "first_seconds": first_seconds,
        **_describe_durations([_time_call(call) for _ in range(runs)]),
        "memory_bytes": max(measure_peak() - size, 0),
    }


def _time_call(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _describe_durations(durations: Sequence[float]) -> dict[str, float]:
    """Returns the median and two high percentiles of durations, by the names that a receipt has for them.

    Args:
        durations: Seconds, at least one.
    """
    ordered = sorted(durations)
    shares = {"median_seconds": 0.5, "p90_seconds": 0.9, "p99_seconds": 0.99}
    return {name: _find_quantile(ordered, share) for name, share in shares.items()}


def _find_quantile(ordered: Sequence[float], share: float) -> float:
    """Returns the smallest duration that this share of all of them does not exceed (the nearest-rank method)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
