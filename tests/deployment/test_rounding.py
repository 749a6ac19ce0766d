"""The unit in which a difference is told, for outputs that jump at a threshold."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from exporter.artifacts.records import Check
from exporter.verification.deployment.comparing import Moved, compare_answers
from exporter.verification.deployment.rounding import HALF_UNITS, Rounding, ask

NUMBERS = np.random.default_rng(0).normal(size=(40, 100)).astype("float32")

Function = Callable[[Any], Any]


def measure(function: Function, half_unit: str, numbers: np.ndarray = NUMBERS) -> Rounding:
    @tf.function(autograph=False)
    def serve(**tensors: Any) -> Mapping[str, Any]:
        return {"y": function(tensors["x"])}

    traced = serve.get_concrete_function(x=tf.TensorSpec(numbers.shape, tf.float32, name="x"))
    return Rounding(partial(ask, traced), [{"x": numbers}], HALF_UNITS[half_unit], 0, traced.variables)


def compare(rounding: Rounding, received: np.ndarray) -> tuple[Check, float | None]:
    return compare_answers("outputs", Moved(rounding, 8.0), [{"y": received}], "seeded")


@pytest.fixture(scope="module")
def at_a_threshold() -> Rounding:
    """An output of zeros and ones, of which some stand at the edge."""
    numbers = NUMBERS.copy()
    numbers[:20, 0] = 1.0
    return measure(lambda x: tf.cast(x > 1.0, tf.float32), "float16", numbers)


def test_what_stands_at_a_threshold_may_be_on_its_other_side(at_a_threshold: Rounding) -> None:
    received = at_a_threshold.answers[0]["y"].copy()
    received[:20, 0] = 1.0 - received[:20, 0]
    assert compare(at_a_threshold, received)[0].passed


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(np.zeros_like, id="all zeros"),
        pytest.param(lambda values: 1 - values, id="the opposite"),
        pytest.param(lambda values: np.roll(values, 1, axis=1), id="shifted"),
    ],
)
def test_a_few_jumps_let_nothing_else_pass(
    at_a_threshold: Rounding, break_it: Callable[[np.ndarray], np.ndarray]
) -> None:
    assert not compare(at_a_threshold, break_it(at_a_threshold.answers[0]["y"]))[0].passed


def test_a_step_of_half_precision_is_no_fault() -> None:
    rounding = measure(lambda x: tf.cast(x, tf.float16), "float32")
    received = np.nextafter(rounding.answers[0]["y"], np.float16(np.inf))
    check, ratio = compare(rounding, received)
    assert check.passed
    assert ratio is not None
    assert 0.4 < ratio <= 1


def test_bfloat16_is_a_number() -> None:
    rounding = measure(lambda x: tf.cast(x, tf.bfloat16), "float32")
    answer = rounding.answers[0]["y"]
    assert compare(rounding, answer)[1] == 0
    assert not compare(rounding, (answer * 1.5).astype(answer.dtype))[0].passed


def test_a_model_that_is_another_one_each_time_is_told() -> None:
    rounding = measure(lambda x: x + tf.random.normal(tf.shape(x)), "float32")
    check, ratio = compare(rounding, rounding.answers[0]["y"])
    assert (check.passed, ratio) == (False, None)
    assert check.detail.startswith("the model's own y is another one each time, so that there is nothing to compare")


def test_infinities_have_to_be_the_same() -> None:
    rounding = measure(lambda x: tf.where(x > 2, np.inf, tf.where(x < -2, np.nan, x)), "float32")
    answer = rounding.answers[0]["y"]
    assert compare(rounding, answer)[0].passed
    infinite = np.isinf(answer)
    for received, words in (
        (np.nan_to_num(answer), "has finite numbers where the model"),
        (np.where(infinite, -answer, answer), "other numbers that are not finite"),
        (np.where(infinite, np.nan, answer), "other numbers that are not finite"),
        (np.full_like(answer, np.nan), "that are not finite where the model"),
    ):
        check, _ = compare(rounding, received)
        assert not check.passed
        assert words in check.detail


def test_a_shape_that_depends_on_numbers_can_be_measured() -> None:
    rounding = measure(lambda x: tf.boolean_mask(x, x > 0.0), "bfloat16", NUMBERS * 1e-3)
    answer = rounding.answers[0]["y"]
    assert compare(rounding, answer)[1] == 0
    assert compare(rounding, answer[1:])[0].detail.startswith("y is ")


def test_a_large_figure_is_told_by_its_power_of_ten() -> None:
    rounding = measure(tf.identity, "float32")
    assert compare(rounding, rounding.answers[0]["y"] * 2)[0].figure.endswith("e+06 x rounding")
