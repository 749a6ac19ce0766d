"""How long a sweep still takes: what its jobs took so far, laid out over as many as run at a time."""

import heapq
from collections.abc import Mapping, Sequence
from statistics import mean

# A job that runs longer than all like it is expected to run for this much of that longer.
_OVERDUE = 0.1

Parameters = Mapping[str, str]


def estimate_remaining(
    ended: Sequence[tuple[Parameters, float]],
    running: Sequence[tuple[Parameters, float]],
    waiting: Sequence[Parameters],
    at_once: int,
) -> float | None:
    """Estimates the seconds until the last job has ended.

    A job is expected to take what those took that have most values in common with it: a sweep of a small model and a
    large one is not ended when half of its jobs are.

    Args:
        ended: The parameters of each job that has ended, and its seconds.
        running: The parameters of each job that runs, and its seconds so far.
        waiting: The parameters of each job that has not begun, in their order.
        at_once: How many jobs run at a time, at least 1.

    Returns:
        The seconds; None while no job has ended.

    Example:
        >>> estimate_remaining([({"a": "1"}, 10.0)], [({"a": "2"}, 4.0)], [{"a": "3"}], at_once=1)
        16.0
    """
    if not ended:
        return None
    # When each place is free for the next job.
    free = [max(_expect(parameters, ended) - seconds, _OVERDUE * seconds) for parameters, seconds in running]
    free += [0.0] * (at_once - len(free))
    heapq.heapify(free)
    for parameters in waiting:
        heapq.heappush(free, heapq.heappop(free) + _expect(parameters, ended))
    return max(free)


def _expect(parameters: Parameters, ended: Sequence[tuple[Parameters, float]]) -> float:
    alike = [sum(other.get(key) == value for key, value in parameters.items()) for other, _ in ended]
    return mean(seconds for (_, seconds), count in zip(ended, alike, strict=True) if count == max(alike))
