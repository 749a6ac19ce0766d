"""Several artifacts are asked the same, and one that ends the process silences no other."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.errors import ArtifactError
from exporter.processes.arrays import Array
from exporter.verification.answers import asking
from exporter.verification.answers.asking import ask_artifacts
from exporter.verification.answers.opening import Askable


@contextmanager
def open_fake(path: Path) -> Iterator[Askable]:
    """An artifact that adds its name's length, knows no endpoint `none`, and ends the process where it is `bomb`."""
    if path.name == "damaged":
        raise ArtifactError("it is damaged")

    def ask(endpoint: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": arrays["a/x"] + {"some": len(path.name)}[endpoint]}

    yield Askable(endpoints={}, ask=ask)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(work: str, arguments: Mapping[str, Any], what: str, seconds: float, memory: int) -> Any:
        if any(path.endswith("/bomb") for path in arguments["paths"]):
            raise ArtifactError(f"{what} was ended by SIGKILL")
        return asking.answer(**arguments)

    monkeypatch.setattr(asking, "run_confined", run)
    monkeypatch.setattr(asking, "open_askable", open_fake)


def test_each_answers_in_the_order_of_the_batches(tmp_path: Path) -> None:
    for name in ("ab", "abc", "damaged", "bomb"):
        (tmp_path / name).touch()
    batches = [{"a/x": np.full(2, number)} for number in range(12)]
    names = ["ab", "damaged", "abc", "bomb"]
    found = ask_artifacts([tmp_path / name for name in names], {"none": batches, "some": batches})
    answered = [[int(batch["y"][0]) for batch in each.batches.get("some", [])] for each in found]
    assert answered == [list(range(2, 14)), [], list(range(3, 15)), []]
    assert [each.faults for each in found] == [
        {"none": "'none'"},
        {"none": "it is damaged", "some": "it is damaged"},
        {"none": "'none'"},
        {"none": "Asking it was ended by SIGKILL", "some": "Asking it was ended by SIGKILL"},
    ]
