"""How converted files are judged: any metric, per output, and which samples belong to which endpoint."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from exporter.config import SignatureConfig
from exporter.errors import UsageError
from exporter.verification.deployment.quality.samples import (
    Samples,
    count_shared,
    draw_samples,
    limit,
    match_samples,
)
from exporter.verification.deployment.quality.scoring import (
    Labelled,
    UnscoredError,
    find_agreement,
    score_outputs,
)

from .conftest import Bench
from .models import make

Array = np.ndarray[Any, Any]

CLASSES = np.eye(3, dtype="float32")[[0, 1, 2, 1]]
LABELS = np.array([0, 1, 2, 2])


def judge(model: Array, artifact: Array, target: Array, metric: Any = None) -> tuple[str, float, float, float]:
    labelled = Labelled("serving_default", {"out": model}, {"out": artifact}, {"y": target})
    [score] = score_outputs(labelled, metric)
    assert score.samples == len(target)
    return score.metric, round(score.model, 6), round(score.artifact, 6), round(score.loss, 6)


@pytest.mark.parametrize(
    ("model", "artifact", "target", "expected"),
    [
        pytest.param(CLASSES, CLASSES, LABELS, (0.75, 0.75), id="scores of classes"),
        pytest.param(CLASSES, CLASSES[[1, 1, 2, 1]], LABELS, (0.75, 0.5), id="a worse one"),
        pytest.param(CLASSES, CLASSES[[0, 1, 2, 2]], LABELS, (0.75, 1.0), id="a better one"),
        pytest.param(CLASSES, CLASSES, LABELS[:, None], (0.75, 0.75), id="labels in a column"),
        pytest.param(CLASSES, CLASSES, np.eye(3)[LABELS], (0.75, 0.75), id="one-hot labels"),
        pytest.param(LABELS, LABELS[[0, 1, 2, 1]], LABELS, (1.0, 0.75), id="labels that are decided"),
        pytest.param(np.array([[0.2], [0.7]]), np.array([[0.6], [0.7]]), np.array([0, 1]), (1.0, 0.5), id="one score"),
        pytest.param(np.array([-2.0, 3.0]), np.array([-1.0, -4.0]), np.array([False, True]), (1.0, 0.5), id="logits"),
        pytest.param(
            np.array([b"a", b"b"], object), np.array([b"a", b"c"], object), np.array(["a", "b"]), (1.0, 0.5), id="texts"
        ),
        pytest.param(
            np.tile(CLASSES[None], (2, 1, 1)),
            np.tile(CLASSES[None], (2, 1, 1)),
            np.tile(LABELS[None], (2, 1)),
            (0.75, 0.75),
            id="a class for each pixel",
        ),
    ],
)
def test_accuracy_is_that_of_decisions(
    model: Array, artifact: Array, target: Array, expected: tuple[float, float]
) -> None:
    before, after = expected
    assert judge(model, artifact, target) == ("accuracy", before, after, before - after)


REGRESSED = np.array([[1.0], [2.0], [3.0]], "float32")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        pytest.param("mean_absolute_error", ("mean_absolute_error", 0.0, 0.5, 0.5), id="less is better"),
        pytest.param("R2Score", ("r2_score", 1.0, 0.625, 0.375), id="more is better"),
        pytest.param(
            {"_target_": "keras.metrics.MeanSquaredError", "name": "mine"},
            ("mine", 0.0, 0.25, 0.25),
            id="by its target",
        ),
        pytest.param({"out": "mae"}, ("mean_absolute_error", 0.0, 0.5, 0.5), id="by output"),
    ],
)
def test_any_metric_of_keras(metric: Any, expected: tuple[str, float, float, float]) -> None:
    assert judge(REGRESSED, REGRESSED + np.float32(0.5), REGRESSED, metric) == expected


def test_a_segmentation_by_its_overlap() -> None:
    target = np.array([[[0, 0], [1, 1]]])
    scores = np.eye(2, dtype="float32")[target]
    metric = {"_target_": "keras.metrics.MeanIoU", "num_classes": 2, "sparse_y_pred": False}
    name, before, after, loss = judge(scores, scores[:, :, ::-1], target, metric)
    assert (name, before) == ("mean_io_u", 1.0)
    assert after <= before
    assert loss == round(before - after, 6)


def test_each_output_has_its_own_target_and_metric() -> None:
    outputs = {"kind": CLASSES, "size": REGRESSED[[0, 1, 2, 0]]}
    targets = {"y/kind": LABELS, "y/size": outputs["size"] + np.float32(1.0)}
    scores = score_outputs(Labelled("e", outputs, outputs, targets), {"size": "mae"})
    assert [(score.output, score.metric, score.model) for score in scores] == [
        ("kind", "accuracy", 0.75),
        ("size", "mean_absolute_error", 1.0),
    ]


def test_what_decides_for_nothing_needs_a_metric() -> None:
    with pytest.raises(UnscoredError) as caught:
        judge(REGRESSED, REGRESSED, REGRESSED)
    assert str(caught.value) == (
        "output 'out': it decides for no class: the output is float32 [3, 1] and the target float32 [3, 1]. Set "
        "verify.metric, such as verify.metric=mean_absolute_error"
    )
    judge(REGRESSED, REGRESSED, REGRESSED, "mean_absolute_error")


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        pytest.param("mean_absolut_error", "received mean_absolut_error: ", id="unknown"),
        pytest.param({"_target_": "builtins.dict"}, "expected the name of a metric of Keras", id="no metric"),
    ],
)
def test_a_metric_that_is_none_is_a_fault(metric: Any, words: str) -> None:
    with pytest.raises(UsageError, match=r"^verify\.metric: ") as caught:
        judge(REGRESSED, REGRESSED, REGRESSED, metric)
    assert words in str(caught.value)


def test_agreement_is_of_decisions_whatever_is_right() -> None:
    labelled = Labelled("e", {"out": CLASSES}, {"out": CLASSES[[0, 1, 2, 0]]}, {"y": LABELS})
    assert find_agreement(labelled) == 0.75
    assert find_agreement(Labelled("e", {"out": REGRESSED}, {"out": REGRESSED}, {"y": REGRESSED})) is None


def test_samples_are_counted_that_are_in_both() -> None:
    rows = np.arange(12.0).reshape(6, 2)
    first = Samples("a", {"e": {"x": rows[:4]}}, {}, {})
    second = Samples("b", {"e": {"x": rows[2:]}, "other": {"x": rows}}, {}, {})
    assert count_shared(first, second) == 2


def test_some_samples_are_taken_evenly() -> None:
    samples = Samples("sorted by class", {"e": {"x": np.arange(10)}}, {"y": np.arange(10)}, {})
    few = limit(samples, 4)
    assert few.inputs["e"]["x"].tolist() == few.targets["y"].tolist() == [0, 3, 6, 9]


def yield_batches() -> Iterator[dict[str, Array]]:
    """Gives batches without end, as a data set does."""
    for number in range(1_000_000):
        yield {"image": np.full((2, 8, 8, 1), number, "float32")}


def test_a_function_yields_batches_until_there_are_enough(bench: Bench) -> None:
    endpoints = bench.build(make("convolutional"))
    target = {"_target_": f"{__name__}.yield_batches"}
    samples = draw_samples("calibration.data", target, 5, endpoints)
    assert samples.inputs["serving_default"]["image"][:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(UsageError, match=r"calibration\.data: builtins\.dict yields no batches"):
        draw_samples("calibration.data", {"_target_": "builtins.dict"}, 5, endpoints)


def test_an_array_is_for_the_endpoints_that_take_it_in_its_range(bench: Bench) -> None:
    half = {"_target_": "exporter.transforms.rescale", "scale": 0.5}
    model: keras.Model = make("convolutional")
    endpoints = bench.build(model, plain=SignatureConfig(), halved=SignatureConfig(preprocess=half))
    images = np.zeros((3, 8, 8, 1), "float32")
    own = match_samples("the source", {"image": images}, endpoints, is_own=True)
    assert list(own.inputs) == ["plain"]
    assert own.missing == {"halved": "there is no array 'halved/image' in the source"}
    unclear = match_samples("file.npz", {"image": images}, endpoints, is_own=False)
    assert not unclear.inputs
    clear = match_samples("file.npz", {"plain/image": images, "halved/image": images}, endpoints, is_own=False)
    assert list(clear.inputs) == ["plain", "halved"]
    with pytest.raises(UsageError, match=r"'image' of 'file\.npz' is float32 \(3, 8, 8, 2\)"):
        match_samples("file.npz", {"plain/image": np.zeros((3, 8, 8, 2), "float32")}, endpoints, is_own=False)
