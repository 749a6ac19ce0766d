"""What the version before wrote: it loads, is proven, and is made again from the recipe inside it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exporter
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Phase
from exporter.cli.commands import run_command
from exporter.errors import ArtifactError
from exporter.sweeps.records.results import JobResult, SweepJob, is_intact, load_row
from exporter.sweeps.records.results_store import receive_jobs

FORMER = Path(__file__).parents[1] / "former"
ARTIFACTS = ["digits", "digits.h5", "digits.keras", "plain.keras", "served/1"]

pytestmark = pytest.mark.xdist_group("former")


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copies an artifact with its receipt to where nothing else is."""
    source = FORMER / request.param
    target = tmp_path / source.name
    shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
    shutil.copy(source.with_name(f"{source.name}.receipt.json"), tmp_path)
    return Path(target)


@pytest.mark.parametrize("copied", ["served/1", "digits.h5", "plain.keras"], indirect=True)
def test_it_passes_every_check(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["verify", str(copied)]) == 0
    assert "✓" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["digits", "digits.h5", "digits.keras"])
def test_it_predicts_what_the_others_do_and_trains_on(name: str) -> None:
    expected, model = (exporter.load_model(FORMER / each) for each in ("served/1", name))
    pixels = np.linspace(0, 1, 3 * 64, dtype="float32").reshape(3, 8, 8, 1)

    assert np.array_equal(model.predict(pixels, verbose=0), expected.predict(pixels, verbose=0))
    for each in (expected, model):
        each.fit(pixels, np.arange(3), batch_size=3, shuffle=False, verbose=0)
    assert all(
        np.array_equal(mine, others) for mine, others in zip(model.get_weights(), expected.get_weights(), strict=True)
    )


@pytest.mark.parametrize("name", ARTIFACTS)
def test_its_receipt_is_read(name: str) -> None:
    receipt = Receipt.from_json((FORMER / f"{name}.receipt.json").read_text(encoding="utf-8"))

    assert receipt.status == "proven"
    assert receipt.recipe["model"]["_target_"] == "exporter.sources.digits"
    assert receipt.seconds[Phase.WRITE] > 0


def write_sweep(directory: Path, outcome: str) -> tuple[dict[str, Any], Path]:
    """Writes what the version before left of a job whose artifact lies in the directory; returns its row as JSON."""
    job = directory / "3"
    job.mkdir()
    place = (str(Path("/tmp/former/artifacts/digits")), str(directory / "digits"))
    row = (FORMER / "rows" / f"{outcome}.json").read_text(encoding="utf-8").replace(*place)
    (job / "row.json").write_text(row, encoding="utf-8")
    if outcome == "proven":
        receipt = (FORMER / "digits.receipt.json").read_text(encoding="utf-8").replace(*place)
        (job / "receipt.json").write_text(receipt, encoding="utf-8")
    return json.loads(row), job


def check_row(row: JobResult | None, former: dict[str, Any]) -> None:
    """Checks that a row says what its version before said in words of its own."""
    assert row is not None
    names = former.keys() & {name for name in dir(JobResult) if not name.startswith("_")}
    told = json.loads(json.dumps({name: getattr(row, name) for name in names - {"checks", "measurements"}}))
    assert told == {name: former[name] for name in told} | {"schema_version": 2}
    assert [check.figure for check in row.checks] == [check["figure"] for check in former["checks"]]
    assert {"output_difference", "state_difference", "resumes", "save_seconds", "sha256"} <= told.keys()


@pytest.mark.parametrize("outcome", ["proven", "failed"])
def test_its_row_is_read_here_and_from_a_store(outcome: str, tmp_path: Path) -> None:
    former, job = write_sweep(tmp_path, outcome)
    check_row(load_row(job), former)

    here = tmp_path / "here"
    cell = SweepJob(
        number=3,
        overrides=tuple(former["overrides"]),
        recipe_hash=former["recipe_hash"],
        filepath=former["filepath"],
        format="tf",
        directory=str(here),
    )
    shutil.copytree(job, tmp_path / "store" / "jobs" / cell.recipe_hash)
    receive_jobs((tmp_path / "store").as_uri(), (cell,))
    check_row(load_row(here), former)
    assert json.loads((here / "row.json").read_text())["schema_version"] == 2


def test_its_job_is_not_run_again(tmp_path: Path) -> None:
    _, job = write_sweep(tmp_path, "proven")
    shutil.copytree(FORMER / "digits", tmp_path / "digits", symlinks=True)
    shutil.copy(job / "receipt.json", tmp_path / "digits.receipt.json")
    row = load_row(job)
    assert row is not None
    assert is_intact(row)


def test_its_row_is_nothing_without_its_receipt(tmp_path: Path) -> None:
    _, job = write_sweep(tmp_path, "proven")
    receipt = json.loads((job / "receipt.json").read_text(encoding="utf-8"))
    (job / "receipt.json").write_text(json.dumps({**receipt, "finished": "2026-11-30T09:00:00+00:00"}))
    with pytest.raises(ArtifactError) as caught:
        load_row(job)
    assert str(caught.value) == (
        f"The row is damaged: finished is {receipt['finished']!r}, and its receipt says '2026-11-30T09:00:00+00:00'. "
        "Run its job again."
    )
    (job / "receipt.json").unlink()
    with pytest.raises(ArtifactError) as caught:
        load_row(job)
    assert str(caught.value) == (
        "The row has schema_version 1, and the receipt that belongs to it is not beside it. Run its job again."
    )


@pytest.mark.parametrize("copied", ["digits"], indirect=True)
def test_it_is_made_again_from_the_recipe_inside_it(copied: Path, tmp_path: Path) -> None:
    again = tmp_path / f"again{copied.suffix}"

    assert run_command(["rerun", str(copied), f"filepath={again}"]) == 0
    pixels = np.linspace(0, 1, 3 * 64, dtype="float32").reshape(3, 8, 8, 1)
    former, made = (exporter.load_model(path).predict(pixels, verbose=0) for path in (copied, again))
    np.testing.assert_allclose(made, former, atol=1e-4)  # another processor rounds the training otherwise
