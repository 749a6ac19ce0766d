"""How long a sweep still takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sweeps.showing.remaining import estimate_remaining

SMALL, LARGE = {"model": "small"}, {"model": "large"}


@pytest.mark.parametrize(
    ("ended", "running", "waiting", "at_once", "seconds"),
    [
        pytest.param([], [(SMALL, 3.0)], [SMALL], 1, None, id="nothing-is-known"),
        pytest.param([(SMALL, 10.0)], [(SMALL, 4.0)], [], 1, 6.0, id="the-last-one-runs"),
        pytest.param([(SMALL, 10.0)], [(SMALL, 4.0)], [SMALL, SMALL], 1, 26.0, id="one-after-the-other"),
        pytest.param([(SMALL, 10.0)], [(SMALL, 4.0)], [SMALL, SMALL], 2, 16.0, id="two-at-a-time"),
        pytest.param([(SMALL, 1.0), (LARGE, 100.0)], [], [LARGE, SMALL], 1, 101.0, id="each-as-those-like-it"),
        pytest.param([(SMALL, 1.0)], [(LARGE, 50.0)], [], 1, 5.0, id="longer-than-all-before"),
        pytest.param([(SMALL, 1.0)], [], [], 3, 0.0, id="all-have-ended"),
    ],
)
def test_estimate(
    ended: list[tuple[dict[str, str], float]],
    running: list[tuple[dict[str, str], float]],
    waiting: list[dict[str, str]],
    at_once: int,
    seconds: float | None,
) -> None:
    assert estimate_remaining(ended, running, waiting, at_once) == seconds


@given(st.floats(0, 100), st.floats(0.1, 50), st.integers(0, 5), st.integers(1, 4))
def test_it_goes_down_while_a_job_runs_as_long_as_those_before(
    elapsed: float, step: float, waiting: int, at_once: int
) -> None:
    def estimate(seconds: float) -> float:
        remaining = estimate_remaining([(SMALL, 200.0)], [(SMALL, seconds)], [SMALL] * waiting, at_once)
        assert remaining is not None
        return remaining

    assert estimate(elapsed + step) <= estimate(elapsed)
