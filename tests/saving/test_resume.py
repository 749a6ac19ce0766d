"""Every model comes back from every format in the exact same state, in a process that knows nothing of it."""

from pathlib import Path

import pytest

from .conftest import ReadReport
from .resume_worker import ARTIFACTS, compare, compare_arrays
from .zoo import CASES
from .zoo.optimizers import find_optimizers

HELD = [
    pytest.param(identity, save_format, id=f"{identity}-{save_format}")
    for identity, case in CASES.items()
    for save_format in ARTIFACTS
    if save_format not in case.refused
]
REFUSED = [
    pytest.param(identity, save_format, id=f"{identity}-{save_format}")
    for identity, case in CASES.items()
    for save_format in case.refused
]


@pytest.mark.parametrize(("identity", "save_format"), HELD)
def test_goes_on_bit_for_bit(identity: str, save_format: str, resumed: Path, read_report: ReadReport) -> None:
    never_interrupted = read_report(resumed, identity, "make").outcome
    report = read_report(resumed, identity, "resume", save_format)
    came_back = report.outcome

    assert report.warnings == []
    assert compare(never_interrupted.facts, came_back.facts) == []
    assert list(came_back.state) == list(never_interrupted.state)
    assert compare(never_interrupted.state, came_back.state) == []
    assert len(came_back.predictions) == len(never_interrupted.predictions)
    for index, (expected, received) in enumerate(
        zip(never_interrupted.predictions, came_back.predictions, strict=True)
    ):
        assert compare_arrays(f"prediction {index}", expected, received) == []
    assert compare(never_interrupted.logs, came_back.logs) == []
    assert compare(never_interrupted.continued, came_back.continued) == []


@pytest.mark.parametrize("identity", CASES)
def test_goes_on_at_all(identity: str, made: Path, read_report: ReadReport) -> None:
    outcome = read_report(made, identity, "make").outcome
    changed = compare(outcome.state, outcome.continued)
    assert (changed == []) == (CASES[identity].after == "none"), "training after the save must change the state"


@pytest.mark.parametrize("identity", CASES)
def test_a_save_changes_nothing(identity: str, made: Path, read_report: ReadReport) -> None:
    report = read_report(made, identity, "make")
    assert report.changes == []
    assert report.warnings == []


@pytest.mark.parametrize("identity", CASES)
def test_only_what_cannot_be_held_is_refused(identity: str, made: Path, read_report: ReadReport) -> None:
    report = read_report(made, identity, "make")
    refusals = report.refusals
    assert report.failures == {}
    assert {save_format: text for save_format, (text, _) in refusals.items()} == CASES[identity].refused


@pytest.mark.parametrize(("identity", "save_format"), REFUSED)
def test_a_refusal_writes_nothing(identity: str, save_format: str, made: Path, read_report: ReadReport) -> None:
    _, files = read_report(made, identity, "make").refusals[save_format]
    assert files == []


def test_every_optimizer_of_keras_has_cases() -> None:
    without = [name for name in find_optimizers() if not any(case.startswith(f"{name}_") for case in CASES)]
    assert without == []
